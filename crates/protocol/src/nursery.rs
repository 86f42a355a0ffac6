// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! What a controller and its nursery tell each other (§10).

use crate::cursor::{put_handshake, Cursor};
use crate::from_guardian::ranged;
use crate::header::put_frame;
use crate::{kind, Malformed};

/// How many bytes the secret has.
pub const SECRET_LENGTH: usize = 32;

/// How many bytes a connection begins with, before it is a guardian's.
pub const PREAMBLE_LENGTH: usize = SECRET_LENGTH + 8;

/// What a connection to a nursery's socket begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preamble {
    /// What NURSE said.
    pub secret: [u8; SECRET_LENGTH],
    /// The controller's number for the run, by which DIED and KILL name it.
    pub run: u64,
}

impl Preamble {
    /// As it goes over the wire.
    pub fn encode(&self) -> [u8; PREAMBLE_LENGTH] {
        let mut bytes = [0; PREAMBLE_LENGTH];
        bytes[..SECRET_LENGTH].copy_from_slice(&self.secret);
        bytes[SECRET_LENGTH..].copy_from_slice(&self.run.to_be_bytes());
        bytes
    }

    /// Any bytes are one.
    pub fn decode(bytes: [u8; PREAMBLE_LENGTH]) -> Self {
        let mut preamble = Preamble { secret: [0; SECRET_LENGTH], run: 0 };
        let (secret, run) = bytes.split_at(SECRET_LENGTH);
        preamble.secret.copy_from_slice(secret);
        preamble.run = run.iter().fold(0, |run, byte| run << 8 | u64::from(*byte));
        preamble
    }
}

/// A frame from the controller to its nursery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToNursery<'a> {
    /// The first one: whom it serves.
    Nurse {
        /// The controller's package version.
        package: &'a [u8],
        /// The pid from which connections come.
        controller: u32,
        /// What they begin with.
        secret: [u8; SECRET_LENGTH],
    },
    /// Kill a run's guardian, and what it leaves.
    Kill {
        /// The run's number.
        run: u64,
    },
}

impl<'a> ToNursery<'a> {
    /// Reads the body of a frame whose [`Header`](crate::Header) has been judged.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(kind: u8, body: &'a [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(body);
        let frame = match kind {
            kind::NURSE => ToNursery::Nurse {
                package: cursor.handshake()?,
                controller: cursor.u32("controller")?,
                secret: {
                    let mut secret = [0; SECRET_LENGTH];
                    secret.copy_from_slice(cursor.bytes(SECRET_LENGTH, "secret")?);
                    secret
                },
            },
            kind::KILL => ToNursery::Kill { run: cursor.u64("run")? },
            other => return Err(Malformed::Kind(other)),
        };
        cursor.end()?;
        Ok(frame)
    }

    /// Appends the frame, header and body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            ToNursery::Nurse { package, controller, secret } => {
                put_frame(kind::NURSE, out, |out| {
                    put_handshake(package, out);
                    out.extend_from_slice(&controller.to_be_bytes());
                    out.extend_from_slice(secret);
                });
            }
            ToNursery::Kill { run } => {
                put_frame(kind::KILL, out, |out| out.extend_from_slice(&run.to_be_bytes()));
            }
        }
    }
}

/// A frame from a nursery to its controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromNursery<'a> {
    /// The first one: where it listens.
    Ready {
        /// Its package version.
        package: &'a [u8],
        /// The socket's path.
        path: &'a [u8],
    },
    /// A guardian has ended otherwise than it should, and what it left is dead or named. Also the
    /// answer to KILL.
    Died {
        /// The run's number.
        run: u64,
        /// How the guardian ended.
        ending: Ending,
        /// What could not be killed.
        survivors: Vec<u32>,
    },
    /// The nursery gives up; as for a guardian (§8).
    Error {
        /// 1 version, 2 malformed, 4 internal.
        code: u8,
        /// A sentence.
        message: &'a [u8],
    },
}

/// How a guardian ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With this status, which is not 0.
    Exited(u8),
    /// By this signal, 1..64.
    Signalled(u8),
    /// None has that run: it has never begun, or has ended as it should.
    Unknown,
}

impl Ending {
    fn decode(kind: u8, code: u8) -> Result<Self, Malformed> {
        Ok(match ranged(kind, 0..=2, "kind", "0 to 2")? {
            0 => Ending::Exited(ranged(code, 1..=255, "code", "1 to 255")?),
            1 => Ending::Signalled(ranged(code, 1..=64, "code", "1 to 64 for a signal")?),
            _ => {
                ranged(code, 0..=0, "code", "0 where the end is unknown")?;
                Ending::Unknown
            }
        })
    }
}

/// The most survivors that a frame has room for; more are cut off.
const MAX_SURVIVORS: usize = 16_000;

impl<'a> FromNursery<'a> {
    /// Reads the body of a frame whose [`Header`](crate::Header) has been judged.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(kind: u8, body: &'a [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(body);
        let frame = match kind {
            kind::READY => FromNursery::Ready { package: cursor.handshake()?, path: cursor.rest() },
            kind::DIED => FromNursery::Died {
                run: cursor.u64("run")?,
                ending: Ending::decode(cursor.u8("kind")?, cursor.u8("code")?)?,
                survivors: (0..cursor.u16("survivors")?)
                    .map(|_| cursor.u32("survivor"))
                    .collect::<Result<_, _>>()?,
            },
            kind::ERROR => FromNursery::Error {
                code: ranged(cursor.u8("code")?, 1..=4, "code", "1 to 4")?,
                message: cursor.rest(),
            },
            other => return Err(Malformed::Kind(other)),
        };
        cursor.end()?;
        Ok(frame)
    }

    /// Appends the frame, header and body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            FromNursery::Ready { package, path } => put_frame(kind::READY, out, |out| {
                put_handshake(package, out);
                out.extend_from_slice(path);
            }),
            FromNursery::Died { run, ending, survivors } => put_frame(kind::DIED, out, |out| {
                let (kind, code) = match ending {
                    Ending::Exited(status) => (0, *status),
                    Ending::Signalled(signal) => (1, *signal),
                    Ending::Unknown => (2, 0),
                };
                out.extend_from_slice(&run.to_be_bytes());
                out.extend_from_slice(&[kind, code]);
                let survivors = &survivors[..survivors.len().min(MAX_SURVIVORS)];
                out.extend_from_slice(&(survivors.len() as u16).to_be_bytes());
                for pid in survivors {
                    out.extend_from_slice(&pid.to_be_bytes());
                }
            }),
            FromNursery::Error { code, message } => put_frame(kind::ERROR, out, |out| {
                out.push(*code);
                out.extend_from_slice(message);
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preamble_is_what_was_written() {
        let preamble = Preamble { secret: [7; SECRET_LENGTH], run: 0x0102_0304_0506_0708 };
        let bytes = preamble.encode();
        assert_eq!(bytes[SECRET_LENGTH..], [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(Preamble::decode(bytes), preamble);
    }
}
