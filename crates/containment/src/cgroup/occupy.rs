// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! A path's group, and whose it is.

use std::ffi::CString;
use std::os::fd::OwnedFd;

use rustix::fs::{openat, Mode, OFlags};
use rustix::io::Errno;

use super::beneath::{enter, is_still, subdirectories};
use super::group::{processes, Group};
use super::leftover::{clean, is_ours, lock, Cleaned};
use super::mounts::Version;
use super::place::{Refusal, Target};
use crate::{Error, Step};

/// A path's group. Both locks are held until this is dropped or the process ends.
#[derive(Debug)]
pub(super) struct Above {
    /// Locked as long as this run has the path.
    pub(super) fd: OwnedFd,
    /// Its `cgroup.procs`, locked as long as this run is not about to end.
    pub(super) life: OwnedFd,
}

impl Above {
    /// That of a run which another process holds.
    pub(super) fn of_another(fd: OwnedFd) -> Result<Self, Errno> {
        let life = fd.try_clone().map_err(|_| Errno::MFILE)?;
        Ok(Self { fd, life })
    }
}

/// Makes a path's group this run's. Before this has succeeded nothing in it may be touched.
///
/// 1. Its lock. Another run that has it may be about to end; then it has let go of the second
///    lock, and its path is worth waiting for.
/// 2. It must still be there: an end removes the group that it made, and unlocks it after that.
/// 3. Nobody may be in it. What a crashed run of ours left in a leaf is killed and removed.
pub(super) fn occupy(
    parent: &OwnedFd,
    name: &CString,
    fd: OwnedFd,
    version: Version,
    target: &Target<'_>,
) -> Result<Above, Refusal> {
    let here =
        |errno: Errno| Refusal::Failed(Error::new(Step::Cgroup, errno.raw_os_error(), target.path));
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let life = match openat(&fd, c"cgroup.procs", flags, Mode::empty()) {
        // It was removed since it was opened.
        Err(Errno::NODEV) => return Err(Refusal::Again),
        Err(Errno::NOENT) if !is_still(parent, name, &fd) => return Err(Refusal::Again),
        result => result.map_err(here)?,
    };
    if !lock(&fd).map_err(here)? {
        let is_dying = lock(&life).map_err(here)?;
        return Err(if is_dying { Refusal::Dying } else { Refusal::Held });
    }
    // The second lock may be held for a moment by a start that has just asked for it.
    if !is_still(parent, name, &fd) || !lock(&life).map_err(here)? {
        return Err(Refusal::Again);
    }
    if !processes(&fd).is_empty() {
        return Err(here(Errno::BUSY));
    }
    for inside in subdirectories(&fd) {
        let is_free = if is_ours(&inside) {
            let cleaned = clean(&fd, &inside, version, target.with_kill_file, target.patience)?;
            cleaned == Cleaned::Gone
        } else {
            // Somebody else's. Without processes it is nobody's concern.
            match enter(&fd, &inside) {
                Ok(group) => !Group::new(group, version, true).is_populated(),
                Err(error) => error == Errno::NOENT,
            }
        };
        if !is_free {
            return Err(here(Errno::BUSY));
        }
    }
    Ok(Above { fd, life })
}
