// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! After a guardian's own death: its run's group is cleaned at once, and not at the next start.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::beneath::{components, enter};
use super::leftover::{is_ours, remove_if_made, Cleaned, Leftover};
use super::mounts::{Hierarchy, Mount};

/// The group of a run whose guardian is dead, in every hierarchy, on its way out.
#[derive(Debug)]
pub struct Cleaning {
    places: Vec<Place>,
    /// A guardian lives after all, or a group can't be removed.
    is_busy: bool,
}

/// The group in one hierarchy.
#[derive(Debug)]
struct Place {
    leftover: Leftover,
    /// The group above, in its own parent: a path's, if it was made by a run.
    above: Option<(OwnedFd, CString)>,
}

impl Cleaning {
    /// Begins. `path` is what [`Program::cgroup_path`](crate::Program::cgroup_path) said, or
    /// [`Around::announce`](crate::Around::announce) was told; it is looked for in every hierarchy.
    /// EINVAL for a path that no run can have had.
    pub fn begin(path: &[u8]) -> std::io::Result<Self> {
        let mountinfo = std::fs::read("/proc/self/mountinfo")?;
        Ok(Self::begin_at(&Hierarchy::detect(&mountinfo), path)?)
    }

    fn begin_at(hierarchy: &Hierarchy, path: &[u8]) -> Result<Self, Errno> {
        let names = components(path).ok_or(Errno::INVAL)?;
        let (leaf, above) = names.split_last().ok_or(Errno::INVAL)?;
        if !is_ours(leaf) {
            return Err(Errno::INVAL);
        }
        let mut cleaning = Self { places: Vec::new(), is_busy: false };
        for mount in hierarchy.mounts() {
            cleaning.add(mount, above, leaf)?;
        }
        Ok(cleaning)
    }

    fn add(&mut self, mount: &Mount, above: &[CString], leaf: &CString) -> Result<(), Errno> {
        let Ok(mut group) = mount.open() else { return Ok(()) };
        let mut parent = None;
        for name in above {
            let inner = match enter(&group, name) {
                Err(Errno::NOENT) => return Ok(()),
                result => result?,
            };
            parent = Some((std::mem::replace(&mut group, inner), name.clone()));
        }
        match Leftover::take(&group, leaf, mount.version, true) {
            Ok(leftover) => self.places.push(Place { leftover, above: parent }),
            // That of a path may have been left by one that was quicker to go.
            Err(Cleaned::Gone) => remove_above(parent),
            Err(Cleaned::Live | Cleaned::Stuck) => self.is_busy = true,
        }
        Ok(())
    }

    /// Goes on; `true` when all is done that can be. Otherwise it is called again, in about a
    /// millisecond, for as long as the caller wants to. Never blocks.
    pub fn step(&mut self) -> bool {
        let places = std::mem::take(&mut self.places);
        for place in places {
            match place.leftover.step() {
                None => self.places.push(place),
                Some(Cleaned::Gone) => remove_above(place.above),
                Some(Cleaned::Live | Cleaned::Stuck) => self.is_busy = true,
            }
        }
        self.places.is_empty()
    }

    /// The processes that are still there. EBUSY when there are none, and yet something is: the
    /// guardian lives after all, and its group was left alone; or a group can't be removed.
    pub fn left(&self) -> std::io::Result<Vec<u32>> {
        let mut left: Vec<u32> =
            self.places.iter().flat_map(|place| place.leftover.members()).collect();
        left.sort_unstable();
        left.dedup();
        if left.is_empty() && (self.is_busy || !self.places.is_empty()) {
            return Err(Errno::BUSY.into());
        }
        Ok(left)
    }
}

fn remove_above(above: Option<(OwnedFd, CString)>) {
    if let Some((parent, name)) = above {
        remove_if_made(&parent, &name);
    }
}

/// Kills and removes the group of a run whose guardian is dead, waiting for no longer than `wait`.
/// The answer is that of [`Cleaning::left`].
pub fn clean_after(path: &[u8], wait: Duration) -> std::io::Result<Vec<u32>> {
    finish(Cleaning::begin(path)?, wait)
}

#[cfg(test)]
pub(super) fn clean_at(
    hierarchy: &Hierarchy,
    path: &[u8],
    wait: Duration,
) -> std::io::Result<Vec<u32>> {
    finish(Cleaning::begin_at(hierarchy, path)?, wait)
}

fn finish(mut cleaning: Cleaning, wait: Duration) -> std::io::Result<Vec<u32>> {
    let deadline = Instant::now() + wait;
    while !cleaning.step() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    cleaning.left()
}
