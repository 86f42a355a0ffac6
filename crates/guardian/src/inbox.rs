// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! What the controller says: bytes into frames, none of which need to arrive whole.

use proton_stream_protocol::{Header, Malformed, HEADER_LENGTH};

use crate::room::SPLICED;

/// Something that the controller said.
pub(crate) enum Event<'inbox, 'bytes> {
    /// Bytes for the program's stdin, a piece of a frame or all of it.
    Stdin(&'bytes [u8]),
    /// The type and body of any other frame.
    Frame(u8, &'inbox [u8]),
}

/// A parser that keeps its place between two reads.
#[derive(Default)]
pub(crate) struct Inbox {
    head: [u8; HEADER_LENGTH],
    head_filled: usize,
    body: Vec<u8>,
    /// The frame whose body is being read.
    header: Option<Header>,
    /// How much of a STDIN body is still to come.
    stdin_left: usize,
    /// The last frame was a large STDIN, and the next one may be.
    is_bulk: bool,
}

impl Inbox {
    /// Gives back the memory of the last frame.
    pub(crate) fn forget(&mut self) {
        if self.header.is_none() {
            self.body = Vec::new();
        }
    }

    /// How much comes next that needn't be read: see [`has_moved`](Self::has_moved).
    pub(crate) fn to_move(&self) -> Option<usize> {
        (self.stdin_left >= SPLICED).then_some(self.stdin_left)
    }

    /// So many bytes of stdin have gone past this.
    pub(crate) fn has_moved(&mut self, bytes: usize) {
        self.stdin_left -= bytes;
    }

    /// How much to read at most: after a large STDIN not into the body of the next one.
    pub(crate) fn appetite(&self) -> usize {
        if self.is_bulk {
            self.stdin_left + HEADER_LENGTH - self.head_filled
        } else {
            usize::MAX
        }
    }

    /// Takes the next event off the front of `bytes`; `None` when they are used up.
    pub(crate) fn next<'bytes>(
        &mut self,
        bytes: &mut &'bytes [u8],
    ) -> Result<Option<Event<'_, 'bytes>>, Malformed> {
        loop {
            if self.stdin_left > 0 {
                if bytes.is_empty() {
                    return Ok(None);
                }
                let piece = take(bytes, self.stdin_left);
                self.stdin_left -= piece.len();
                return Ok(Some(Event::Stdin(piece)));
            }
            let Some(header) = self.header else {
                let piece = take(bytes, HEADER_LENGTH - self.head_filled);
                self.head[self.head_filled..][..piece.len()].copy_from_slice(piece);
                self.head_filled += piece.len();
                if self.head_filled < HEADER_LENGTH {
                    return Ok(None);
                }
                self.head_filled = 0;
                let header = Header::to_guardian(self.head)?;
                self.is_bulk = header.is_stdin() && header.body_length >= SPLICED;
                if header.is_stdin() {
                    self.stdin_left = header.body_length;
                } else {
                    // A new vector, so that OPEN's megabytes are not kept.
                    self.body = Vec::new();
                    self.header = Some(header);
                }
                continue;
            };
            let piece = take(bytes, header.body_length - self.body.len());
            self.body.extend_from_slice(piece);
            if self.body.len() < header.body_length {
                return Ok(None);
            }
            self.header = None;
            return Ok(Some(Event::Frame(header.kind, &self.body)));
        }
    }
}

fn take<'a>(bytes: &mut &'a [u8], most: usize) -> &'a [u8] {
    let (piece, rest) = bytes.split_at(most.min(bytes.len()));
    *bytes = rest;
    piece
}

#[cfg(test)]
mod tests {
    use super::*;
    use proton_stream_protocol::{Stream, ToGuardian};

    fn wire() -> Vec<u8> {
        let mut wire = Vec::new();
        ToGuardian::Stdin(b"hello").encode(&mut wire);
        ToGuardian::Stdin(b"").encode(&mut wire);
        ToGuardian::Credit { stream: Stream::Stderr, bytes: 7 }.encode(&mut wire);
        ToGuardian::Eof.encode(&mut wire);
        wire
    }

    fn told(inbox: &mut Inbox, mut bytes: &[u8], stdin: &mut Vec<u8>, frames: &mut Vec<u8>) {
        while let Some(event) = inbox.next(&mut bytes).unwrap() {
            match event {
                Event::Stdin(piece) => stdin.extend_from_slice(piece),
                Event::Frame(kind, _) => frames.push(kind),
            }
        }
    }

    #[test]
    fn frames_cut_at_any_byte_say_the_same() {
        let wire = wire();
        for cut in 0..wire.len() {
            let (mut inbox, mut stdin, mut frames) = (Inbox::default(), vec![], vec![]);
            told(&mut inbox, &wire[..cut], &mut stdin, &mut frames);
            told(&mut inbox, &wire[cut..], &mut stdin, &mut frames);
            assert_eq!((&stdin[..], &frames[..]), (&b"hello"[..], &[0x03, 0x04][..]), "{cut}");
        }
    }

    #[test]
    fn frames_that_come_a_byte_at_a_time_say_the_same() {
        let (mut inbox, mut stdin, mut frames) = (Inbox::default(), vec![], vec![]);
        for byte in wire() {
            told(&mut inbox, &[byte], &mut stdin, &mut frames);
        }
        assert_eq!((&stdin[..], &frames[..]), (&b"hello"[..], &[0x03, 0x04][..]));
    }

    #[test]
    fn what_is_large_can_go_past_it_and_what_follows_is_understood() {
        let mut wire = Vec::new();
        for size in [SPLICED - 1, SPLICED, SPLICED + 7] {
            ToGuardian::Stdin(&vec![b'x'; size]).encode(&mut wire);
        }
        ToGuardian::Eof.encode(&mut wire);
        let (mut inbox, mut rest, mut moved) = (Inbox::default(), &wire[..], Vec::new());
        let (mut stdin, mut frames) = (vec![], vec![]);
        while !rest.is_empty() {
            if let Some(most) = inbox.to_move() {
                // All but three bytes, which are read with the next header.
                inbox.has_moved(most - 3);
                rest = &rest[most - 3..];
                moved.push(most);
                assert_eq!(inbox.appetite(), 3 + HEADER_LENGTH);
            }
            let most = inbox.appetite();
            assert_eq!(most < usize::MAX, !moved.is_empty() && frames.is_empty());
            told(&mut inbox, &rest[..1], &mut stdin, &mut frames);
            rest = &rest[1..];
        }
        assert_eq!(moved, [SPLICED, SPLICED + 7]);
        assert_eq!((stdin.len(), &frames[..]), (SPLICED - 1 + 3 + 3, &[0x04][..]));
    }

    #[test]
    fn a_header_is_refused_before_its_body_arrives() {
        let mut inbox = Inbox::default();
        assert!(inbox.next(&mut &b"\xff\xff\xff\xff\x02"[..]).is_err());
    }
}
