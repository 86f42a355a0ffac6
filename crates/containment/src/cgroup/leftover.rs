// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! The names and the locks of our groups, and what becomes of those whose run has crashed.
//!
//! Whoever runs a program holds a `flock` on its group's directory; the kernel drops it with the
//! process, however that ends. So a group that has a name of ours and whose lock is free is
//! nobody's: it is killed and removed. Names alone would not do, nor would the pid in them:
//! containers that share a base have processes with the same numbers.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::fs::{flock, FlockOperation};
use rustix::io::Errno;
use rustix::process::getpid;
use rustix::time::{clock_gettime, ClockId};

use super::beneath::{enter, is_marked, is_still, remove, subdirectories};
use super::group::{remove_inside, Group};
use super::mounts::Version;
use super::patience::{HungUp, Patience};

const PREFIX: &[u8] = b"proton-";

/// A name that no other run has: the pid is another in each process of a PID namespace, and the
/// clock another in each run of a process. For namespaces that share a base there is mkdir, which
/// fails where the name exists.
pub(super) fn fresh_name() -> CString {
    let now = clock_gettime(ClockId::Monotonic);
    let pid = getpid().as_raw_nonzero();
    let name = format!("proton-{pid}-{:x}{:08x}", now.tv_sec, now.tv_nsec);
    CString::new(name).unwrap_or_default()
}

/// Whether a name is one of those.
pub(super) fn is_ours(name: &CString) -> bool {
    let Some(rest) = name.as_bytes().strip_prefix(PREFIX) else {
        return false;
    };
    let mut parts = rest.split(|&byte| byte == b'-');
    let (Some(pid), Some(clock), None) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let is_hex = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
    !pid.is_empty()
        && pid.iter().all(u8::is_ascii_digit)
        && clock.len() >= 9
        && clock.iter().all(is_hex)
}

/// Takes a lock that is held until the descriptor is closed; `false` when another process has it.
pub(super) fn lock(fd: impl AsFd) -> Result<bool, Errno> {
    match flock(fd, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What became of a group with a name of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cleaned {
    /// It is gone.
    Gone,
    /// A run has it.
    Live,
    /// Something in it can't be killed, or it can't be removed.
    Stuck,
}

/// A group that is nobody's, on its way out. Its lock is held meanwhile.
#[derive(Debug)]
pub(super) struct Leftover {
    parent: OwnedFd,
    name: CString,
    group: Group,
}

impl Leftover {
    /// Takes a group over, if it is nobody's.
    pub(super) fn take(
        parent: &OwnedFd,
        name: &CString,
        version: Version,
        with_kill_file: bool,
    ) -> Result<Self, Cleaned> {
        let fd = match enter(parent, name) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Err(Cleaned::Gone),
            Err(_) => return Err(Cleaned::Stuck),
        };
        match lock(&fd) {
            Ok(true) => {}
            Ok(false) => return Err(Cleaned::Live),
            Err(_) => return Err(Cleaned::Stuck),
        }
        // The one before us removed it, and perhaps made another.
        if !is_still(parent, name, &fd) {
            return Err(Cleaned::Gone);
        }
        let group = Group::new(fd, version, with_kill_file);
        if group.has_this_process() {
            return Err(Cleaned::Live);
        }
        let parent = parent.try_clone().map_err(|_| Cleaned::Stuck)?;
        Ok(Self { parent, name: name.clone(), group })
    }

    /// One round; `None` when another is needed in about a millisecond.
    pub(super) fn step(&self) -> Option<Cleaned> {
        if self.group.is_populated() {
            self.group.kill();
            return None;
        }
        let removed = remove_inside(&self.group.fd).and_then(|()| remove(&self.parent, &self.name));
        match removed {
            Ok(()) => Some(Cleaned::Gone),
            // For some 100 µs after the last death.
            Err(Errno::BUSY) => None,
            Err(_) => Some(Cleaned::Stuck),
        }
    }

    /// Who is still in it.
    pub(super) fn members(&self) -> Vec<u32> {
        self.group.members()
    }
}

/// Kills and removes a group, if it is nobody's.
pub(super) fn clean(
    parent: &OwnedFd,
    name: &CString,
    version: Version,
    with_kill_file: bool,
    patience: Patience<'_>,
) -> Result<Cleaned, HungUp> {
    let leftover = match Leftover::take(parent, name, version, with_kill_file) {
        Ok(leftover) => leftover,
        Err(cleaned) => return Ok(cleaned),
    };
    loop {
        if let Some(cleaned) = leftover.step() {
            return Ok(cleaned);
        }
        if !patience.pause(Duration::from_millis(1))? {
            return Ok(Cleaned::Stuck);
        }
    }
}

/// Removes a path's group that a run had made and nobody uses.
pub(super) fn remove_if_made(parent: &OwnedFd, name: &CString) {
    let Ok(fd) = enter(parent, name) else {
        return;
    };
    if is_marked(&fd) && lock(&fd) == Ok(true) && is_still(parent, name, &fd) {
        // One that has groups or processes is busy.
        let _ = remove(parent, name);
    }
}

/// How long all of a base's crashed runs may hold up a start. What is left over is there for the
/// next one: this start's own group doesn't depend on it.
const SWEEP: Duration = Duration::from_millis(250);

/// Cleans what crashed runs have left below a base.
pub(super) fn sweep(
    base: &OwnedFd,
    version: Version,
    with_kill_file: bool,
    patience: Patience<'_>,
) -> Result<(), HungUp> {
    let patience = patience.at_most(SWEEP);
    for name in subdirectories(base).iter().filter(|name| is_ours(name)) {
        clean(base, name, version, with_kill_file, patience)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_names_are_ours_and_no_others() {
        assert!(is_ours(&fresh_name()));
        for name in ["proton-1-123456789", "proton-4194304-fffffffff0"] {
            assert!(is_ours(&CString::new(name).expect("plain")), "{name}");
        }
        for name in [
            "proton-",
            "proton-1",
            "proton-1-",
            "proton-1-12345678",
            "proton-1-12345678G",
            "proton-x-123456789",
            "proton--123456789",
            "proton-1-123456789-",
            "proton-1-123456789-1",
            "xproton-1-123456789",
            "proton_stream_test",
            "Proton-1-123456789",
        ] {
            assert!(!is_ours(&CString::new(name).expect("plain")), "{name}");
        }
    }
}
