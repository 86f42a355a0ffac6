// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! What the guardian says: bytes into frames, and output as it arrives.

use bytes::{Buf, Bytes, BytesMut};
use proton_stream_protocol::{Header, Malformed, Stream, HEADER_LENGTH};

/// One read takes at least, and at most, so much.
const LEAST: usize = 16 * 1024;
const MOST: usize = 256 * 1024;

/// Something that the guardian said.
pub(crate) enum Event {
    /// A piece of a stream, which need not be a whole frame.
    Output(Stream, BytesMut),
    /// The type and body of any other frame.
    Frame(u8, Bytes),
}

/// A parser that keeps its place between two reads, and the buffer that they go to.
pub(crate) struct Inbox {
    buffer: BytesMut,
    /// How much the next read takes.
    wanted: usize,
    /// How much of which stream is still to come.
    output: Option<(Stream, usize)>,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self { buffer: BytesMut::new(), wanted: LEAST, output: None }
    }

    /// Where the next read goes.
    pub(crate) fn room(&mut self) -> &mut BytesMut {
        self.buffer.reserve(self.wanted);
        &mut self.buffer
    }

    /// A read gave so much.
    pub(crate) fn has_read(&mut self, length: usize) {
        if length >= self.wanted {
            self.wanted = (self.wanted * 4).min(MOST);
        } else if length < self.wanted / 8 {
            self.wanted = (self.wanted / 2).max(LEAST);
        }
    }

    /// Nothing comes: an idle program holds no memory.
    pub(crate) fn rest(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    pub(crate) fn next(&mut self) -> Result<Option<Event>, Malformed> {
        loop {
            if let Some((stream, left)) = self.output {
                if self.buffer.is_empty() {
                    return Ok(None);
                }
                let piece = self.buffer.split_to(left.min(self.buffer.len()));
                self.output = (piece.len() < left).then_some((stream, left - piece.len()));
                return Ok(Some(Event::Output(stream, piece)));
            }
            let Some(head) = self.buffer.first_chunk::<HEADER_LENGTH>() else { return Ok(None) };
            let header = Header::from_guardian(*head)?;
            if let Some(stream) = header.output() {
                self.buffer.advance(HEADER_LENGTH);
                self.output = Some((stream, header.body_length));
                continue;
            }
            let length = HEADER_LENGTH + header.body_length;
            if self.buffer.len() < length {
                return Ok(None);
            }
            let mut frame = self.buffer.split_to(length);
            frame.advance(HEADER_LENGTH);
            return Ok(Some(Event::Frame(header.kind, frame.freeze())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proton_stream_protocol::FromGuardian;

    #[test]
    fn frames_cut_at_any_byte_say_the_same() {
        let mut wire = Vec::new();
        FromGuardian::Output { stream: Stream::Stderr, bytes: b"hello" }.encode(&mut wire);
        FromGuardian::StdinCredit { bytes: 7 }.encode(&mut wire);
        FromGuardian::EndOfOutput(Stream::Stdout).encode(&mut wire);
        for cut in 0..=wire.len() {
            let (mut inbox, mut output, mut frames) = (Inbox::new(), Vec::new(), Vec::new());
            for part in [&wire[..cut], &wire[cut..]] {
                inbox.room().extend_from_slice(part);
                while let Some(event) = inbox.next().unwrap() {
                    match event {
                        Event::Output(stream, piece) => {
                            assert_eq!(stream, Stream::Stderr);
                            output.extend_from_slice(&piece);
                        }
                        Event::Frame(kind, body) => frames.push((kind, body.len())),
                    }
                }
            }
            assert_eq!((&output[..], &frames[..]), (&b"hello"[..], &[(0x86, 4), (0x88, 1)][..]));
        }
    }

    #[test]
    fn what_is_not_a_frame_is_refused_at_its_header() {
        let mut inbox = Inbox::new();
        inbox.room().extend_from_slice(b"\xff\xff\xff\xff\x84");
        assert!(inbox.next().is_err());
    }
}
