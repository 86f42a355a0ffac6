// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! The `proton_stream` wire protocol: frames, their codec, and the arithmetic of credit.
//!
//! This crate does no I/O. The normative text is `docs/PROTOCOL.md` in the
//! repository; section numbers in this documentation refer to it. Both
//! directions can be encoded and decoded, so that a controller and a guardian
//! are tested against the same vectors.
//!
//! ```
//! use proton_stream_protocol::{FromGuardian, Header, ToGuardian, HEADER_LENGTH};
//!
//! let mut wire = Vec::new();
//! ToGuardian::Signal { number: 15, tree: false }.encode(&mut wire);
//!
//! let (head, body) = wire.split_at(HEADER_LENGTH);
//! let header = Header::to_guardian(head.try_into()?)?;
//! assert_eq!(header.body_length, body.len());
//! assert_eq!(
//!     ToGuardian::decode(header.kind, body)?,
//!     ToGuardian::Signal { number: 15, tree: false }
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod credit;
mod cursor;
mod error;
mod from_guardian;
mod gauge;
mod header;
mod nursery;
mod open;
mod to_guardian;

pub use credit::{Credit, Returned};
pub use error::Malformed;
pub use from_guardian::{Cause, Exit, ExitKind, FromGuardian};
pub use gauge::Gauge;
pub use header::{data_header, Header, HEADER_LENGTH};
pub use nursery::{Ending, FromNursery, Preamble, ToNursery, PREAMBLE_LENGTH, SECRET_LENGTH};
pub use open::{Field, Limit, Open, Rlimit, Stdio};
pub use to_guardian::ToGuardian;

/// The version of the protocol that this crate speaks (§2).
pub const VERSION: u16 = 1;

/// The version of the package, sent beside [`VERSION`] for the sentence in which a mismatch is told.
pub const PACKAGE_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The greatest body of an OPEN frame, in bytes (§1).
pub const MAX_OPEN: usize = 16 * 1024 * 1024;

/// The greatest body of a STDIN, STDOUT or STDERR frame, in bytes (§1).
pub const MAX_DATA: usize = 1024 * 1024;

/// The greatest body of the other frames of variable length, in bytes (§1).
pub const MAX_TEXT: usize = 65_536;

/// The most credit that one stream may have outstanding, in bytes (§6).
pub const MAX_CREDIT: u32 = 0x7fff_ffff;

/// One of the two streams that a program writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

impl Stream {
    /// Both, in the order of their descriptors.
    pub const BOTH: [Stream; 2] = [Stream::Stdout, Stream::Stderr];

    /// The stream's byte on the wire.
    pub fn number(self) -> u8 {
        match self {
            Stream::Stdout => 1,
            Stream::Stderr => 2,
        }
    }

    fn from_number(number: u8) -> Result<Self, Malformed> {
        match number {
            1 => Ok(Stream::Stdout),
            2 => Ok(Stream::Stderr),
            _ => Err(Malformed::Value {
                what: "stream",
                value: u64::from(number),
                allowed: "1 or 2",
            }),
        }
    }
}

/// The types of frames (§1).
mod kind {
    pub(crate) const OPEN: u8 = 0x01;
    pub(crate) const STDIN: u8 = 0x02;
    pub(crate) const CREDIT: u8 = 0x03;
    pub(crate) const EOF: u8 = 0x04;
    pub(crate) const SIGNAL: u8 = 0x05;
    pub(crate) const CLOSE: u8 = 0x06;
    pub(crate) const SYNC: u8 = 0x07;
    pub(crate) const QUERY: u8 = 0x08;
    pub(crate) const LIMITS: u8 = 0x09;
    pub(crate) const FREEZE: u8 = 0x0a;
    pub(crate) const OUTPUT_GONE: u8 = 0x0b;
    pub(crate) const AGAIN: u8 = 0x0c;
    pub(crate) const HELLO: u8 = 0x81;
    pub(crate) const STARTED: u8 = 0x82;
    pub(crate) const START_ERROR: u8 = 0x83;
    pub(crate) const STDOUT: u8 = 0x84;
    pub(crate) const STDERR: u8 = 0x85;
    pub(crate) const STDIN_CREDIT: u8 = 0x86;
    pub(crate) const STDIN_GONE: u8 = 0x87;
    pub(crate) const END_OF_OUTPUT: u8 = 0x88;
    pub(crate) const EXIT: u8 = 0x89;
    pub(crate) const ERROR: u8 = 0x8a;
    pub(crate) const STATS: u8 = 0x8b;
    pub(crate) const DONE: u8 = 0x8c;
    pub(crate) const REAPED: u8 = 0x8d;
    pub(crate) const NURSE: u8 = 0x20;
    pub(crate) const KILL: u8 = 0x21;
    pub(crate) const READY: u8 = 0xa0;
    pub(crate) const DIED: u8 = 0xa1;
}
