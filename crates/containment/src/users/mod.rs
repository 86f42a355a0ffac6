// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! From names to numbers, before the fork.
//!
//! `/etc/passwd` and `/etc/group` are read here, because a static C library can't load what
//! nsswitch.conf asks for; what they don't have is asked of `getent`, with a deadline.

mod database;
mod getent;

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use crate::environment::Account;
use crate::procfs::decimal;
use crate::specification::Specification;
use crate::{Error, Step};
use database::{Group, User};

/// Where users and groups are found.
#[derive(Debug)]
pub(crate) struct Sources {
    passwd: PathBuf,
    group: PathBuf,
    getent: Option<&'static str>,
}

impl Default for Sources {
    fn default() -> Self {
        Self { passwd: "/etc/passwd".into(), group: "/etc/group".into(), getent: Some("getent") }
    }
}

/// Who the program is to be. What is `None` stays as the guardian has it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) groups: Option<Vec<u32>>,
    pub(crate) account: Option<Account>,
}

/// Finds out who the program is to be.
///
/// - A user brings its own group and supplementary groups, unless those are given. One that has
///   no entry and no given group is refused: whose group would it be?
/// - A group alone comes without any supplementary group.
pub(crate) fn resolve(
    spec: &Specification,
    sources: &Sources,
    give_up: Option<BorrowedFd<'_>>,
) -> Result<Credentials, Error> {
    let mut found = Credentials::default();
    let mut user = None;
    if let Some(name) = &spec.user {
        let entry = sources.user(name, give_up)?;
        found.uid = Some(entry.uid);
        found.account = Some(Account { name: entry.name.clone(), home: entry.home.clone() });
        user = Some(entry);
    }
    found.gid = match (&spec.group, &user) {
        (Some(name), _) => Some(sources.group(name, Step::Group, give_up)?),
        (None, Some(user)) => Some(user.gid.ok_or_else(|| {
            let sentence = format!("user {} has no entry that names a group: give one", user.uid);
            Error::new(Step::Group, 0, sentence)
        })?),
        (None, None) => None,
    };
    found.groups = match (&spec.groups, &user) {
        (Some(names), _) => Some(
            names
                .iter()
                .map(|name| sources.group(name, Step::Groups, give_up))
                .collect::<Result<_, _>>()?,
        ),
        (None, Some(user)) => Some(sources.groups_of(user, found.gid, give_up)?),
        (None, None) => found.gid.map(|_| Vec::new()),
    };
    Ok(found)
}

/// The number that a string is, when it is decimal and a valid id. The greatest 32-bit number is
/// none: to the kernel it means "unchanged".
fn number(name: &[u8]) -> Option<u32> {
    let id = u32::try_from(decimal(name)?).ok()?;
    (id != u32::MAX).then_some(id)
}

fn read(path: &Path, step: Step) -> Result<Vec<u8>, Error> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => {
            let path = path.as_os_str().as_encoded_bytes();
            Err(Error::new(step, error.raw_os_error().unwrap_or(0), path))
        }
    }
}

/// `getent` would take it for an option, a path or a line's end.
fn is_name(name: &[u8]) -> bool {
    !name.is_empty()
        && !name.starts_with(b"-")
        && !name.iter().any(|byte| matches!(byte, b':' | b'\n' | 0))
}

impl Sources {
    fn ask(
        &self,
        database: &str,
        name: &[u8],
        step: Step,
        give_up: Option<BorrowedFd<'_>>,
    ) -> Result<Option<Vec<u8>>, Error> {
        match self.getent {
            Some(program) if is_name(name) => getent::ask(program, database, name, give_up)
                .map_err(|errno| Error::new(step, errno, name)),
            _ => Ok(None),
        }
    }

    fn user(&self, name: &[u8], give_up: Option<BorrowedFd<'_>>) -> Result<User, Error> {
        let known = read(&self.passwd, Step::User)?;
        let uid = number(name);
        let mut found = database::users(&known)
            .find(|user| user.name == name)
            .or_else(|| database::users(&known).find(|user| Some(user.uid) == uid));
        if found.is_none() {
            // getent takes a number for a number: the entry must be the one that was meant. Leading
            // zeros are dropped, or it would read them as it likes.
            let asked = uid.map_or_else(|| name.to_vec(), |uid| uid.to_string().into_bytes());
            let answer = self.ask("passwd", &asked, Step::User, give_up)?;
            found = answer.as_deref().and_then(|answer| {
                database::users(answer)
                    .find(|user| user.name == name || Some(user.uid) == uid)
                    .map(|user| User { listed: false, ..user })
            });
        }
        found
            .or_else(|| uid.map(User::without_entry))
            .ok_or_else(|| Error::new(Step::User, 0, name))
    }

    fn group(
        &self,
        name: &[u8],
        step: Step,
        give_up: Option<BorrowedFd<'_>>,
    ) -> Result<u32, Error> {
        let known = read(&self.group, step)?;
        let by_name = |bytes: &[u8]| {
            database::groups(bytes).find(|group| group.name == name).map(|Group { gid, .. }| gid)
        };
        if let Some(gid) = by_name(&known).or_else(|| number(name)) {
            return Ok(gid);
        }
        self.ask("group", name, step, give_up)?
            .as_deref()
            .and_then(by_name)
            .ok_or_else(|| Error::new(step, 0, name))
    }

    /// The user's groups as `initgroups(3)` would set them: the primary one and those that list
    /// the user as a member.
    fn groups_of(
        &self,
        user: &User,
        gid: Option<u32>,
        give_up: Option<BorrowedFd<'_>>,
    ) -> Result<Vec<u32>, Error> {
        let mut groups: Vec<u32> = gid.into_iter().collect();
        let mut add = |gid| {
            if !groups.contains(&gid) {
                groups.push(gid);
            }
        };
        if user.gid.is_none() {
            return Ok(groups);
        }
        let answer = if user.listed {
            None
        } else {
            self.ask("initgroups", &user.name, Step::Groups, give_up)?
        };
        if let Some(answer) = answer {
            // "name   4 27 100"
            let rest = answer.strip_prefix(user.name.as_slice()).unwrap_or(b"");
            crate::procfs::pids(rest).for_each(&mut add);
        } else {
            let known = read(&self.group, Step::Groups)?;
            database::groups(&known)
                .filter(|group| group.has_member(&user.name))
                .for_each(|group| add(group.gid));
        }
        Ok(groups)
    }
}

#[cfg(test)]
mod tests;
