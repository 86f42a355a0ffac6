// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! One poll over whatever the loop waits for.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::io::Errno;

/// What a descriptor in the poll is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    Signals,
    Controller,
    Outbox,
    Starting,
    Program,
    Stdin,
    Stdout,
    Stderr,
}

impl Token {
    pub(crate) const OUTPUTS: [Token; 2] = [Token::Stdout, Token::Stderr];

    const COUNT: usize = 8;
}

/// A time as poll wants it.
pub(crate) fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    }
}

/// How long it is until then, as poll wants it.
pub(crate) fn until(deadline: Instant) -> Timespec {
    timespec(deadline.saturating_duration_since(Instant::now()))
}

/// Whether the other end of a pipe or socket says nothing any more.
pub(crate) fn has_left(connection: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(connection, PollFlags::RDHUP)];
    poll(&mut fds, Some(&timespec(Duration::ZERO))).is_ok_and(|count| count > 0)
}

/// Descriptors to wait for. An array: nothing is allocated for a turn of the loop.
pub(crate) struct PollSet<'a> {
    fds: [PollFd<'a>; Token::COUNT],
    tokens: [Token; Token::COUNT],
    length: usize,
}

/// What the poll found, by token.
pub(crate) struct Found([PollFlags; Token::COUNT]);

impl<'a> PollSet<'a> {
    /// Signals are always waited for.
    pub(crate) fn new(signals: BorrowedFd<'a>) -> Self {
        PollSet {
            fds: std::array::from_fn(|_| PollFd::from_borrowed_fd(signals, PollFlags::IN)),
            tokens: [Token::Signals; Token::COUNT],
            length: 1,
        }
    }

    /// Each token at most once.
    pub(crate) fn add(&mut self, token: Token, fd: BorrowedFd<'a>, events: PollFlags) {
        self.fds[self.length] = PollFd::from_borrowed_fd(fd, events);
        self.tokens[self.length] = token;
        self.length += 1;
    }

    /// Waits, until `deadline` at most.
    pub(crate) fn poll(mut self, deadline: Option<Instant>) -> Result<Found, Errno> {
        let timeout = deadline.map(until);
        let fds = &mut self.fds[..self.length];
        match poll(fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        let mut found = Found([PollFlags::empty(); Token::COUNT]);
        for (fd, token) in fds.iter().zip(self.tokens) {
            found.0[token as usize] = fd.revents();
        }
        Ok(found)
    }
}

impl Found {
    pub(crate) fn any(&self, token: Token) -> bool {
        !self.0[token as usize].is_empty()
    }

    pub(crate) fn flags(&self, token: Token) -> PollFlags {
        self.0[token as usize]
    }
}
