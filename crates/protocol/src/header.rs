// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

use crate::{kind, Malformed, Stream, MAX_DATA, MAX_OPEN, MAX_TEXT};

/// The bytes before each body: four of length, one of type (§1).
pub const HEADER_LENGTH: usize = 5;

/// A run's number: all of KILL's body, and what AGAIN has before OPEN's (§10).
const RUN_LENGTH: usize = 8;

/// A frame's type and the length of its body, both already judged (§1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The frame's type.
    pub kind: u8,
    /// How many bytes follow the header.
    pub body_length: usize,
}

enum Allowed {
    Exactly(usize),
    Between(usize, usize),
}

impl Header {
    /// Reads the header of a frame that goes to a guardian.
    ///
    /// # Errors
    /// [`Malformed::Kind`] and [`Malformed::Length`].
    pub fn to_guardian(bytes: [u8; HEADER_LENGTH]) -> Result<Self, Malformed> {
        Self::judge(bytes, |kind| {
            Some(match kind {
                kind::OPEN => Allowed::Between(0, MAX_OPEN),
                kind::AGAIN => Allowed::Between(RUN_LENGTH, RUN_LENGTH + MAX_OPEN),
                kind::STDIN => Allowed::Between(0, MAX_DATA),
                kind::CREDIT => Allowed::Exactly(5),
                kind::SIGNAL => Allowed::Exactly(2),
                kind::LIMITS => Allowed::Between(1, MAX_TEXT),
                kind::FREEZE | kind::OUTPUT_GONE => Allowed::Exactly(1),
                kind::EOF | kind::CLOSE | kind::SYNC | kind::QUERY => Allowed::Exactly(0),
                _ => return None,
            })
        })
    }

    /// Reads the header of a frame that comes from a guardian.
    ///
    /// # Errors
    /// [`Malformed::Kind`] and [`Malformed::Length`].
    pub fn from_guardian(bytes: [u8; HEADER_LENGTH]) -> Result<Self, Malformed> {
        Self::judge(bytes, |kind| {
            Some(match kind {
                kind::HELLO
                | kind::STARTED
                | kind::START_ERROR
                | kind::EXIT
                | kind::ERROR
                | kind::STATS
                | kind::DONE => Allowed::Between(0, MAX_TEXT),
                kind::STDOUT | kind::STDERR => Allowed::Between(1, MAX_DATA),
                kind::STDIN_CREDIT => Allowed::Exactly(4),
                kind::END_OF_OUTPUT => Allowed::Exactly(1),
                kind::STDIN_GONE | kind::REAPED => Allowed::Exactly(0),
                _ => return None,
            })
        })
    }

    /// Reads the header of a frame that goes to a nursery.
    ///
    /// # Errors
    /// [`Malformed::Kind`] and [`Malformed::Length`].
    pub fn to_nursery(bytes: [u8; HEADER_LENGTH]) -> Result<Self, Malformed> {
        Self::judge(bytes, |kind| {
            Some(match kind {
                kind::NURSE => Allowed::Between(0, MAX_TEXT),
                kind::KILL => Allowed::Exactly(RUN_LENGTH),
                _ => return None,
            })
        })
    }

    /// Reads the header of a frame that comes from a nursery.
    ///
    /// # Errors
    /// [`Malformed::Kind`] and [`Malformed::Length`].
    pub fn from_nursery(bytes: [u8; HEADER_LENGTH]) -> Result<Self, Malformed> {
        Self::judge(bytes, |kind| {
            Some(match kind {
                kind::READY | kind::DIED | kind::ERROR => Allowed::Between(0, MAX_TEXT),
                _ => return None,
            })
        })
    }

    fn judge(
        bytes: [u8; HEADER_LENGTH],
        allowed: impl Fn(u8) -> Option<Allowed>,
    ) -> Result<Self, Malformed> {
        let [a, b, c, d, kind] = bytes;
        let allowed = allowed(kind).ok_or(Malformed::Kind(kind))?;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let refused =
            |allowed| Malformed::Length { kind, length: length.saturating_sub(1), allowed };
        // A length of 0 leaves no room for the type itself.
        let body_length = length.checked_sub(1).ok_or(refused(0))?;
        match allowed {
            Allowed::Exactly(only) if body_length != only => Err(refused(only)),
            Allowed::Between(least, _) if body_length < least => Err(refused(least)),
            Allowed::Between(_, most) if body_length > most => Err(refused(most)),
            _ => Ok(Header { kind, body_length }),
        }
    }

    /// Whether this is STDIN, whose body needs no decoding and may be taken as it arrives.
    pub fn is_stdin(&self) -> bool {
        self.kind == kind::STDIN
    }

    /// The stream of a STDOUT or STDERR frame, whose body needs no decoding and may be taken as it arrives.
    pub fn output(&self) -> Option<Stream> {
        match self.kind {
            kind::STDOUT => Some(Stream::Stdout),
            kind::STDERR => Some(Stream::Stderr),
            _ => None,
        }
    }
}

/// The header of a STDOUT or STDERR frame whose body of `length` bytes is written separately.
///
/// # Panics
/// When `length` is above [`MAX_DATA`].
pub fn data_header(stream: Stream, length: usize) -> [u8; HEADER_LENGTH] {
    assert!(length <= MAX_DATA, "a data frame of {length} bytes");
    let [a, b, c, d] = (length as u32 + 1).to_be_bytes();
    let kind = match stream {
        Stream::Stdout => kind::STDOUT,
        Stream::Stderr => kind::STDERR,
    };
    [a, b, c, d, kind]
}

/// Writes a frame whose body `body` appends, and fills in its length afterwards.
pub(crate) fn put_frame(kind: u8, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, kind]);
    body(out);
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}
