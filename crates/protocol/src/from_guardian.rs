// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

use crate::header::put_frame;
use crate::{cursor::put_handshake, cursor::Cursor, kind, Gauge, Malformed, Stream};

/// A frame from a guardian to its controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromGuardian<'a> {
    /// The guardian's half of the handshake (§2).
    Hello {
        /// Its package version.
        package: &'a [u8],
    },
    /// The program runs (§4).
    Started {
        /// Its pid.
        pid: u32,
        /// 0 tree, 1 cgroup, 2 PID namespace.
        level: u8,
        /// How many bytes of stdin may be outstanding (§5).
        stdin_credit: u32,
        /// The run's group below the mounts, empty without one.
        cgroup: &'a [u8],
    },
    /// The program could not be started (§4).
    StartError {
        /// Which step failed.
        step: u8,
        /// The system's error number, or 0.
        errno: u32,
        /// The path, name or key that failed, or a sentence.
        detail: &'a [u8],
    },
    /// Bytes that the program wrote (§6).
    Output {
        /// Where it wrote them.
        stream: Stream,
        /// At least one.
        bytes: &'a [u8],
    },
    /// That many bytes of stdin are in the program's pipe (§5).
    StdinCredit {
        /// At least 1.
        bytes: u32,
    },
    /// The program reads no more (§5).
    StdinGone,
    /// No byte of the stream follows (§6).
    EndOfOutput(Stream),
    /// The program's pid is free; EXIT follows later (§7).
    Reaped,
    /// What became of the program (§7).
    Exit(Exit),
    /// The guardian gives up (§8).
    Error {
        /// 1 version, 2 malformed, 3 short frame, 4 internal.
        code: u8,
        /// A sentence.
        message: &'a [u8],
    },
    /// What the run's cgroup counts, the answer to QUERY (§9).
    Stats(Vec<(Gauge, u64)>),
    /// What was asked for is done (§9).
    Done,
    /// What was asked for can't be done (§9).
    Refused {
        /// The system's error number, or 0.
        errno: u32,
        /// The path, name or key that failed, or a sentence.
        detail: &'a [u8],
    },
}

/// What became of the program (§7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// How it ended.
    pub kind: ExitKind,
    /// Whether the kernel's OOM killer struck in its cgroup.
    pub oom_killed: bool,
    /// Who ended it.
    pub cause: Cause,
    /// User time of the program and the children that it waited for, in microseconds.
    pub user_time: u64,
    /// System time, likewise.
    pub system_time: u64,
    /// Greatest resident set, in KiB, likewise.
    pub max_rss: u64,
    /// Processes of the tree that could not be killed.
    pub survivors: Vec<u32>,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitKind {
    /// With this status.
    Exited(u8),
    /// By this signal.
    Signalled {
        /// Its number, 1..64.
        signal: u8,
        /// Whether a core was dumped.
        core: bool,
    },
    /// It could not be killed in time.
    Unknown,
}

/// Who ended the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It ended by itself.
    Program,
    /// CLOSE.
    Close,
    /// This signal to the guardian.
    Signal(u8),
}

impl<'a> FromGuardian<'a> {
    /// Reads the body of a frame whose [`Header`](crate::Header) has been judged.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(kind: u8, body: &'a [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(body);
        let frame = match kind {
            kind::HELLO => FromGuardian::Hello { package: cursor.handshake()? },
            kind::STARTED => FromGuardian::Started {
                pid: cursor.u32("pid")?,
                level: ranged(cursor.u8("level")?, 0..=2, "level", "0 to 2")?,
                stdin_credit: cursor.u32("stdin credit")?,
                cgroup: cursor.rest(),
            },
            kind::START_ERROR => FromGuardian::StartError {
                step: ranged(cursor.u8("step")?, 1..=12, "step", "1 to 12")?,
                errno: cursor.u32("errno")?,
                detail: cursor.rest(),
            },
            kind::STDOUT => output(Stream::Stdout, &mut cursor)?,
            kind::STDERR => output(Stream::Stderr, &mut cursor)?,
            kind::STDIN_CREDIT => match cursor.u32("count")? {
                0 => {
                    return Err(Malformed::Value { what: "count", value: 0, allowed: "at least 1" })
                }
                bytes => FromGuardian::StdinCredit { bytes },
            },
            kind::STDIN_GONE => FromGuardian::StdinGone,
            kind::REAPED => FromGuardian::Reaped,
            kind::END_OF_OUTPUT => {
                FromGuardian::EndOfOutput(Stream::from_number(cursor.u8("stream")?)?)
            }
            kind::EXIT => FromGuardian::Exit(Exit::decode(&mut cursor)?),
            kind::ERROR => FromGuardian::Error {
                code: ranged(cursor.u8("code")?, 1..=4, "code", "1 to 4")?,
                message: cursor.rest(),
            },
            kind::STATS => FromGuardian::Stats(Gauge::decode_all(&mut cursor)?),
            kind::DONE => match cursor.bit("refused")? {
                false => FromGuardian::Done,
                true => {
                    FromGuardian::Refused { errno: cursor.u32("errno")?, detail: cursor.rest() }
                }
            },
            other => return Err(Malformed::Kind(other)),
        };
        cursor.end()?;
        Ok(frame)
    }

    /// Appends the frame, header and body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            FromGuardian::Hello { package } => {
                put_frame(kind::HELLO, out, |out| put_handshake(package, out));
            }
            FromGuardian::Started { pid, level, stdin_credit, cgroup } => {
                put_frame(kind::STARTED, out, |out| {
                    out.extend_from_slice(&pid.to_be_bytes());
                    out.push(*level);
                    out.extend_from_slice(&stdin_credit.to_be_bytes());
                    out.extend_from_slice(cgroup);
                });
            }
            FromGuardian::StartError { step, errno, detail } => {
                put_frame(kind::START_ERROR, out, |out| {
                    out.push(*step);
                    out.extend_from_slice(&errno.to_be_bytes());
                    out.extend_from_slice(detail);
                });
            }
            FromGuardian::Output { stream, bytes } => {
                out.extend_from_slice(&crate::data_header(*stream, bytes.len()));
                out.extend_from_slice(bytes);
            }
            FromGuardian::StdinCredit { bytes } => {
                put_frame(kind::STDIN_CREDIT, out, |out| {
                    out.extend_from_slice(&bytes.to_be_bytes())
                });
            }
            FromGuardian::StdinGone => put_frame(kind::STDIN_GONE, out, |_| ()),
            FromGuardian::Reaped => put_frame(kind::REAPED, out, |_| ()),
            FromGuardian::EndOfOutput(stream) => {
                put_frame(kind::END_OF_OUTPUT, out, |out| out.push(stream.number()));
            }
            FromGuardian::Exit(exit) => put_frame(kind::EXIT, out, |out| exit.encode(out)),
            FromGuardian::Error { code, message } => put_frame(kind::ERROR, out, |out| {
                out.push(*code);
                out.extend_from_slice(message);
            }),
            FromGuardian::Stats(gauges) => {
                put_frame(kind::STATS, out, |out| Gauge::encode_all(gauges, out))
            }
            FromGuardian::Done => put_frame(kind::DONE, out, |out| out.push(0)),
            FromGuardian::Refused { errno, detail } => put_frame(kind::DONE, out, |out| {
                out.push(1);
                out.extend_from_slice(&errno.to_be_bytes());
                out.extend_from_slice(detail);
            }),
        }
    }
}

fn output<'a>(stream: Stream, cursor: &mut Cursor<'a>) -> Result<FromGuardian<'a>, Malformed> {
    match cursor.rest() {
        [] => Err(Malformed::Cut("data")),
        bytes => Ok(FromGuardian::Output { stream, bytes }),
    }
}

pub(crate) fn ranged(
    value: u8,
    range: std::ops::RangeInclusive<u8>,
    what: &'static str,
    allowed: &'static str,
) -> Result<u8, Malformed> {
    if range.contains(&value) {
        Ok(value)
    } else {
        Err(Malformed::Value { what, value: u64::from(value), allowed })
    }
}

const CORE: u8 = 1;
const OOM: u8 = 2;

impl Exit {
    /// The most survivors that a frame has room for; more are cut off.
    const MAX_SURVIVORS: usize = 16_000;

    fn decode(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let kind = ranged(cursor.u8("kind")?, 0..=2, "kind", "0 to 2")?;
        let code = cursor.u8("code")?;
        let flags = ranged(cursor.u8("flags")?, 0..=CORE | OOM, "flags", "0 to 3")?;
        let cause = ranged(cursor.u8("cause")?, 0..=2, "cause", "0 to 2")?;
        let signal = cursor.u8("cause signal")?;
        let kind = match kind {
            0 => ExitKind::Exited(code),
            1 => ExitKind::Signalled {
                signal: ranged(code, 1..=64, "code", "1 to 64 for a signal")?,
                core: flags & CORE != 0,
            },
            _ => {
                ranged(code, 0..=0, "code", "0 where the end is unknown")?;
                ExitKind::Unknown
            }
        };
        if flags & CORE != 0 && !matches!(kind, ExitKind::Signalled { .. }) {
            return Err(Malformed::Value {
                what: "flags",
                value: u64::from(flags),
                allowed: "a core only for a signal",
            });
        }
        let cause = match cause {
            2 => Cause::Signal(ranged(signal, 1..=64, "cause signal", "1 to 64")?),
            other => {
                ranged(signal, 0..=0, "cause signal", "0 without a signal")?;
                if other == 0 {
                    Cause::Program
                } else {
                    Cause::Close
                }
            }
        };
        let (user_time, system_time, max_rss) =
            (cursor.u64("user time")?, cursor.u64("system time")?, cursor.u64("max rss")?);
        let survivors = (0..cursor.u16("survivors")?)
            .map(|_| cursor.u32("survivor"))
            .collect::<Result<_, _>>()?;
        Ok(Exit {
            kind,
            oom_killed: flags & OOM != 0,
            cause,
            user_time,
            system_time,
            max_rss,
            survivors,
        })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let (kind, code, core) = match self.kind {
            ExitKind::Exited(status) => (0, status, 0),
            ExitKind::Signalled { signal, core } => (1, signal, if core { CORE } else { 0 }),
            ExitKind::Unknown => (2, 0, 0),
        };
        let (cause, signal) = match self.cause {
            Cause::Program => (0, 0),
            Cause::Close => (1, 0),
            Cause::Signal(number) => (2, number),
        };
        let oom = if self.oom_killed { OOM } else { 0 };
        out.extend_from_slice(&[kind, code, core | oom, cause, signal]);
        for field in [self.user_time, self.system_time, self.max_rss] {
            out.extend_from_slice(&field.to_be_bytes());
        }
        let survivors = &self.survivors[..self.survivors.len().min(Self::MAX_SURVIVORS)];
        out.extend_from_slice(&(survivors.len() as u16).to_be_bytes());
        for pid in survivors {
            out.extend_from_slice(&pid.to_be_bytes());
        }
    }
}
