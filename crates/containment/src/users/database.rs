// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! The format of passwd(5) and group(5). Lines that don't fit it are passed over.

use super::number;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: Vec<u8>,
    pub(super) uid: u32,
    /// `None` without an entry.
    pub(super) gid: Option<u32>,
    pub(super) home: Vec<u8>,
    /// Whether it is in the local file, so that the local file knows its groups.
    pub(super) listed: bool,
}

impl User {
    /// A number that nobody has: a home that exists, and the number for a name.
    pub(super) fn without_entry(uid: u32) -> Self {
        Self {
            name: uid.to_string().into_bytes(),
            uid,
            gid: None,
            home: b"/".to_vec(),
            listed: false,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Group<'a> {
    pub(super) name: &'a [u8],
    pub(super) gid: u32,
    members: &'a [u8],
}

impl Group<'_> {
    pub(super) fn has_member(&self, name: &[u8]) -> bool {
        self.members.split(|&byte| byte == b',').any(|member| member == name)
    }
}

/// Lines that begin with + or - are orders to the NIS of old, not entries.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes
        .split(|&byte| byte == b'\n')
        .filter(|line| !matches!(line.first(), None | Some(b'#' | b'+' | b'-' | b':')))
}

/// `name:password:uid:gid:comment:home:shell`
pub(super) fn users(bytes: &[u8]) -> impl Iterator<Item = User> + '_ {
    lines(bytes).filter_map(|line| {
        let mut fields = line.split(|&byte| byte == b':');
        let name = fields.next()?.to_vec();
        let uid = number(fields.nth(1)?)?;
        let gid = number(fields.next()?)?;
        let home = fields.nth(1).filter(|home| !home.is_empty());
        Some(User { name, uid, gid: Some(gid), home: home.unwrap_or(b"/").to_vec(), listed: true })
    })
}

/// `name:password:gid:member,member`
pub(super) fn groups(bytes: &[u8]) -> impl Iterator<Item = Group<'_>> {
    lines(bytes).filter_map(|line| {
        let mut fields = line.split(|&byte| byte == b':');
        Some(Group {
            name: fields.next()?,
            gid: number(fields.nth(1)?)?,
            members: fields.next().unwrap_or(b""),
        })
    })
}
