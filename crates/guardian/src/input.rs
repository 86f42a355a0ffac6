// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! The program's stdin: a bounded queue between the controller's credit and a pipe that may be full.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use proton_stream_containment::pipe::move_bytes;
use proton_stream_protocol::{Credit, FromGuardian, Malformed, Returned};
use rustix::event::PollFlags;
use rustix::io::{write, writev, Errno};

use crate::load::Load;
use crate::outbox::Outbox;
use crate::room::{held, SPLICED};

/// How many bytes of stdin the controller may have outstanding.
pub(crate) const STDIN_CREDIT: u32 = 256 * 1024;

pub(crate) struct Input {
    pipe: Option<OwnedFd>,
    queue: VecDeque<u8>,
    load: Load,
    /// What came in this turn.
    came: usize,
    /// What the controller may still send.
    credit: Credit,
    returned: Returned,
    /// Written to the pipe since credit was last considered.
    written: u32,
    /// Accepted and written since the beginning.
    accepted: u64,
    flushed: u64,
    /// Where the controller waits for its credit: as much as had been accepted then.
    awaited: VecDeque<u64>,
    /// Nothing follows the queue.
    eof: bool,
    /// The program reads no more; what still comes is dropped.
    gone: bool,
    /// The controller knows it.
    told_gone: bool,
}

impl Input {
    /// Without a pipe the program's stdin is null.
    pub(crate) fn new(pipe: Option<OwnedFd>) -> Self {
        let credit = if pipe.is_some() { STDIN_CREDIT } else { 0 };
        Input {
            gone: pipe.is_none(),
            load: Load::of(pipe.as_ref(), STDIN_CREDIT as usize),
            pipe,
            queue: VecDeque::new(),
            came: 0,
            credit: Credit::new(credit),
            returned: Returned::new(STDIN_CREDIT),
            written: 0,
            accepted: 0,
            flushed: 0,
            awaited: VecDeque::new(),
            eof: false,
            told_gone: false,
        }
    }

    /// The credit that STARTED tells.
    pub(crate) fn initial_credit(&self) -> u32 {
        self.credit.available() as u32
    }

    /// Takes bytes for the program, straight into the pipe where it has room.
    pub(crate) fn accept(&mut self, mut bytes: &[u8]) -> Result<(), Malformed> {
        if self.eof {
            return Err(Malformed::Order("STDIN after EOF"));
        }
        if self.gone {
            return Ok(());
        }
        if !self.credit.spend(bytes.len()) {
            return Err(Malformed::Value {
                what: "STDIN",
                value: bytes.len() as u64,
                allowed: "no more than the credit",
            });
        }
        self.accepted += bytes.len() as u64;
        self.came += bytes.len();
        if self.queue.is_empty() {
            if let Some(pipe) = &self.pipe {
                match write(pipe, bytes) {
                    Ok(written) => {
                        self.wrote(written);
                        bytes = &bytes[written..];
                    }
                    Err(Errno::AGAIN | Errno::INTR) => {}
                    Err(_) => {
                        self.lose();
                        return Ok(());
                    }
                }
            }
        }
        self.queue.extend(bytes);
        Ok(())
    }

    /// Moves up to `most` bytes for the program from the controller into the pipe, and answers how
    /// many. What isn't moved is to be read and [accepted](Self::accept).
    pub(crate) fn take(&mut self, controller: BorrowedFd<'_>, most: usize) -> usize {
        let Some(pipe) = &self.pipe else { return 0 };
        if self.eof || !self.queue.is_empty() || self.credit.available() < most {
            return 0;
        }
        let most = most.min(held(controller));
        if most < SPLICED {
            return 0;
        }
        let Ok(moved) = move_bytes(controller, pipe.as_fd(), most) else { return 0 };
        let is_within = self.credit.spend(moved);
        debug_assert!(is_within, "more was moved than the credit allows");
        self.accepted += moved as u64;
        self.came += moved;
        self.wrote(moved);
        moved
    }

    fn wrote(&mut self, bytes: usize) {
        self.written += bytes as u32;
        self.flushed += bytes as u64;
    }

    /// The controller waits for the credit of what was accepted.
    pub(crate) fn sync(&mut self) {
        // One for each place, so that there are no more than bytes under credit.
        if self.awaited.back() != Some(&self.accepted) {
            self.awaited.push_back(self.accepted);
        }
    }

    /// Nothing follows what was accepted.
    pub(crate) fn finish(&mut self) {
        self.eof = true;
        self.close_when_done();
    }

    fn close_when_done(&mut self) {
        if self.eof && self.queue.is_empty() {
            if let Some(pipe) = self.pipe.take() {
                self.load.part(pipe.as_fd());
            }
        }
    }

    /// What to poll for, if anything. POLLERR, which always comes, tells that all readers are gone.
    pub(crate) fn interest(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let pipe = self.pipe.as_ref()?;
        let events = if self.queue.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
        Some((pipe.as_fd(), events))
    }

    /// Poll found something.
    pub(crate) fn turn(&mut self, found: PollFlags) {
        if found.contains(PollFlags::ERR) {
            self.lose();
            return;
        }
        while let (Some(pipe), false) = (&self.pipe, self.queue.is_empty()) {
            let (front, back) = self.queue.as_slices();
            match writev(pipe, &[IoSlice::new(front), IoSlice::new(back)]) {
                Ok(written) => {
                    self.queue.drain(..written);
                    self.wrote(written);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => {
                    self.lose();
                    return;
                }
            }
        }
        if self.queue.is_empty() {
            // An idle program's queue holds no memory.
            self.queue = VecDeque::new();
        }
        self.close_when_done();
    }

    /// When [`give_back`](Self::give_back) has something to do.
    pub(crate) fn idle_until(&self) -> Option<Instant> {
        self.load.idle_until()
    }

    /// Gives a pipe's room back that has not been used for a while. One that holds too much is let
    /// be until the program is told more: nothing says when it has read that.
    pub(crate) fn give_back(&mut self, now: Instant) {
        self.load.give_back(self.pipe.as_ref(), now);
    }

    /// The program reads no more. Without effect after an end of file that was carried out.
    pub(crate) fn lose(&mut self) {
        if self.pipe.take().is_some() {
            self.queue = VecDeque::new();
            self.awaited = VecDeque::new();
            self.gone = true;
        }
    }

    /// There was no program to read anything, and nothing is to be told of it.
    pub(crate) fn was_never_there(&mut self) {
        self.lose();
        self.told_gone = true;
    }

    /// Ends a turn. Tells the controller what changed: once, so that credit is returned in few frames.
    pub(crate) fn report(&mut self, outbox: &mut Outbox<'_>, now: Instant) {
        let came = std::mem::take(&mut self.came);
        if let (Some(pipe), true) = (&self.pipe, came > 0) {
            // Large pieces have small ends, which are no sign that there are no more of them.
            if came >= SPLICED {
                self.load.add(pipe.as_fd(), came, now);
            }
            self.load.pause(now);
        }
        let written = std::mem::take(&mut self.written);
        // Nobody waits for most of it, and each return wakes the controller.
        // After the end of stdin the last of it is told unasked.
        let mut awaited = self.pipe.is_none();
        while self.awaited.front().is_some_and(|place| *place <= self.flushed) {
            self.awaited.pop_front();
            awaited = true;
        }
        if let Some(bytes) = self.returned.add(written, awaited) {
            // The controller can't hold more than it had at first: what is returned was spent.
            let granted = self.credit.grant(bytes);
            debug_assert!(granted.is_ok(), "stdin credit grew beyond its beginning");
            outbox.return_stdin_credit(bytes);
        }
        if self.gone && !self.told_gone {
            self.told_gone = true;
            outbox.say(&FromGuardian::StdinGone);
        }
    }
}
