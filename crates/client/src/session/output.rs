// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! One of the program's two streams on its way to a reader: a queue that the credit bounds.

use std::collections::VecDeque;
use std::task::Waker;

use bytes::{Buf, Bytes, BytesMut};
use proton_stream_protocol::Returned;

/// A smaller piece is copied together with its neighbours: it would hold on to the whole buffer
/// that it was read into, and a program that writes byte by byte would cost a hundredfold.
const SMALL: usize = 16 * 1024;

/// How a stream has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Everything was delivered.
    Whole,
    /// The guardian died, or the program was let go: what is missing is unknown.
    Cut,
}

pub(crate) struct Output {
    queue: VecDeque<Bytes>,
    tail: BytesMut,
    held: usize,
    returned: Returned,
    /// Read, and to be granted anew.
    owed: u32,
    /// Nobody reads: what comes is thrown away.
    is_discarded: bool,
    pub(crate) end: Option<End>,
    pub(crate) reader: Option<Waker>,
    /// All that has come.
    pub(crate) total: u64,
}

impl Output {
    pub(crate) fn new(window: u32) -> Self {
        Self {
            queue: VecDeque::new(),
            tail: BytesMut::new(),
            held: 0,
            returned: Returned::new(window),
            owed: 0,
            is_discarded: false,
            end: None,
            reader: None,
            total: 0,
        }
    }

    /// Bytes that wait to be read.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    pub(crate) fn put(&mut self, piece: BytesMut) {
        self.total += piece.len() as u64;
        if self.is_discarded {
            self.consumed(piece.len());
            return;
        }
        self.held += piece.len();
        if piece.len() < SMALL {
            self.tail.extend_from_slice(&piece);
        } else {
            self.cut_tail();
            self.queue.push_back(piece.freeze());
        }
        self.wake();
    }

    fn cut_tail(&mut self) {
        if !self.tail.is_empty() {
            let tail = std::mem::take(&mut self.tail);
            self.queue.push_back(tail.freeze());
        }
    }

    /// The next chunk.
    pub(crate) fn take(&mut self) -> Option<Bytes> {
        if self.queue.is_empty() {
            self.cut_tail();
        }
        let chunk = self.queue.pop_front()?;
        self.held -= chunk.len();
        self.consumed(chunk.len());
        Some(chunk)
    }

    /// Fills a reader's buffer as far as there is something.
    pub(crate) fn read(&mut self, buffer: &mut tokio::io::ReadBuf<'_>) {
        while buffer.remaining() > 0 {
            if self.queue.is_empty() {
                self.cut_tail();
            }
            let Some(front) = self.queue.front_mut() else { return };
            let length = front.len().min(buffer.remaining());
            buffer.put_slice(&front[..length]);
            if length == front.len() {
                self.queue.pop_front();
            } else {
                front.advance(length);
            }
            self.held -= length;
            self.consumed(length);
        }
    }

    fn consumed(&mut self, bytes: usize) {
        // A chunk is never larger than the window, which is a u32.
        if let Some(due) = self.returned.add(bytes as u32, false) {
            self.owed += due;
        }
    }

    /// The credit that is due to the guardian.
    pub(crate) fn due(&mut self) -> Option<u32> {
        (self.owed > 0).then(|| std::mem::take(&mut self.owed))
    }

    /// Nobody reads any more: what waits and what comes is thrown away, and the program goes on.
    pub(crate) fn discard(&mut self) {
        self.is_discarded = true;
        self.queue.clear();
        self.tail = BytesMut::new();
        let held = std::mem::take(&mut self.held);
        self.consumed(held);
    }

    /// The first end counts.
    pub(crate) fn finish(&mut self, end: End) {
        self.end.get_or_insert(end);
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_come_together_and_great_ones_as_they_are() {
        let mut output = Output::new(1 << 20);
        for _ in 0..3 {
            output.put(BytesMut::from(&b"ab"[..]));
        }
        output.put(BytesMut::zeroed(SMALL));
        output.put(BytesMut::from(&b"c"[..]));
        assert_eq!(output.held(), 6 + SMALL + 1);
        assert_eq!(output.take().unwrap(), "ababab");
        assert_eq!(output.take().unwrap().len(), SMALL);
        assert_eq!(output.take().unwrap(), "c");
        assert_eq!(output.take(), None);
        assert_eq!(output.held(), 0);
    }

    #[test]
    fn credit_is_due_for_what_was_read_and_for_what_nobody_reads() {
        let mut output = Output::new(100);
        output.put(BytesMut::zeroed(60));
        assert_eq!(output.due(), None);
        output.take();
        assert_eq!(output.due(), Some(60));
        output.put(BytesMut::zeroed(50));
        output.discard();
        assert_eq!(output.due(), Some(50));
        output.put(BytesMut::zeroed(50));
        assert_eq!((output.due(), output.held()), (Some(50), 0));
    }
}
