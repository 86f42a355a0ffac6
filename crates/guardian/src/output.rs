// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! One of the streams that the program writes, on its way to the controller under credit.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use proton_stream_protocol::{Credit, FromGuardian, Malformed, Stream};
use rustix::event::PollFlags;
use rustix::io::ioctl_fionread;

use crate::outbox::{Outbox, Relayed};

/// How many frames of one stream are passed on before the other streams, the
/// controller and the timers are looked at again.
const FRAMES_A_TURN: usize = 8;

pub(crate) struct Output {
    stream: Stream,
    pipe: Option<OwnedFd>,
    credit: Credit,
    /// Nobody wants the bytes any more; the program may still write them, since
    /// a closed pipe would kill it in the middle of its own orderly end.
    discarded: bool,
    /// Poll said that there is something, and no read has found it dry since.
    ready: bool,
    /// All writers have closed it; it holds bytes for which there is no credit.
    hung_up: bool,
    /// Bytes that were in the pipe when it was asked; counted down.
    owed: Option<usize>,
}

impl Output {
    pub(crate) fn new(stream: Stream, pipe: Option<OwnedFd>, credit: Credit) -> Self {
        Output { stream, pipe, credit, discarded: false, ready: false, hung_up: false, owed: None }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.pipe.is_none()
    }

    pub(crate) fn is_discarded(&self) -> bool {
        self.discarded
    }

    /// More may be sent; without effect once nothing will be.
    pub(crate) fn grant(&mut self, bytes: u32) -> Result<(), Malformed> {
        if self.has_ended() || self.discarded {
            return Ok(());
        }
        self.credit.grant(bytes)?;
        if self.hung_up {
            // Poll has nothing new to tell: what is in the pipe was told.
            (self.hung_up, self.ready) = (false, true);
        }
        Ok(())
    }

    /// What still comes is read and forgotten.
    pub(crate) fn discard(&mut self) {
        self.discarded = true;
        self.hung_up = false;
    }

    /// Remembers what the pipe holds now, as what must still be delivered.
    pub(crate) fn owe(&mut self) {
        let held = self.pipe.as_ref().and_then(|pipe| ioctl_fionread(pipe).ok());
        self.owed = Some(held.map_or(0, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX)));
    }

    /// Whether what was owed is delivered and more could be.
    pub(crate) fn is_settled(&self) -> bool {
        self.has_ended() || self.owed == Some(0) && (self.discarded || self.credit.available() > 0)
    }

    /// What to poll for, if anything.
    pub(crate) fn interest(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let pipe = self.pipe.as_ref()?;
        if self.ready || self.hung_up {
            None
        } else if self.discarded || self.credit.available() > 0 {
            Some((pipe.as_fd(), PollFlags::IN))
        } else {
            // Poll always tells POLLHUP: the end of an empty stream needs no credit.
            Some((pipe.as_fd(), PollFlags::empty()))
        }
    }

    /// Poll found something.
    pub(crate) fn is_ready_now(&mut self) {
        self.ready = true;
    }

    /// Whether a turn can do something without waiting for a poll.
    pub(crate) fn can_go_on(&self, outbox_is_clear: bool) -> bool {
        self.ready && (self.discarded || outbox_is_clear && self.credit.available() > 0)
    }

    /// Passes on what there is, as far as credit, the controller and the turn allow.
    pub(crate) fn turn(&mut self, outbox: &mut Outbox<'_>) {
        for _ in 0..FRAMES_A_TURN {
            let Some(pipe) = self.pipe.as_ref() else { return };
            if !self.ready {
                return;
            }
            let relayed = if self.discarded {
                outbox.discard(pipe.as_fd())
            } else if self.credit.available() == 0 {
                self.see_the_end_without_credit(outbox);
                return;
            } else if outbox.is_clear() {
                outbox.relay(self.stream, pipe.as_fd(), self.credit.available())
            } else {
                return;
            };
            match relayed {
                Relayed::Bytes(length) => {
                    let spent = self.discarded || self.credit.spend(length);
                    debug_assert!(spent, "more was read than the credit allows");
                    self.owed = self.owed.map(|owed| owed.saturating_sub(length));
                }
                Relayed::Dry => self.ready = false,
                Relayed::End => self.end(outbox),
            }
        }
    }

    fn see_the_end_without_credit(&mut self, outbox: &mut Outbox<'_>) {
        self.ready = false;
        let held = self.pipe.as_ref().map(ioctl_fionread);
        if matches!(held, Some(Ok(0))) {
            self.end(outbox);
        } else {
            self.hung_up = true;
        }
    }

    /// Nothing more comes, or nothing more is waited for.
    pub(crate) fn end(&mut self, outbox: &mut Outbox<'_>) {
        if self.pipe.take().is_some() && !self.discarded {
            outbox.say(&FromGuardian::EndOfOutput(self.stream));
        }
    }
}
