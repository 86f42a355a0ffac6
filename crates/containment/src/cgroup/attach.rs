// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! A run that lives, seen by another process than its guardian: for people in a shell.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{flock, FlockOperation};
use rustix::io::Errno;

use super::beneath::{components, enter, subdirectories};
use super::group::Group;
use super::leftover::is_ours;
use super::mounts::{Hierarchy, Mount};
use super::occupy::Above;
use super::place::Place;
use super::run::Run;
use super::{Limit, Stats};
use crate::{Error, Step};

/// The groups of a run that somebody else holds. Nothing of it is killed or removed by this.
#[derive(Debug)]
pub struct Attached(Run);

fn failed(errno: Errno, path: &[u8]) -> Error {
    Error::new(Step::Cgroup, errno.raw_os_error(), path)
}

impl Attached {
    /// `path` is what [`Program::cgroup_path`](crate::Program::cgroup_path) said, or the
    /// [`Place::Path`](super::Place::Path) that the run was started on. EINVAL for a path that no
    /// run can have, ENOENT where none lives.
    pub fn to(path: &[u8]) -> Result<Self, Error> {
        let mountinfo = std::fs::read("/proc/self/mountinfo");
        let mountinfo = mountinfo.map_err(|_| failed(Errno::IO, b"/proc/self/mountinfo"))?;
        Self::at(&Hierarchy::detect(&mountinfo), path).map_err(|errno| failed(errno, path))
    }

    fn at(hierarchy: &Hierarchy, path: &[u8]) -> Result<Self, Errno> {
        let names = components(path).ok_or(Errno::INVAL)?;
        let mut places = Vec::new();
        for mount in hierarchy.mounts() {
            places.extend(place(mount, &names)?);
        }
        if places.is_empty() {
            return Err(Errno::NOENT);
        }
        Ok(Self(Run::of(path, places)))
    }

    /// What it has used.
    pub fn stats(&self) -> Stats {
        self.0.stats()
    }

    /// As [`Program::update_limits`](crate::Program::update_limits).
    pub fn update_limits(&self, limits: &[Limit]) -> Result<(), Error> {
        self.0.update(limits)
    }

    /// As [`Program::freeze`](crate::Program::freeze).
    pub fn freeze(&self, frozen: bool) -> Result<(), Error> {
        self.0.freeze(frozen)
    }

    /// Whether all of its processes stand still.
    pub fn is_frozen(&self) -> bool {
        self.0.is_frozen()
    }
}

/// Whether a run holds it. A lock of one's own is given back at once.
fn is_held(group: impl AsFd) -> bool {
    match flock(&group, FlockOperation::NonBlockingLockShared) {
        Ok(()) => {
            let _ = flock(&group, FlockOperation::NonBlockingUnlock);
            false
        }
        Err(error) => error == Errno::WOULDBLOCK,
    }
}

/// The run's group in one hierarchy, if it has one there.
fn place(mount: &Mount, names: &[CString]) -> Result<Option<Place>, Errno> {
    let Ok(mut group) = mount.open() else { return Ok(None) };
    let mut above: Option<OwnedFd> = None;
    for name in names {
        let inner = match enter(&group, name) {
            Err(Errno::NOENT) => return Ok(None),
            result => result?,
        };
        above = Some(std::mem::replace(&mut group, inner));
    }
    if !names.last().is_some_and(is_ours) {
        let Some(leaf) = subdirectories(&group).into_iter().find(is_ours) else { return Ok(None) };
        let inner = enter(&group, &leaf)?;
        above = Some(std::mem::replace(&mut group, inner));
        // A base may have many runs below it, and it is not said which.
        if !above.as_ref().is_some_and(is_held) {
            return Err(Errno::INVAL);
        }
    }
    if !is_held(&group) {
        return Ok(None);
    }
    let above = above.filter(|above| is_held(above)).map(Above::of_another).transpose()?;
    Ok(Some(Place::of_another(mount, Group::new(group, mount.version, true), above)))
}
