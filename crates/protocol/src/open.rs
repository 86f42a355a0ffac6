// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

use crate::cursor::{put_handshake, Cursor};
use crate::{Malformed, MAX_CREDIT};

/// The program's specification (§3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open<'a> {
    /// The controller's package version.
    pub package: &'a [u8],
    /// What was given, in the order of the wire. [`Field::Program`] is among them.
    pub fields: Vec<Field<'a>>,
}

/// One field of the specification (§3). Bytes are as the operating system has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the table of §3 says what each is
pub enum Field<'a> {
    Program(&'a [u8]),
    Argument(&'a [u8]),
    Arg0(&'a [u8]),
    Inherited(&'a [u8]),
    Set(&'a [u8]),
    Unset(&'a [u8]),
    Directory(&'a [u8]),
    User(&'a [u8]),
    Group(&'a [u8]),
    /// Each name followed by NUL.
    Groups(&'a [u8]),
    /// For descriptors 0, 1, 2.
    Stdio([Stdio; 3]),
    Credit {
        stdout: u32,
        stderr: u32,
    },
    /// Milliseconds.
    KillDelay(u32),
    /// Milliseconds.
    DrainTimeout(u32),
    /// Whether the tree is waited for, not killed, when the program has exited.
    OnExitWait(bool),
    CgroupController(&'a [u8]),
    CgroupBase(&'a [u8]),
    CgroupPath(&'a [u8]),
    CgroupSet {
        controller: &'a [u8],
        file: &'a [u8],
        value: &'a [u8],
    },
    Umask(u32),
    Nice(i32),
    Rlimit(Rlimit<'a>),
    OomScoreAdj(i32),
    NoNewPrivs,
    Limit(Limit<'a>),
    /// The program runs in a PID namespace of its own.
    PidNamespace,
}

/// A limit of the program's cgroup by its portable name (§3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit<'a> {
    /// `memory`, `cpu`, `pids` …
    pub name: &'a [u8],
    /// The value, or `max`.
    pub value: &'a [u8],
}

/// A resource limit by its name; `None` is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rlimit<'a> {
    /// As `getrlimit(2)` has it, without the prefix and in lower case.
    pub name: &'a [u8],
    /// What holds.
    pub soft: Option<u64>,
    /// Up to where the program may raise it.
    pub hard: Option<u64>,
}

/// What one of the program's first three descriptors is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stdio {
    /// A pipe to the guardian.
    Piped,
    /// `/dev/null`.
    Null,
    /// A descriptor that travels with the frame; reserved in version 1.
    Passed,
    /// The same as descriptor 1; for descriptor 2 only.
    SameAsStdout,
}

impl Field<'_> {
    fn tag(&self) -> u8 {
        match self {
            Field::Program(_) => 0x01,
            Field::Argument(_) => 0x02,
            Field::Arg0(_) => 0x03,
            Field::Inherited(_) => 0x04,
            Field::Set(_) => 0x05,
            Field::Unset(_) => 0x06,
            Field::Directory(_) => 0x07,
            Field::User(_) => 0x08,
            Field::Group(_) => 0x09,
            Field::Groups(_) => 0x0a,
            Field::Stdio(_) => 0x0b,
            Field::Credit { .. } => 0x0c,
            Field::KillDelay(_) => 0x0d,
            Field::DrainTimeout(_) => 0x0e,
            Field::OnExitWait(_) => 0x0f,
            Field::CgroupController(_) => 0x10,
            Field::CgroupBase(_) => 0x11,
            Field::CgroupPath(_) => 0x12,
            Field::CgroupSet { .. } => 0x13,
            Field::Umask(_) => 0x14,
            Field::Nice(_) => 0x15,
            Field::Rlimit(_) => 0x16,
            Field::OomScoreAdj(_) => 0x17,
            Field::NoNewPrivs => 0x18,
            Field::Limit(_) => LIMIT,
            Field::PidNamespace => 0x1a,
        }
    }
}

/// The one field that LIMITS has, too (§9).
const LIMIT: u8 = 0x19;

fn may_repeat(tag: u8) -> bool {
    matches!(tag, 0x02 | 0x04 | 0x05 | 0x06 | 0x10 | 0x13 | 0x16 | LIMIT)
}

impl<'a> Open<'a> {
    pub(crate) fn decode(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(body);
        let package = cursor.handshake()?;
        let mut fields = Vec::new();
        let mut seen = 0_u32;
        while !cursor.is_empty() {
            let (tag, value) = tagged(&mut cursor)?;
            let field = field(tag, value)?;
            if !may_repeat(tag) && seen & (1 << tag) != 0 {
                return Err(Malformed::Twice(tag));
            }
            seen |= 1 << tag;
            fields.push(field);
        }
        match fields.iter().any(|field| matches!(field, Field::Program(name) if !name.is_empty())) {
            true => Ok(Open { package, fields }),
            false => Err(Malformed::Missing("program")),
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_handshake(self.package, out);
        for field in &self.fields {
            put_field(field, out);
        }
    }
}

impl<'a> Limit<'a> {
    /// The body of LIMITS (§9): fields as in OPEN, all of them limits, at least one.
    pub(crate) fn decode_all(body: &'a [u8]) -> Result<Vec<Self>, Malformed> {
        let mut cursor = Cursor::new(body);
        let mut limits = Vec::new();
        while !cursor.is_empty() {
            match tagged(&mut cursor)? {
                (LIMIT, value) => limits.push(limit(value)?),
                (other, _) => return Err(Malformed::Tag(other)),
            }
        }
        Ok(limits)
    }

    pub(crate) fn encode_all(limits: &[Self], out: &mut Vec<u8>) {
        for limit in limits {
            put_field(&Field::Limit(*limit), out);
        }
    }
}

/// The next field, undecoded.
fn tagged<'a>(cursor: &mut Cursor<'a>) -> Result<(u8, &'a [u8]), Malformed> {
    let tag = cursor.u8("tag")?;
    let length = cursor.u32("field length")?;
    Ok((tag, cursor.bytes(length as usize, "field")?))
}

fn put_field(field: &Field<'_>, out: &mut Vec<u8>) {
    out.push(field.tag());
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    put_value(field, out);
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

fn field(tag: u8, value: &[u8]) -> Result<Field<'_>, Malformed> {
    Ok(match tag {
        0x01 => Field::Program(value),
        0x02 => Field::Argument(value),
        0x03 => Field::Arg0(value),
        0x04 => Field::Inherited(value),
        0x05 => Field::Set(value),
        0x06 => Field::Unset(value),
        0x07 => Field::Directory(value),
        0x08 => Field::User(value),
        0x09 => Field::Group(value),
        0x0a => match value.last() {
            None | Some(0) => Field::Groups(value),
            Some(_) => {
                return Err(Malformed::Text {
                    what: "groups",
                    allowed: "names, each with NUL after it",
                })
            }
        },
        0x0b => {
            let mut cursor = Cursor::new(value);
            let stdio = [
                stdio(cursor.u8("stdio")?, 2)?,
                stdio(cursor.u8("stdio")?, 2)?,
                stdio(cursor.u8("stdio")?, 3)?,
            ];
            cursor.end()?;
            Field::Stdio(stdio)
        }
        0x0c => {
            let mut cursor = Cursor::new(value);
            let (stdout, stderr) = (credit(cursor.u32("credit")?)?, credit(cursor.u32("credit")?)?);
            cursor.end()?;
            Field::Credit { stdout, stderr }
        }
        0x0d => Field::KillDelay(number("kill_delay", value)?),
        0x0e => Field::DrainTimeout(number("drain_timeout", value)?),
        0x0f => {
            let mut cursor = Cursor::new(value);
            let wait = cursor.bit("on_exit")?;
            cursor.end()?;
            Field::OnExitWait(wait)
        }
        0x10 => Field::CgroupController(value),
        0x11 => Field::CgroupBase(value),
        0x12 => Field::CgroupPath(value),
        0x13 => {
            let [controller, file, value] = three(value).ok_or(Malformed::Text {
                what: "cgroup_set",
                allowed: "controller NUL file NUL value",
            })?;
            Field::CgroupSet { controller, file, value }
        }
        0x14 => Field::Umask(number("umask", value)?),
        0x15 => Field::Nice(signed("nice", value, -20..=19, "-20 to 19")?),
        0x16 => rlimit(value).map(Field::Rlimit).ok_or(Malformed::Text {
            what: "rlimit",
            allowed: "name NUL soft NUL hard, the limits decimal or `unlimited`",
        })?,
        0x17 => Field::OomScoreAdj(signed("oom_score_adj", value, -1000..=1000, "-1000 to 1000")?),
        0x18 if value.is_empty() => Field::NoNewPrivs,
        LIMIT => Field::Limit(limit(value)?),
        0x1a if value.is_empty() => Field::PidNamespace,
        0x18 | 0x1a => return Err(Malformed::Trailing(value.len())),
        other => return Err(Malformed::Tag(other)),
    })
}

fn put_value(field: &Field<'_>, out: &mut Vec<u8>) {
    let limit =
        |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |limit| limit.to_string());
    match field {
        Field::Program(bytes)
        | Field::Argument(bytes)
        | Field::Arg0(bytes)
        | Field::Inherited(bytes)
        | Field::Set(bytes)
        | Field::Unset(bytes)
        | Field::Directory(bytes)
        | Field::User(bytes)
        | Field::Group(bytes)
        | Field::Groups(bytes)
        | Field::CgroupController(bytes)
        | Field::CgroupBase(bytes)
        | Field::CgroupPath(bytes) => out.extend_from_slice(bytes),
        Field::Stdio(each) => out.extend(each.iter().map(|stdio| match stdio {
            Stdio::Piped => 0,
            Stdio::Null => 1,
            Stdio::Passed => 2,
            Stdio::SameAsStdout => 3,
        })),
        Field::Credit { stdout, stderr } => {
            out.extend_from_slice(&stdout.to_be_bytes());
            out.extend_from_slice(&stderr.to_be_bytes());
        }
        Field::KillDelay(number) | Field::DrainTimeout(number) | Field::Umask(number) => {
            out.extend_from_slice(&number.to_be_bytes());
        }
        Field::OnExitWait(wait) => out.push(u8::from(*wait)),
        Field::CgroupSet { controller, file, value } => {
            out.extend_from_slice(&[controller, &b"\0"[..], file, b"\0", value].concat());
        }
        Field::Nice(number) | Field::OomScoreAdj(number) => {
            out.extend_from_slice(&number.to_be_bytes())
        }
        Field::Rlimit(Rlimit { name, soft, hard }) => {
            out.extend_from_slice(name);
            out.extend_from_slice(format!("\0{}\0{}", limit(*soft), limit(*hard)).as_bytes());
        }
        Field::Limit(Limit { name, value }) => {
            out.extend_from_slice(&[name, &b"\0"[..], value].concat());
        }
        Field::NoNewPrivs | Field::PidNamespace => (),
    }
}

fn stdio(byte: u8, most: u8) -> Result<Stdio, Malformed> {
    match byte {
        0 => Ok(Stdio::Piped),
        1 => Ok(Stdio::Null),
        2 => Ok(Stdio::Passed),
        3 if most == 3 => Ok(Stdio::SameAsStdout),
        other => Err(Malformed::Value {
            what: "stdio",
            value: u64::from(other),
            allowed: "0 to 2, or 3 for descriptor 2",
        }),
    }
}

fn credit(bytes: u32) -> Result<u32, Malformed> {
    if bytes <= MAX_CREDIT {
        Ok(bytes)
    } else {
        Err(Malformed::Value {
            what: "credit",
            value: u64::from(bytes),
            allowed: "0 to 2147483647",
        })
    }
}

fn number(what: &'static str, value: &[u8]) -> Result<u32, Malformed> {
    let mut cursor = Cursor::new(value);
    let number = cursor.u32(what)?;
    cursor.end()?;
    Ok(number)
}

fn signed(
    what: &'static str,
    value: &[u8],
    range: std::ops::RangeInclusive<i32>,
    allowed: &'static str,
) -> Result<i32, Malformed> {
    let bits = number(what, value)?;
    let number = bits as i32;
    if range.contains(&number) {
        Ok(number)
    } else {
        Err(Malformed::Value { what, value: u64::from(bits), allowed })
    }
}

/// Three texts with a NUL between each two, none inside.
fn three(value: &[u8]) -> Option<[&[u8]; 3]> {
    let mut parts = value.split(|byte| *byte == 0);
    let three = [parts.next()?, parts.next()?, parts.next()?];
    parts.next().is_none().then_some(three)
}

fn limit(value: &[u8]) -> Result<Limit<'_>, Malformed> {
    let mut parts = value.split(|byte| *byte == 0);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(name), Some(value), None) => Ok(Limit { name, value }),
        _ => Err(Malformed::Text { what: "limit", allowed: "name NUL value" }),
    }
}

fn rlimit(value: &[u8]) -> Option<Rlimit<'_>> {
    let [name, soft, hard] = three(value)?;
    let limit = |text: &[u8]| match text {
        b"unlimited" => Some(None),
        // `u64::from_str` would take a sign.
        [b'0'..=b'9', ..] => std::str::from_utf8(text).ok()?.parse().ok().map(Some),
        _ => None,
    };
    Some(Rlimit { name, soft: limit(soft)?, hard: limit(hard)? })
}
