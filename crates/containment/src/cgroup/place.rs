// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! A run's place in one hierarchy: found, made, locked, and removed again.
//!
//! The program always runs in a group that was made for this run. With a base that group has the
//! limits as well. With a path the limits are on the path's group, which may have been there
//! before, and the program is in a leaf below it: version 2 wants processes in leaves only, and on
//! either version it makes clear whom the end of the run may kill.

use std::ffi::CString;
use std::os::fd::OwnedFd;

use rustix::fs::{openat, Mode, OFlags};
use rustix::io::Errno;

use super::beneath::{enter, is_marked, is_still, make, mark, remove};
use super::group::{remove_inside, Group};
use super::leftover::{lock, sweep};
use super::mounts::{Mount, Version};
use super::occupy::{occupy, Above};
use super::patience::{HungUp, Patience};
use super::settings;
use super::subtree::{enable, has};
use super::translate::Write;
use crate::stdio::above_stdio;
use crate::{Error, Step};

/// What is wanted of one mount.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) mount: &'a Mount,
    /// As they are called there.
    pub(super) controllers: Vec<&'a [u8]>,
}

/// Where in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    /// For errors: the path that was given.
    pub(super) path: &'a [u8],
    pub(super) names: &'a [CString],
    /// Whether it is this process's own group.
    pub(super) is_own: bool,
    /// Whether the path is the group with the limits.
    pub(super) is_path: bool,
    /// Whether a path is made where it is missing.
    pub(super) makes_way: bool,
    /// The name of the new group.
    pub(super) fresh: &'a CString,
    pub(super) with_kill_file: bool,
    pub(super) patience: Patience<'a>,
}

/// Why there is no place.
#[derive(Debug)]
pub(super) enum Refusal {
    Failed(Error),
    /// A run of ours that is about to end has it.
    Dying,
    /// A run of ours that lives has it.
    Held,
    /// Somebody else made or removed something at the same moment.
    Again,
}

impl From<HungUp> for Refusal {
    fn from(_: HungUp) -> Self {
        Self::Failed(Error::new(Step::Cgroup, libc::ECANCELED, b"".as_slice()))
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// A directory that was made, and can be removed again.
#[derive(Debug)]
struct Made {
    parent: OwnedFd,
    name: CString,
}

/// A run's place in one hierarchy.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) controllers: Vec<Vec<u8>>,
    /// Where the program is.
    pub(super) group: Group,
    /// With a path.
    above: Option<Above>,
    /// What was made, outermost first; the last one is the program's group.
    made: Vec<Made>,
}

/// What was made on the way to a place. Unless it is kept, it is removed again.
struct Way {
    made: Vec<Made>,
    /// Every group on it.
    walked: Vec<(Made, OwnedFd)>,
    is_cpuset: bool,
}

impl Drop for Way {
    fn drop(&mut self) {
        remove_made(&self.made);
    }
}

/// Removes directories, innermost first, up to one in which somebody else has made a group since:
/// then it is theirs.
fn remove_made(made: &[Made]) {
    for made in made.iter().rev() {
        if remove(&made.parent, &made.name).is_err() {
            return;
        }
    }
}

fn copy(fd: &OwnedFd) -> Result<OwnedFd, Errno> {
    fd.try_clone().map_err(|_| Errno::MFILE)
}

impl Way {
    /// It is removed in the end, unless somebody has made a group in it.
    fn note(&mut self, parent: &OwnedFd, name: &CString) -> Result<(), Errno> {
        self.made.push(Made { parent: copy(parent)?, name: name.clone() });
        Ok(())
    }

    fn walk(&mut self, parent: &OwnedFd, name: &CString, fd: &OwnedFd) -> Result<(), Errno> {
        let place = Made { parent: copy(parent)?, name: name.clone() };
        self.walked.push((place, copy(fd)?));
        Ok(())
    }

    /// Whether nobody has removed a group on it since.
    fn is_still_there(&self) -> bool {
        self.walked.iter().all(|(place, fd)| is_still(&place.parent, &place.name, fd))
    }

    /// Makes a group and opens it. One of the cpuset controller of version 1 can't be entered
    /// before it has CPUs and nodes; it gets those of the group that it is in.
    fn make(&mut self, parent: &OwnedFd, name: &CString) -> Result<OwnedFd, Errno> {
        make(parent, name)?;
        self.note(parent, name)?;
        let fd = enter(parent, name)?;
        if self.is_cpuset {
            for file in [c"cpuset.cpus", c"cpuset.mems"] {
                if settings::read(&fd, file)?.trim_ascii().is_empty() {
                    let above = settings::read(parent, file)?;
                    settings::write(&fd, file, above.trim_ascii())?;
                }
            }
        }
        Ok(fd)
    }
}

/// Makes a place. What is refused leaves nothing behind.
pub(super) fn place(wanted: &Wanted<'_>, target: &Target<'_>) -> Result<Place, Refusal> {
    let is_cpuset =
        wanted.mount.version == Version::V1 && wanted.controllers.contains(&b"cpuset".as_slice());
    let mut way = Way { made: Vec::new(), walked: Vec::new(), is_cpuset };
    match place_on(&mut way, wanted, target) {
        // In a group that the end of another run has just removed nothing works.
        Err(Refusal::Failed(_)) if target.makes_way && !way.is_still_there() => Err(Refusal::Again),
        result => result,
    }
}

fn place_on(way: &mut Way, wanted: &Wanted<'_>, target: &Target<'_>) -> Result<Place, Refusal> {
    let version = wanted.mount.version;
    let here =
        |errno: Errno| Refusal::Failed(Error::new(Step::Cgroup, errno.raw_os_error(), target.path));
    let mut fd = wanted.mount.open().map_err(|errno| {
        Error::new(Step::Cgroup, errno.raw_os_error(), wanted.mount.point.as_slice())
    })?;
    let mut parent: Option<OwnedFd> = None;
    for (depth, name) in target.names.iter().enumerate() {
        let inner = match enter(&fd, name) {
            Err(Errno::NOENT) if target.makes_way => {
                enable(&fd, wanted, target.names.get(..depth).unwrap_or_default())?;
                let made = match way.make(&fd, name) {
                    // Another start was quicker, or an end removed what this one is in.
                    Err(Errno::EXIST | Errno::NOENT) => return Err(Refusal::Again),
                    result => result.map_err(here)?,
                };
                mark(&made);
                made
            }
            result => {
                let there = result.map_err(here)?;
                // Made by a run that has crashed, or by one that will not be the last to use it.
                if target.makes_way && is_marked(&there) {
                    way.note(&fd, name).map_err(here)?;
                }
                there
            }
        };
        way.walk(&fd, name, &inner).map_err(here)?;
        parent = Some(std::mem::replace(&mut fd, inner));
    }
    let above = match (target.names.split_last(), parent) {
        (Some((name, before)), Some(parent)) if target.is_path => {
            if !has(&fd, wanted) {
                enable(&parent, wanted, before)?;
            }
            Some(occupy(&parent, name, copy(&fd).map_err(here)?, version, target)?)
        }
        _ => {
            enable(&fd, wanted, target.names)?;
            sweep(&fd, version, target.with_kill_file, target.patience)?;
            None
        }
    };
    if above.is_some() && wanted.controllers.contains(&b"memory".as_slice()) {
        inherit_limits(&fd, version).map_err(here)?;
    }
    let leaf = match way.make(&fd, target.fresh) {
        // The name is another namespace's; or the path's group is gone, because a start that made
        // it and came second for its lock has removed it.
        Err(Errno::EXIST | Errno::NOENT) => return Err(Refusal::Again),
        result => result.map_err(here)?,
    };
    // A sweep may have found it before it was locked, and removed it.
    if !lock(&leaf).map_err(here)? || !is_still(&fd, target.fresh, &leaf) {
        return Err(Refusal::Again);
    }
    Ok(Place {
        controllers: wanted.controllers.iter().map(|name| name.to_vec()).collect(),
        group: Group::new(leaf, version, target.with_kill_file),
        above,
        made: std::mem::take(&mut way.made),
    })
}

/// Before 5.11 a memory group of version 1 limits those inside only when it is told to.
fn inherit_limits(fd: &OwnedFd, version: Version) -> Result<(), Errno> {
    let file = c"memory.use_hierarchy";
    match settings::read(fd, file) {
        Ok(value) if version == Version::V1 && value.trim_ascii() == b"0" => {
            settings::write(fd, file, b"1")
        }
        _ => Ok(()),
    }
}

impl Place {
    /// That of a run which another process holds, who will remove it.
    pub(super) fn of_another(mount: &Mount, group: Group, above: Option<Above>) -> Self {
        Self { controllers: mount.controllers.clone(), group, above, made: Vec::new() }
    }

    /// The group that has the limits.
    pub(super) fn limits(&self) -> &OwnedFd {
        self.above.as_ref().map_or(&self.group.fd, |above| &above.fd)
    }

    /// Writes one value, and sees that the kernel kept it.
    pub(super) fn set(&self, write: &Write) -> Result<(), Error> {
        let key = |errno| Error::new(Step::Cgroup, errno, write.key.as_slice());
        settings::apply(self.limits(), &write.file, &write.value).map_err(key)?;
        // Throttles of version 1 don't reach the groups inside.
        if self.above.is_some() && write.file.as_bytes().starts_with(b"blkio.throttle.") {
            settings::apply(&self.group.fd, &write.file, &write.value).map_err(key)?;
        }
        Ok(())
    }

    /// The descriptor through which a child enters the group, opened before the fork.
    pub(super) fn door(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let door = openat(&self.group.fd, c"cgroup.procs", flags, Mode::empty())?;
        above_stdio(door).map_err(|_| Errno::MFILE)
    }

    /// From now on a start on the same path waits for this run's end instead of being refused.
    pub(super) fn is_about_to_end(&self) {
        if let Some(above) = &self.above {
            let _ = rustix::fs::flock(&above.life, rustix::fs::FlockOperation::NonBlockingUnlock);
        }
    }

    /// How often the OOM killer struck, since whenever.
    pub(super) fn ooms(&self) -> u64 {
        match (&self.above, self.group.version) {
            // The leaf has no memory controller of its own: version 2 counts above it.
            (Some(above), Version::V2) => {
                above.fd.try_clone().map_or(0, |fd| Group::new(fd, Version::V2, true).ooms())
            }
            _ => self.group.ooms(),
        }
    }

    /// Removes what was made, and the groups that the program made in its own.
    pub(super) fn remove(&self) -> Result<(), Errno> {
        remove_inside(&self.group.fd)?;
        let Some((itself, above)) = self.made.split_last() else {
            return Ok(());
        };
        remove(&itself.parent, &itself.name)?;
        remove_made(above);
        Ok(())
    }
}
