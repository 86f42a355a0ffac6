// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

use crate::header::put_frame;
use crate::{cursor::Cursor, kind, Limit, Malformed, Open, Stream, MAX_CREDIT};

/// A frame from the controller to its guardian.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToGuardian<'a> {
    /// The program's specification (§3).
    Open(Open<'a>),
    /// Bytes for the program's stdin (§5).
    Stdin(&'a [u8]),
    /// More room for a stream (§6).
    Credit {
        /// Whose.
        stream: Stream,
        /// How much, at least 1.
        bytes: u32,
    },
    /// Close the program's stdin after what was sent before (§5).
    Eof,
    /// Send a signal (§7).
    Signal {
        /// 1..64.
        number: u8,
        /// To every process of the tree, not just the program.
        tree: bool,
    },
    /// End the program now (§7).
    Close,
    /// Return stdin's credit as soon as what was sent before is in the program's pipe (§5).
    Sync,
    /// Tell what the run's cgroup counts (§9).
    Query,
    /// Change the limits of the run's cgroup (§9).
    Limits(Vec<Limit<'a>>),
    /// Stop every process of the run's cgroup, or let them go on (§9).
    Freeze(bool),
    /// Close the stream that the program writes: nobody reads it any more (§6).
    OutputGone(Stream),
    /// Another program on a connection whose last one is dead (§10).
    Again {
        /// Its run.
        run: u64,
        /// Its specification.
        open: Open<'a>,
    },
}

impl<'a> ToGuardian<'a> {
    /// Reads the body of a frame whose [`Header`](crate::Header) has been judged.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(kind: u8, body: &'a [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(body);
        let frame = match kind {
            kind::OPEN => return Open::decode(body).map(ToGuardian::Open),
            kind::AGAIN => {
                let run = cursor.u64("run")?;
                let open = Open::decode(cursor.rest())?;
                return Ok(ToGuardian::Again { run, open });
            }
            kind::STDIN => ToGuardian::Stdin(cursor.rest()),
            kind::CREDIT => ToGuardian::Credit {
                stream: Stream::from_number(cursor.u8("stream")?)?,
                bytes: match cursor.u32("count")? {
                    bytes @ 1..=MAX_CREDIT => bytes,
                    other => {
                        return Err(Malformed::Value {
                            what: "count",
                            value: u64::from(other),
                            allowed: "1 to 2147483647",
                        })
                    }
                },
            },
            kind::EOF => ToGuardian::Eof,
            kind::SIGNAL => ToGuardian::Signal {
                number: match cursor.u8("number")? {
                    number @ 1..=64 => number,
                    other => {
                        return Err(Malformed::Value {
                            what: "number",
                            value: u64::from(other),
                            allowed: "1 to 64",
                        })
                    }
                },
                tree: cursor.bit("scope")?,
            },
            kind::CLOSE => ToGuardian::Close,
            kind::SYNC => ToGuardian::Sync,
            kind::QUERY => ToGuardian::Query,
            kind::LIMITS => return Limit::decode_all(body).map(ToGuardian::Limits),
            kind::FREEZE => ToGuardian::Freeze(cursor.bit("freeze")?),
            kind::OUTPUT_GONE => ToGuardian::OutputGone(Stream::from_number(cursor.u8("stream")?)?),
            other => return Err(Malformed::Kind(other)),
        };
        cursor.end()?;
        Ok(frame)
    }

    /// Appends the frame, header and body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            ToGuardian::Open(open) => put_frame(kind::OPEN, out, |out| open.encode(out)),
            ToGuardian::Again { run, open } => put_frame(kind::AGAIN, out, |out| {
                out.extend_from_slice(&run.to_be_bytes());
                open.encode(out);
            }),
            ToGuardian::Stdin(bytes) => {
                put_frame(kind::STDIN, out, |out| out.extend_from_slice(bytes))
            }
            ToGuardian::Credit { stream, bytes } => put_frame(kind::CREDIT, out, |out| {
                out.push(stream.number());
                out.extend_from_slice(&bytes.to_be_bytes());
            }),
            ToGuardian::Eof => put_frame(kind::EOF, out, |_| ()),
            ToGuardian::Signal { number, tree } => {
                put_frame(kind::SIGNAL, out, |out| {
                    out.extend_from_slice(&[*number, u8::from(*tree)])
                });
            }
            ToGuardian::Close => put_frame(kind::CLOSE, out, |_| ()),
            ToGuardian::Sync => put_frame(kind::SYNC, out, |_| ()),
            ToGuardian::Query => put_frame(kind::QUERY, out, |_| ()),
            ToGuardian::Limits(limits) => {
                put_frame(kind::LIMITS, out, |out| Limit::encode_all(limits, out))
            }
            ToGuardian::Freeze(frozen) => {
                put_frame(kind::FREEZE, out, |out| out.push(u8::from(*frozen)))
            }
            ToGuardian::OutputGone(stream) => {
                put_frame(kind::OUTPUT_GONE, out, |out| out.push(stream.number()))
            }
        }
    }
}
