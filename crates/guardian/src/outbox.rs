// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! What the guardian says: one frame at a time, begun ones completed before the next, never blocking.

use std::io::ErrorKind;
use std::os::fd::BorrowedFd;

use memmap2::MmapMut;
use proton_stream_containment::pipe::move_bytes;
use proton_stream_protocol::{data_header, FromGuardian, Stream, HEADER_LENGTH, MAX_DATA};
use rustix::io::{ioctl_fionread, read, write, Errno};

use crate::room::{self, Room, FRAME, SPLICED};

/// The most bytes that are copied into a frame.
const COPIED: usize = FRAME - HEADER_LENGTH;

/// ERROR's code for bytes that were announced and are gone (PROTOCOL §8).
const SHORT_FRAME: u8 = 3;

/// Frames on their way to the controller.
pub(crate) struct Outbox<'t> {
    controller: BorrowedFd<'t>,
    room: Room,
    /// The data frame that was begun, or its header, and how much of that is written.
    frame: &'t mut MmapMut,
    frame_begin: usize,
    frame_end: usize,
    /// What follows it and is not in memory.
    payload: Payload,
    /// All other frames, in order. Bounded: each is sent once at most, but for
    /// STDIN_CREDIT, which is gathered in `stdin_credit` while this is not empty,
    /// and answers, of which there is one at a time.
    control: Vec<u8>,
    control_begin: usize,
    stdin_credit: u32,
    /// Where in `control` the answer to a request ends.
    answer_end: usize,
    state: State,
}

/// The rest of a frame that is not in memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Payload {
    None,
    /// Still in the stream's pipe.
    Spliced(Stream, usize),
    /// Gone from there. Zeros take its place, so that the frame ends and ERROR can follow.
    Lost(usize),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Bytes that had been announced are gone; said once.
    Short,
    /// The controller closed its end. What is said from then on is dropped.
    Gone,
}

/// What came of an attempt to pass on output.
pub(crate) enum Relayed {
    /// That many bytes are on their way, and there may be more.
    Bytes(usize),
    /// That many, and the pipe is empty: it gave less than was asked for.
    Last(usize),
    /// There is nothing to read now.
    Dry,
    /// The stream's end was reached.
    End,
}

impl<'t> Outbox<'t> {
    pub(crate) fn new(controller: BorrowedFd<'t>, frame: &'t mut MmapMut) -> Self {
        Outbox {
            controller,
            room: Room::of(controller),
            frame,
            frame_begin: 0,
            frame_end: 0,
            payload: Payload::None,
            control: Vec::new(),
            control_begin: 0,
            stdin_credit: 0,
            answer_end: 0,
            state: State::Open,
        }
    }

    /// Gives back the memory of the last frames.
    pub(crate) fn forget(&mut self) {
        if !self.is_clear() {
            return;
        }
        self.control = Vec::new();
        room::forget(self.frame);
    }

    pub(crate) fn controller(&self) -> BorrowedFd<'_> {
        self.controller
    }

    /// Whether all that was said has been written.
    pub(crate) fn is_clear(&self) -> bool {
        self.no_frame_is_begun() && self.control.is_empty() && self.stdin_credit == 0
    }

    fn no_frame_is_begun(&self) -> bool {
        self.frame_begin == self.frame_end && self.payload == Payload::None
    }

    /// Whether the controller closed its end.
    pub(crate) fn is_gone(&self) -> bool {
        self.state == State::Gone
    }

    /// Whether a stream lost bytes that had been announced. ERROR was said then.
    pub(crate) fn is_short(&self) -> bool {
        self.state == State::Short
    }

    /// Appends a frame other than data.
    pub(crate) fn say(&mut self, frame: &FromGuardian<'_>) {
        if self.state == State::Open {
            self.say_stdin_credit();
            frame.encode(&mut self.control);
        }
    }

    /// Appends the answer to a request, of which there is one at a time.
    pub(crate) fn answer(&mut self, frame: &FromGuardian<'_>) {
        self.say(frame);
        self.answer_end = self.control.len();
    }

    /// Whether the controller can't have read the last answer yet.
    pub(crate) fn owes_an_answer(&self) -> bool {
        self.control_begin < self.answer_end
    }

    /// Gives stdin credit back, in one frame with what is waiting to be given back.
    pub(crate) fn return_stdin_credit(&mut self, bytes: u32) {
        if self.state == State::Open {
            self.stdin_credit += bytes;
        }
    }

    fn say_stdin_credit(&mut self) {
        if self.stdin_credit > 0 {
            let bytes = std::mem::take(&mut self.stdin_credit);
            FromGuardian::StdinCredit { bytes }.encode(&mut self.control);
        }
    }

    /// Writes what can be written now, but for a spliced payload: see [`splice_on`](Self::splice_on).
    pub(crate) fn flush(&mut self) {
        while self.frame_begin < self.frame_end {
            match self.write_some(Source::Frame) {
                Some(written) => self.frame_begin += written,
                None => return,
            }
        }
        while let Payload::Lost(left) = self.payload {
            match self.write_some(Source::Zeros(left)) {
                Some(written) if written < left => self.payload = Payload::Lost(left - written),
                Some(_) => self.payload = Payload::None,
                None => return,
            }
        }
        if self.payload != Payload::None {
            return;
        }
        self.say_stdin_credit();
        while self.control_begin < self.control.len() {
            match self.write_some(Source::Control) {
                Some(written) => self.control_begin += written,
                None => return,
            }
        }
        self.control.clear();
        (self.control_begin, self.answer_end) = (0, 0);
    }

    fn write_some(&mut self, source: Source) -> Option<usize> {
        static ZEROS: [u8; 4096] = [0; 4096];
        let bytes = match source {
            Source::Frame => &self.frame[self.frame_begin..self.frame_end],
            Source::Zeros(left) => &ZEROS[..left.min(ZEROS.len())],
            Source::Control => &self.control[self.control_begin..],
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
        self.state = State::Gone;
        (self.frame_begin, self.frame_end) = (0, 0);
        self.payload = Payload::None;
        self.control = Vec::new();
        (self.control_begin, self.answer_end) = (0, 0);
        self.stdin_credit = 0;
    }

    /// Begins a frame with up to `most` bytes of a stream and writes what can be written of it.
    ///
    /// Only when [`is_clear`](Self::is_clear). `held` is how much the stream's pipe holds.
    pub(crate) fn relay(
        &mut self,
        stream: Stream,
        source: BorrowedFd<'_>,
        held: usize,
        most: usize,
    ) -> Relayed {
        debug_assert!(self.is_clear());
        let length = held.min(most).min(MAX_DATA);
        if length >= SPLICED {
            self.frame[..HEADER_LENGTH].copy_from_slice(&data_header(stream, length));
            (self.frame_begin, self.frame_end) = (0, HEADER_LENGTH);
            self.payload = Payload::Spliced(stream, length);
            self.flush();
            self.splice_on(stream, source);
            return Relayed::Bytes(length);
        }
        let most = most.min(COPIED);
        let length = match read_some(source, &mut self.frame[HEADER_LENGTH..][..most]) {
            Ok(0) => return Relayed::End,
            Ok(length) => length,
            Err(Errno::AGAIN) => return Relayed::Dry,
            Err(_) => return Relayed::End,
        };
        self.frame[..HEADER_LENGTH].copy_from_slice(&data_header(stream, length));
        (self.frame_begin, self.frame_end) = (0, HEADER_LENGTH + length);
        self.flush();
        if length < most {
            Relayed::Last(length)
        } else {
            Relayed::Bytes(length)
        }
    }

    /// Goes on with a frame whose payload is in the pipe of `stream`, if there is one.
    pub(crate) fn splice_on(&mut self, stream: Stream, source: BorrowedFd<'_>) {
        if !self.is_splicing(stream) || self.frame_begin < self.frame_end {
            return;
        }
        while let Payload::Spliced(of, left) = self.payload {
            match move_bytes(source, self.controller, left) {
                Ok(0) => self.is_now_short(left),
                Ok(moved) if moved < left => self.payload = Payload::Spliced(of, left - moved),
                Ok(_) => self.payload = Payload::None,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // One of the two: the controller's end is full, or bytes that were counted are
                // gone. A program may read its own stdout.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    match ioctl_fionread(source) {
                        Ok(0) => self.is_now_short(left),
                        _ => return,
                    }
                }
                Err(_) => {
                    self.drop_all();
                    return;
                }
            }
        }
        self.flush();
    }

    /// Whether a frame waits for bytes from the pipe of `stream`.
    pub(crate) fn is_splicing(&self, stream: Stream) -> bool {
        self.left_to_splice(stream) > 0
    }

    /// How many.
    pub(crate) fn left_to_splice(&self, stream: Stream) -> usize {
        match self.payload {
            Payload::Spliced(of, left) if of == stream => left,
            _ => 0,
        }
    }

    /// The pipe of a frame that is not complete is given up.
    pub(crate) fn lose_the_rest(&mut self) {
        if let Payload::Spliced(_, left) = self.payload {
            self.is_now_short(left);
        }
    }

    fn is_now_short(&mut self, left: usize) {
        let message = b"an output stream was read by somebody else";
        self.say(&FromGuardian::Error { code: SHORT_FRAME, message });
        self.state = State::Short;
        self.payload = Payload::Lost(left);
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

    /// More room towards the controller, for a stream that fills its own.
    pub(crate) fn grow(&mut self, window: usize) {
        self.room.grow(self.controller, window);
    }

    /// Gives it back; `false` while it is in use.
    pub(crate) fn give_back(&mut self) -> bool {
        self.room.give_back(self.controller)
    }
}

#[derive(Clone, Copy)]
enum Source {
    Frame,
    Zeros(usize),
    Control,
}

fn read_some(source: BorrowedFd<'_>, room: &mut [u8]) -> Result<usize, Errno> {
    loop {
        match read(source, &mut *room) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}
