// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! After a guardian's own death: its run's group is cleaned at once, and not at the next start.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;

use super::beneath::{components, enter};
use super::leftover::{clean, is_ours, remove_if_made, Cleaned};
use super::mounts::{Found, Hierarchy, Mount};
use super::patience::Patience;

/// Kills and removes the group of a run whose guardian is dead, waiting for no longer than `wait`.
///
/// `path` is what [`Program::cgroup_path`](crate::Program::cgroup_path) said, `controllers` what
/// was asked for. `Ok(false)` when something is still there: a process that can't be killed, or a
/// guardian that lives after all, whose group is left alone. A path that no run can have had is an
/// error.
pub fn clean_after(controllers: &[Vec<u8>], path: &[u8], wait: Duration) -> std::io::Result<bool> {
    let mountinfo = std::fs::read("/proc/self/mountinfo")?;
    Ok(clean_at(&Hierarchy::detect(&mountinfo), controllers, path, wait)?)
}

pub(super) fn clean_at(
    hierarchy: &Hierarchy,
    controllers: &[Vec<u8>],
    path: &[u8],
    wait: Duration,
) -> Result<bool, Errno> {
    let names = components(path).ok_or(Errno::INVAL)?;
    let (leaf, above) = names.split_last().ok_or(Errno::INVAL)?;
    if !is_ours(leaf) {
        return Err(Errno::INVAL);
    }
    let mut mounts: Vec<&Mount> = controllers
        .iter()
        .filter_map(|controller| hierarchy.find(controller))
        .map(|(Found::At(mount, _) | Found::Core(mount))| mount)
        .chain(hierarchy.tree())
        .collect();
    mounts.sort_by(|a, b| a.point.cmp(&b.point));
    mounts.dedup_by(|a, b| a.point == b.point);
    let patience = Patience::new(wait, None);
    let mut is_clean = true;
    for mount in mounts {
        // Every group on the way, the mount's own root first.
        let mut way: Vec<OwnedFd> = vec![mount.open()?];
        let walked = above.iter().try_for_each(|name| {
            let inner = enter(way.last().ok_or(Errno::NOENT)?, name)?;
            way.push(inner);
            Ok(())
        });
        match walked {
            Ok(()) => {}
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(error),
        }
        let Some(group) = way.last() else { continue };
        match clean(group, leaf, mount.version, true, patience) {
            Ok(Cleaned::Gone) => {
                if let ([.., parent, _], Some(last)) = (way.as_slice(), above.last()) {
                    remove_if_made(parent, last);
                }
            }
            _ => is_clean = false,
        }
    }
    Ok(is_clean)
}
