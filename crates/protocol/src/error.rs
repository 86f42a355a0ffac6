// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

use std::fmt;

/// What is wrong with a frame (§1). Its [`Display`](fmt::Display) is the sentence that ERROR carries (§8).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Malformed {
    /// A type that does not exist, or that travels the other way.
    Kind(u8),
    /// A length that its type can't have.
    Length {
        /// The frame's type.
        kind: u8,
        /// The length of its body as announced.
        length: usize,
        /// The greatest, or the only, allowed one.
        allowed: usize,
    },
    /// A body that ends inside the named field.
    Cut(&'static str),
    /// A body that goes on after its last field.
    Trailing(usize),
    /// A number outside of what its field allows.
    Value {
        /// The field.
        what: &'static str,
        /// What it holds.
        value: u64,
        /// What it may hold, in words.
        allowed: &'static str,
    },
    /// Text that its field can't hold.
    Text {
        /// The field.
        what: &'static str,
        /// What it must look like.
        allowed: &'static str,
    },
    /// A field of OPEN that occurs twice.
    Twice(u8),
    /// An unknown field of OPEN.
    Tag(u8),
    /// A frame at a time when it may not come.
    Order(&'static str),
    /// OPEN without a field that it must have.
    Missing(&'static str),
    /// The handshake's versions differ.
    Version {
        /// The other side's protocol version.
        theirs: u16,
        /// The other side's package version.
        package: String,
    },
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::Kind(kind) => write!(f, "frame type 0x{kind:02x} is not one that may come here"),
            Malformed::Length { kind, length, allowed } => write!(
                f,
                "a frame of type 0x{kind:02x} has a body of {length} bytes, allowed are {allowed}"
            ),
            Malformed::Cut(what) => write!(f, "the frame ends inside its field `{what}`"),
            Malformed::Trailing(bytes) => write!(f, "{bytes} bytes follow the frame's last field"),
            Malformed::Value { what, value, allowed } => {
                write!(f, "`{what}` is {value}, allowed is {allowed}")
            }
            Malformed::Text { what, allowed } => write!(f, "`{what}` must be {allowed}"),
            Malformed::Twice(tag) => write!(f, "field 0x{tag:02x} occurs twice"),
            Malformed::Tag(tag) => write!(f, "field 0x{tag:02x} is unknown"),
            Malformed::Order(what) => write!(f, "{what} may not come"),
            Malformed::Missing(what) => write!(f, "OPEN lacks its field `{what}`"),
            Malformed::Version { theirs, package } => write!(
                f,
                "the other side speaks protocol {theirs} (proton_stream {package}), this one {} (proton_stream {})",
                crate::VERSION,
                crate::PACKAGE_VERSION
            ),
        }
    }
}

impl std::error::Error for Malformed {}
