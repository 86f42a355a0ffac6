// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Where guardians wait for a controller, and who gets in.
//!
//! Only the controller's own process is heard, and only with the secret that the nursery was told
//! over its pipe. Several guardians wait at the same listener, and a connection wakes one of them.

use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use proton_stream_containment::Signals;
use proton_stream_protocol::{Preamble, PREAMBLE_LENGTH, SECRET_LENGTH};
use rustix::event::epoll;
use rustix::event::{poll, PollFd, PollFlags};
use rustix::io::{read, Errno};
use rustix::net::sockopt::socket_peercred;
use rustix::net::{accept_with, SocketFlags};
use rustix::process::geteuid;

use crate::ending::ends_a_guardian;
use crate::polling::{has_left, timespec};

/// How long a connection may take to say its secret.
const PATIENCE: Duration = Duration::from_secs(1);

const LISTENER: u64 = 0;
const SIGNALS: u64 = 1;

pub(crate) struct Door {
    /// Until the nursery is gone: who connected then would wait for a guardian that comes back, or
    /// none.
    listener: RefCell<Option<OwnedFd>>,
    poll: OwnedFd,
    controller: u32,
    secret: [u8; SECRET_LENGTH],
}

/// Who was at the door.
pub(crate) enum Knock {
    /// The controller's process.
    Controller(OwnedFd),
    /// Somebody whose connection was closed.
    Stranger,
    /// A signal: this guardian is to end.
    Dismissal,
    Nobody,
}

impl Door {
    pub(crate) fn new(
        listener: OwnedFd,
        signals: BorrowedFd<'_>,
        controller: u32,
        secret: [u8; SECRET_LENGTH],
    ) -> Result<Self, Errno> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let flags = epoll::EventFlags::IN;
        epoll::add(&poll, signals, epoll::EventData::new_u64(SIGNALS), flags)?;
        Ok(Self { listener: RefCell::new(Some(listener)), poll, controller, secret })
    }

    /// Waits for somebody.
    pub(crate) fn wait(&self, patience: Option<Duration>, signals: &mut Signals) -> Knock {
        {
            let listener = self.listener.borrow();
            let Some(listener) = listener.as_ref() else { return Knock::Dismissal };
            // One connection wakes one guardian.
            let flags = epoll::EventFlags::IN | epoll::EventFlags::EXCLUSIVE;
            let data = epoll::EventData::new_u64(LISTENER);
            if epoll::add(&self.poll, listener, data, flags).is_err() {
                return Knock::Dismissal;
            }
        }
        let knock = self.attend(patience, signals);
        if let Some(listener) = self.listener.borrow().as_ref() {
            // Each connection asks all that are in the list, also who is busy: a thousand take 40 µs.
            let _ = epoll::delete(&self.poll, listener);
        }
        knock
    }

    fn attend(&self, patience: Option<Duration>, signals: &mut Signals) -> Knock {
        let time = patience.map(timespec);
        loop {
            let mut events = Vec::with_capacity(2);
            match epoll::wait(
                &self.poll,
                rustix::buffer::spare_capacity(&mut events),
                time.as_ref(),
            ) {
                Ok(0) => return Knock::Nobody,
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(_) => return Knock::Dismissal,
            }
            if events.iter().any(|event| event.data.u64() == SIGNALS) && is_dismissal(signals) {
                return Knock::Dismissal;
            }
            match self.look() {
                // Another guardian was quicker.
                Knock::Nobody => {}
                knock => return knock,
            }
        }
    }

    /// Nobody is let in any more.
    pub(crate) fn shut(&self) {
        drop(self.listener.borrow_mut().take());
    }

    /// Who is there now.
    pub(crate) fn look(&self) -> Knock {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let listener = self.listener.borrow();
        let Some(listener) = listener.as_ref() else { return Knock::Dismissal };
        loop {
            match accept_with(listener, flags) {
                Ok(connection) if self.is_controllers(&connection) => {
                    return Knock::Controller(connection)
                }
                Ok(_) => return Knock::Stranger,
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(_) => return Knock::Nobody,
            }
        }
    }

    /// The run that a connection is for, which is 0 where that is still to be said; nothing where
    /// it is no controller's.
    pub(crate) fn listen_to(&self, connection: &OwnedFd) -> Option<u64> {
        let preamble = said(connection)?;
        let is_controllers = is_same(&preamble.secret, &self.secret);
        (is_controllers && !has_left(connection.as_fd())).then_some(preamble.run)
    }

    fn is_controllers(&self, connection: &OwnedFd) -> bool {
        socket_peercred(connection).is_ok_and(|peer| {
            peer.uid == geteuid()
                && peer.pid.as_raw_nonzero().get().unsigned_abs() == self.controller
        })
    }
}

/// Whether a signal is among those that have come which ends a guardian that has no run.
fn is_dismissal(signals: &mut Signals) -> bool {
    let mut is_dismissal = false;
    while let Some(received) = signals.next() {
        is_dismissal |= ends_a_guardian(received.signal);
    }
    is_dismissal
}

/// What a connection begins with, which comes at once from who has connected for it.
fn said(connection: &OwnedFd) -> Option<Preamble> {
    let give_up = Instant::now() + PATIENCE;
    let mut bytes = [0; PREAMBLE_LENGTH];
    let mut length = 0;
    while length < PREAMBLE_LENGTH {
        match read(connection, &mut bytes[length..]) {
            Ok(0) => return None,
            Ok(more) => length += more,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let left = give_up.checked_duration_since(Instant::now())?;
                let mut fds = [PollFd::new(connection, PollFlags::IN)];
                match poll(&mut fds, Some(&timespec(left))) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(_) => return None,
                }
            }
            Err(_) => return None,
        }
    }
    Some(Preamble::decode(bytes))
}

/// In a time that doesn't tell how much of it was right.
fn is_same(one: &[u8; SECRET_LENGTH], other: &[u8; SECRET_LENGTH]) -> bool {
    one.iter().zip(other).fold(0, |difference, (one, other)| difference | (one ^ other)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_the_same_or_not() {
        let secret = [7; SECRET_LENGTH];
        assert!(is_same(&secret, &secret));
        let mut other = secret;
        other[31] ^= 1;
        assert!(!is_same(&secret, &other));
    }
}
