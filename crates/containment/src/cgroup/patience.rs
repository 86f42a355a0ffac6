// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Waiting before the fork, for no longer than agreed and than somebody waits for the outcome.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::io::Errno;

/// How long is waited, and for whom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience<'a> {
    deadline: Instant,
    give_up: Option<BorrowedFd<'a>>,
}

/// The controller has hung up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HungUp;

impl<'a> Patience<'a> {
    pub(super) fn new(time: Duration, give_up: Option<BorrowedFd<'a>>) -> Self {
        Self { deadline: Instant::now() + time, give_up }
    }

    /// The same, but for no longer than this.
    pub(super) fn at_most(self, time: Duration) -> Self {
        Self { deadline: self.deadline.min(Instant::now() + time), ..self }
    }

    /// Waits a little; `false` when the time is over.
    pub(super) fn pause(&self, time: Duration) -> Result<bool, HungUp> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let time = time.min(left);
        let Some(give_up) = self.give_up else {
            std::thread::sleep(time);
            return Ok(true);
        };
        let time = Timespec { tv_sec: 0, tv_nsec: time.subsec_nanos().into() };
        // Its input stays unread: it is the session's, not ours.
        let mut polled = [PollFd::from_borrowed_fd(give_up, PollFlags::RDHUP)];
        match poll(&mut polled, Some(&time)) {
            Ok(0) | Err(Errno::INTR) => Ok(true),
            _ => Err(HungUp),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn the_time_is_kept() {
        let patience = Patience::new(Duration::from_millis(20), None);
        let mut pauses = 0;
        while patience.pause(Duration::from_millis(5)) == Ok(true) {
            pauses += 1;
        }
        assert!((1..=5).contains(&pauses), "{pauses}");
        assert_eq!(Patience::new(Duration::ZERO, None).pause(Duration::from_secs(1)), Ok(false));
    }

    #[test]
    fn a_controller_that_leaves_ends_the_wait() {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let patience = Patience::new(Duration::from_secs(60), Some(reader.as_fd()));
        assert_eq!(patience.pause(Duration::from_millis(1)), Ok(true));
        drop(writer);
        assert_eq!(patience.pause(Duration::from_millis(900)), Err(HungUp));
    }
}
