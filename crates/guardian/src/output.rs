// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! One of the streams that the program writes, on its way to the controller under credit.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use proton_stream_protocol::{Credit, FromGuardian, Malformed, Stream};
use rustix::event::PollFlags;

use crate::chatter::Chatter;
use crate::load::Load;
use crate::outbox::{Outbox, Relayed};
use crate::room::held;

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
    /// Nobody reads any more: the pipe is closed once no begun frame takes from it.
    deserted: bool,
    /// Poll said that there is something, and no read has found it dry since.
    ready: bool,
    /// Poll said that all writers have closed it.
    hung_up: bool,
    /// Bytes that were in the pipe when it was asked; counted down.
    owed: Option<usize>,
    load: Load,
    chatter: Chatter,
}

impl Output {
    pub(crate) fn new(stream: Stream, pipe: Option<OwnedFd>, credit: Credit) -> Self {
        Output {
            stream,
            load: Load::of(pipe.as_ref(), credit.available()),
            pipe,
            credit,
            discarded: false,
            deserted: false,
            ready: false,
            hung_up: false,
            owed: None,
            chatter: Chatter::new(),
        }
    }

    /// The program has been told something: what it says now may be the answer.
    pub(crate) fn may_answer(&mut self) {
        self.chatter.was_told();
    }

    /// When it is listened to again, if it is left alone now.
    pub(crate) fn rests_until(&self) -> Option<Instant> {
        self.chatter.rests_until()
    }

    pub(crate) fn wake(&mut self, now: Instant) {
        self.chatter.wake(now);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.pipe.is_none()
    }

    /// More may be sent; without effect once nothing will be.
    pub(crate) fn grant(&mut self, bytes: u32) -> Result<(), Malformed> {
        if self.has_ended() || self.discarded || self.deserted {
            return Ok(());
        }
        self.credit.grant(bytes)
    }

    /// What still comes is read and forgotten.
    pub(crate) fn discard(&mut self) {
        self.discarded = true;
    }

    /// Who reads has gone: whoever writes is to hear of it, by EPIPE or SIGPIPE.
    pub(crate) fn desert(&mut self, outbox: &mut Outbox<'_>) {
        if !self.discarded {
            self.deserted = true;
            self.leave(outbox);
        }
    }

    fn leave(&mut self, outbox: &mut Outbox<'_>) {
        if !outbox.is_splicing(self.stream) {
            self.end(outbox);
        }
    }

    /// Remembers what the pipe holds now, as what must still be delivered. What a begun frame is
    /// going to take from there counts as delivered.
    pub(crate) fn owe(&mut self, outbox: &Outbox<'_>) {
        self.owed = Some(self.held().saturating_sub(outbox.left_to_splice(self.stream)));
    }

    /// Whether what was owed is delivered.
    pub(crate) fn is_delivered(&self) -> bool {
        self.has_ended() || self.owed == Some(0)
    }

    /// Whether what was owed is delivered and more could be: there is credit, and the controller
    /// takes what it is sent.
    pub(crate) fn is_settled(&self, outbox: &Outbox<'_>) -> bool {
        let could_flow = if self.discarded || self.deserted {
            !outbox.is_splicing(self.stream)
        } else {
            outbox.is_clear() && self.credit.available() > 0
        };
        self.has_ended() || self.is_delivered() && could_flow
    }

    /// What to poll for, if anything.
    pub(crate) fn interest(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let pipe = self.pipe.as_ref()?;
        if self.ready || self.deserted || self.rests_until().is_some() {
            // What the begun frame takes is there, and who rests is left alone.
            None
        } else if self.discarded || self.credit.available() > 0 {
            Some((pipe.as_fd(), PollFlags::IN))
        } else if self.hung_up {
            // It holds bytes for which there is no credit, and poll would tell so for ever.
            None
        } else {
            // Poll always tells POLLHUP: the end of an empty stream needs no credit.
            Some((pipe.as_fd(), PollFlags::empty()))
        }
    }

    /// Poll found something.
    pub(crate) fn is_ready_now(&mut self, found: PollFlags) {
        self.ready = true;
        self.hung_up |= found.contains(PollFlags::HUP);
    }

    /// Whether a turn can do something without waiting for a poll.
    pub(crate) fn can_go_on(&self, outbox: &Outbox<'_>) -> bool {
        self.ready
            && !self.deserted
            && self.pipe.is_some()
            && if self.discarded {
                !outbox.is_splicing(self.stream)
            } else {
                // Without credit, too: the turn finds out whether the stream has ended.
                outbox.is_clear()
            }
    }

    /// Whether nothing more will be read from it.
    pub(crate) fn is_done(&self, outbox: &Outbox<'_>) -> bool {
        self.has_ended() || self.discarded && !outbox.is_splicing(self.stream)
    }

    /// Passes on what there is, as far as credit, the controller and the turn allow.
    pub(crate) fn turn(&mut self, outbox: &mut Outbox<'_>, now: Instant) {
        for _ in 0..FRAMES_A_TURN {
            let Some(pipe) = self.pipe.as_ref() else { return };
            // What a begun frame takes from the pipe needs no credit any more.
            outbox.splice_on(self.stream, pipe.as_fd());
            if self.deserted {
                return self.leave(outbox);
            }
            if !self.ready {
                return;
            }
            let relayed = if self.discarded {
                if outbox.is_splicing(self.stream) {
                    return;
                }
                outbox.discard(pipe.as_fd())
            } else if !outbox.is_clear() || self.credit.available() == 0 {
                self.see_the_end(outbox);
                return;
            } else {
                let held = self.held();
                self.grow_under_load(held, outbox, now);
                let Some(pipe) = self.pipe.as_ref() else { return };
                outbox.relay(self.stream, pipe.as_fd(), held, self.credit.available())
            };
            match relayed {
                Relayed::Bytes(length) => self.has_given(length),
                Relayed::Last(length) => {
                    // Another read would only say so: poll tells when there is more, or the end.
                    self.has_given(length);
                    self.is_dry(now);
                    self.chatter.was_heard(length, now);
                }
                Relayed::Dry => self.is_dry(now),
                Relayed::End => self.end(outbox),
            }
        }
    }

    fn has_given(&mut self, bytes: usize) {
        let spent = self.discarded || self.credit.spend(bytes);
        debug_assert!(spent, "more was read than the credit allows");
        self.owed = self.owed.map(|owed| owed.saturating_sub(bytes));
    }

    fn is_dry(&mut self, now: Instant) {
        self.ready = false;
        self.load.pause(now);
    }

    fn held(&self) -> usize {
        self.pipe.as_ref().map_or(0, |pipe| held(pipe.as_fd()))
    }

    fn grow_under_load(&mut self, held: usize, outbox: &mut Outbox<'_>, now: Instant) {
        let Some(pipe) = &self.pipe else { return };
        if let Some(window) = self.load.add(pipe.as_fd(), held, now) {
            outbox.grow(window);
        }
    }

    /// When [`give_back`](Self::give_back) has something to do.
    pub(crate) fn idle_until(&self) -> Option<Instant> {
        self.load.idle_until()
    }

    /// Gives a pipe's room back that has not been used for a while.
    pub(crate) fn give_back(&mut self, outbox: &mut Outbox<'_>, now: Instant) {
        let given = self.load.give_back(self.pipe.as_ref(), now);
        if given.is_some_and(|given| !given || !outbox.give_back()) {
            self.load.try_later(now);
        }
    }

    /// The end of a stream needs neither credit nor a controller that takes what it is sent.
    fn see_the_end(&mut self, outbox: &mut Outbox<'_>) {
        self.ready = self.credit.available() > 0;
        if self.hung_up && self.held() == 0 {
            self.end(outbox);
        }
    }

    /// Nothing more comes, or nothing more is waited for.
    pub(crate) fn end(&mut self, outbox: &mut Outbox<'_>) {
        if outbox.is_splicing(self.stream) {
            outbox.lose_the_rest();
        }
        if self.pipe.take().is_some() && !self.discarded {
            outbox.say(&FromGuardian::EndOfOutput(self.stream));
        }
    }
}
