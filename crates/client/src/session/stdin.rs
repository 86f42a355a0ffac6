// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! What is on its way to the program's stdin. Bytes wait here until the guardian gives credit for
//! them; credit that comes back says that as many bytes are in the program's pipe.

use std::collections::VecDeque;
use std::task::Waker;

use bytes::{Buf, Bytes};
use proton_stream_protocol::ToGuardian;

use crate::Error;

/// A pipe's usual size: behind larger frames a signal or a close would have to wait.
const GREATEST: usize = 64 * 1024;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mouth {
    Open,
    /// Closed after what is queued.
    Closing,
    /// EOF was said.
    Closed,
    /// The program reads no more.
    Gone,
}

pub(crate) struct Stdin {
    mouth: Mouth,
    credit: usize,
    limit: usize,
    queue: VecDeque<Bytes>,
    queued: usize,
    accepted: u64,
    written: u64,
    /// Up to where somebody waits, and the guardian was not asked yet.
    asked: VecDeque<u64>,
    /// Of who polls for room or for what was written.
    pub(crate) writer: Option<Waker>,
}

impl Stdin {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            mouth: Mouth::Open,
            credit: 0,
            limit,
            queue: VecDeque::new(),
            queued: 0,
            accepted: 0,
            written: 0,
            asked: VecDeque::new(),
            writer: None,
        }
    }

    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    /// How many bytes are in the program's pipe, or were read.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Everything that was accepted so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Whether there is room for more, or no use in waiting for it.
    pub(crate) fn has_room(&self, most: usize) -> bool {
        self.queued < most || self.mouth != Mouth::Open
    }

    /// Takes bytes over, or says why they can go nowhere.
    pub(crate) fn push(&mut self, bytes: Bytes) -> Result<(), Error> {
        match self.mouth {
            Mouth::Open => {}
            Mouth::Gone => return Err(Error::BrokenPipe),
            Mouth::Closing | Mouth::Closed => return Err(Error::AfterEof),
        }
        let queued = self.queued + bytes.len();
        // What can leave at once does not wait.
        if queued.saturating_sub(self.credit) > self.limit {
            return Err(Error::StdinFull { queued, limit: self.limit });
        }
        self.accepted += bytes.len() as u64;
        self.queued = queued;
        if !bytes.is_empty() {
            self.queue.push_back(bytes);
        }
        Ok(())
    }

    /// Whether all up to `offset` is in the program's pipe.
    pub(crate) fn is_written(&self, offset: u64) -> Result<bool, Error> {
        if self.written >= offset {
            return Ok(true);
        }
        if self.mouth == Mouth::Gone {
            return Err(Error::BrokenPipe);
        }
        Ok(false)
    }

    /// Somebody waits for all up to `offset`.
    pub(crate) fn ask(&mut self, offset: u64) {
        if self.written < offset && self.asked.back().is_none_or(|last| *last < offset) {
            self.asked.push_back(offset);
        }
    }

    /// Nothing follows what was accepted.
    pub(crate) fn finish(&mut self) {
        if self.mouth == Mouth::Open {
            self.mouth = Mouth::Closing;
        }
    }

    /// Appends the next frame that may be sent now, and says whether there was one.
    pub(crate) fn say(&mut self, out: &mut Vec<u8>) -> bool {
        let sent = self.accepted - self.queued as u64;
        // The guardian returns little credit unasked.
        let mut is_asked = false;
        while self.asked.front().is_some_and(|offset| *offset <= sent) {
            self.asked.pop_front();
            is_asked = true;
        }
        if is_asked {
            ToGuardian::Sync.encode(out);
            return true;
        }
        if let Some(front) = self.queue.front_mut().filter(|_| self.credit > 0) {
            let length = front.len().min(self.credit).min(GREATEST);
            ToGuardian::Stdin(&front[..length]).encode(out);
            front.advance(length);
            if front.is_empty() {
                self.queue.pop_front();
            }
            self.queued -= length;
            self.credit -= length;
            return true;
        }
        if self.queued == 0 && self.mouth == Mouth::Closing {
            self.mouth = Mouth::Closed;
            ToGuardian::Eof.encode(out);
            return true;
        }
        false
    }

    /// Credit that the guardian has given at the start.
    pub(crate) fn begin(&mut self, credit: u32) {
        self.credit = credit as usize;
    }

    /// Credit that came back.
    pub(crate) fn grant(&mut self, bytes: u32) {
        self.credit += bytes as usize;
        self.written += u64::from(bytes);
        self.wake();
    }

    /// Nothing more can be written.
    pub(crate) fn lose(&mut self) {
        self.mouth = Mouth::Gone;
        self.queue.clear();
        self.queued = 0;
        self.asked.clear();
        self.wake();
    }

    pub(crate) fn wake(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proton_stream_protocol::HEADER_LENGTH;

    fn said(stdin: &mut Stdin) -> Vec<(u8, usize)> {
        let mut frames = Vec::new();
        let mut out = Vec::new();
        while stdin.say(&mut out) {
            frames.push((out[4], out.len() - HEADER_LENGTH));
            out.clear();
        }
        frames
    }

    #[test]
    fn bytes_wait_for_credit_and_the_end_of_file_for_the_bytes() {
        let mut stdin = Stdin::new(1000);
        stdin.push(Bytes::from_static(b"hello")).unwrap();
        stdin.finish();
        assert_eq!(said(&mut stdin), []);
        stdin.begin(3);
        assert_eq!(said(&mut stdin), [(2, 3)]);
        stdin.grant(3);
        assert_eq!(said(&mut stdin), [(2, 2), (4, 0)]);
        assert!(matches!(stdin.push(Bytes::from_static(b"x")), Err(Error::AfterEof)));
    }

    #[test]
    fn who_waits_has_the_guardian_asked_once_the_bytes_are_sent() {
        let mut stdin = Stdin::new(1000);
        stdin.begin(4);
        stdin.push(Bytes::from_static(b"hello")).unwrap();
        stdin.ask(5);
        assert_eq!(said(&mut stdin), [(2, 4)]);
        stdin.grant(4);
        assert_eq!(said(&mut stdin), [(2, 1), (7, 0)]);
        assert!(!stdin.is_written(5).unwrap());
        stdin.grant(1);
        assert!(stdin.is_written(5).unwrap());
    }

    #[test]
    fn more_than_may_wait_is_refused_and_not_taken() {
        let mut stdin = Stdin::new(4);
        stdin.begin(2);
        stdin.push(Bytes::from_static(b"abcdef")).unwrap();
        let refused = stdin.push(Bytes::from_static(b"g"));
        assert!(matches!(refused, Err(Error::StdinFull { queued: 7, limit: 4 })), "{refused:?}");
        assert_eq!(stdin.accepted(), 6);
    }

    #[test]
    fn a_program_that_reads_no_more_breaks_the_pipe() {
        let mut stdin = Stdin::new(10);
        stdin.push(Bytes::from_static(b"ab")).unwrap();
        stdin.lose();
        assert!(matches!(stdin.is_written(2), Err(Error::BrokenPipe)));
        assert!(matches!(stdin.push(Bytes::new()), Err(Error::BrokenPipe)));
    }
}
