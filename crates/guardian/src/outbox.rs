// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! What the guardian says: one frame at a time, begun ones completed before the next, never blocking.

use std::os::fd::BorrowedFd;

use proton_stream_protocol::{data_header, FromGuardian, Stream, HEADER_LENGTH};
use rustix::io::{read, write, Errno};

/// The most bytes in one data frame. Header and all stay below 64 KiB: a frame
/// that fills a default pipe to the last slot and spills a few bytes over costs
/// the reader a second wake-up.
const MOST: usize = 65_520 - HEADER_LENGTH;

/// Frames on their way to the controller.
pub(crate) struct Outbox<'t> {
    controller: BorrowedFd<'t>,
    /// The data frame that was begun, and how much of it is written.
    frame: Box<[u8; HEADER_LENGTH + MOST]>,
    frame_begin: usize,
    frame_end: usize,
    /// All other frames, in order. Bounded: each is sent once at most, but for
    /// STDIN_CREDIT, which is gathered in `stdin_credit` while this is not empty.
    control: Vec<u8>,
    control_begin: usize,
    stdin_credit: u32,
    gone: bool,
}

/// What came of an attempt to pass on output.
pub(crate) enum Relayed {
    /// That many bytes are on their way.
    Bytes(usize),
    /// There is nothing to read now.
    Dry,
    /// The stream's end was reached.
    End,
}

impl<'t> Outbox<'t> {
    pub(crate) fn new(controller: BorrowedFd<'t>) -> Self {
        Outbox {
            controller,
            frame: Box::new([0; HEADER_LENGTH + MOST]),
            frame_begin: 0,
            frame_end: 0,
            control: Vec::new(),
            control_begin: 0,
            stdin_credit: 0,
            gone: false,
        }
    }

    pub(crate) fn controller(&self) -> BorrowedFd<'_> {
        self.controller
    }

    /// Whether all that was said has been written.
    pub(crate) fn is_clear(&self) -> bool {
        self.frame_begin == self.frame_end && self.control.is_empty() && self.stdin_credit == 0
    }

    /// Whether the controller closed its end. What is said from then on is dropped.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Appends a frame other than data.
    pub(crate) fn say(&mut self, frame: &FromGuardian<'_>) {
        if !self.gone {
            self.say_stdin_credit();
            frame.encode(&mut self.control);
        }
    }

    /// Gives stdin credit back, in one frame with what is waiting to be given back.
    pub(crate) fn return_stdin_credit(&mut self, bytes: u32) {
        if !self.gone {
            self.stdin_credit += bytes;
        }
    }

    fn say_stdin_credit(&mut self) {
        if self.stdin_credit > 0 {
            let bytes = std::mem::take(&mut self.stdin_credit);
            FromGuardian::StdinCredit { bytes }.encode(&mut self.control);
        }
    }

    /// Writes what can be written now.
    pub(crate) fn flush(&mut self) {
        while self.frame_begin < self.frame_end {
            match self.write_some(false) {
                Some(written) => self.frame_begin += written,
                None => return,
            }
        }
        self.say_stdin_credit();
        while self.control_begin < self.control.len() {
            match self.write_some(true) {
                Some(written) => self.control_begin += written,
                None => return,
            }
        }
        self.control.clear();
        self.control_begin = 0;
    }

    fn write_some(&mut self, control: bool) -> Option<usize> {
        let bytes = if control {
            &self.control[self.control_begin..]
        } else {
            &self.frame[self.frame_begin..self.frame_end]
        };
        loop {
            match write(self.controller, bytes) {
                Ok(written) => return Some(written),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return None,
                // EPIPE, or whatever else a dead transport answers.
                Err(_) => {
                    self.drop_all();
                    return None;
                }
            }
        }
    }

    /// The controller is gone: nothing is said any more.
    pub(crate) fn drop_all(&mut self) {
        self.gone = true;
        (self.frame_begin, self.frame_end) = (0, 0);
        self.control = Vec::new();
        self.control_begin = 0;
        self.stdin_credit = 0;
    }

    /// Reads up to `most` bytes of a stream into a frame and writes what can be written of it.
    ///
    /// Only when [`is_clear`](Self::is_clear).
    pub(crate) fn relay(&mut self, stream: Stream, source: BorrowedFd<'_>, most: usize) -> Relayed {
        debug_assert!(self.is_clear());
        let most = most.min(MOST);
        let length = match read_some(source, &mut self.frame[HEADER_LENGTH..][..most]) {
            Ok(0) => return Relayed::End,
            Ok(length) => length,
            Err(Errno::AGAIN) => return Relayed::Dry,
            Err(_) => return Relayed::End,
        };
        self.frame[..HEADER_LENGTH].copy_from_slice(&data_header(stream, length));
        (self.frame_begin, self.frame_end) = (0, HEADER_LENGTH + length);
        self.flush();
        Relayed::Bytes(length)
    }

    /// Reads and forgets.
    pub(crate) fn discard(&mut self, source: BorrowedFd<'_>) -> Relayed {
        // The frame's room is in use while one is begun, so a small buffer of its own.
        let mut nowhere = [0; 4096];
        match read_some(source, &mut nowhere) {
            Ok(0) => Relayed::End,
            Ok(length) => Relayed::Bytes(length),
            Err(Errno::AGAIN) => Relayed::Dry,
            Err(_) => Relayed::End,
        }
    }
}

fn read_some(source: BorrowedFd<'_>, room: &mut [u8]) -> Result<usize, Errno> {
    loop {
        match read(source, &mut *room) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}
