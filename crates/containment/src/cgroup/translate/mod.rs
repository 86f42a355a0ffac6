// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! The same limits under the names of either version.
//!
//! A name of the host's own version is written as it is. One of the other version becomes its
//! counterpart where that has the same effect; where there is none the start fails in words,
//! because a limit that is silently weaker is worse than none.

mod to_v1;
mod to_v2;

use std::ffi::CString;

use super::beneath::plain_name;
use super::mounts::Version;
use super::settings::number;
use super::Wish;
use crate::{Error, Step};

/// One value for one file, as this host has it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) file: CString,
    pub(super) value: Vec<u8>,
    /// The name that was given, for errors.
    pub(super) key: Vec<u8>,
}

/// What is to be written into a group of one hierarchy, in order.
pub(super) fn translate(version: Version, wishes: &[&Wish]) -> Result<Vec<Write>, Error> {
    let mut writes = Vec::new();
    for (index, wish) in wishes.iter().enumerate() {
        let (before, after) = (wishes.get(..index), wishes.get(index + 1..));
        let context =
            Context { wish, before: before.unwrap_or_default(), after: after.unwrap_or_default() };
        match version {
            Version::V1 => to_v1::translate(&context, &mut writes)?,
            Version::V2 => to_v2::translate(&context, &mut writes)?,
        }
    }
    Ok(writes)
}

/// A wish among the others for its hierarchy.
struct Context<'a> {
    wish: &'a Wish,
    before: &'a [&'a Wish],
    after: &'a [&'a Wish],
}

impl Context<'_> {
    fn value(&self) -> &[u8] {
        self.wish.value.trim_ascii()
    }

    /// The value as a number, without which it can't be translated.
    fn number(&self) -> Result<i128, Error> {
        let text = std::str::from_utf8(self.value()).ok();
        let number = text.and_then(number).filter(|number| *number >= 0);
        number.ok_or_else(|| self.refuse("the value is not a number"))
    }

    /// The last value given for another file.
    fn other(&self, file: &[u8]) -> Option<&[u8]> {
        let mut all = self.before.iter().chain(self.after).rev();
        all.find(|other| other.file == file).map(|other| other.value.trim_ascii())
    }

    /// No limit, in the form of either version.
    fn is_boundless(&self) -> bool {
        matches!(self.value(), b"-1" | b"max")
    }

    fn comes_later(&self, file: &[u8]) -> bool {
        self.after.iter().any(|other| other.file == file)
    }

    fn write(&self, file: &[u8], value: impl Into<Vec<u8>>) -> Result<Write, Error> {
        let key = self.wish.key.clone();
        match plain_name(file) {
            Some(file) => Ok(Write { file, value: value.into(), key }),
            None => Err(Error::new(Step::Cgroup, libc::EINVAL, key)),
        }
    }

    fn refuse(&self, why: &str) -> Error {
        let sentence = format!("{}: {why}", self.wish.key.escape_ascii());
        Error::new(Step::Cgroup, libc::EINVAL, sentence)
    }
}

/// `prefix`, something without a dot, `suffix`: the something.
fn between<'a>(name: &'a [u8], prefix: &[u8], suffix: &[u8]) -> Option<&'a [u8]> {
    let middle = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
    (!middle.is_empty() && !middle.contains(&b'.')).then_some(middle)
}

/// `a * factor / divisor`, to the nearest, and within what the kernel takes.
fn scaled(value: i128, factor: i128, divisor: i128, least: i128, most: i128) -> i128 {
    let scaled = value.saturating_mul(factor).saturating_add(divisor / 2) / divisor;
    scaled.clamp(least, most)
}

#[cfg(test)]
mod tests;
