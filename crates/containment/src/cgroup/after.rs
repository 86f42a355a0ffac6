// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! After a guardian's own death: its run's group is cleaned at once, and not at the next start.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;

use super::beneath::{components, enter};
use super::group::Group;
use super::leftover::{clean, is_ours, remove_if_made, Cleaned};
use super::mounts::{Hierarchy, Mount};
use super::patience::Patience;

/// Kills and removes the group of a run whose guardian is dead, waiting for no longer than `wait`.
///
/// `path` is what [`Program::cgroup_path`](crate::Program::cgroup_path) said; it is looked for in
/// every hierarchy. The answer are the processes that could not be killed. EBUSY when the guardian
/// lives after all, whose group is left alone, or the group can't be removed; EINVAL for a path
/// that no run can have had.
pub fn clean_after(path: &[u8], wait: Duration) -> std::io::Result<Vec<u32>> {
    let mountinfo = std::fs::read("/proc/self/mountinfo")?;
    Ok(clean_at(&Hierarchy::detect(&mountinfo), path, wait)?)
}

pub(super) fn clean_at(
    hierarchy: &Hierarchy,
    path: &[u8],
    wait: Duration,
) -> Result<Vec<u32>, Errno> {
    let names = components(path).ok_or(Errno::INVAL)?;
    let (leaf, above) = names.split_last().ok_or(Errno::INVAL)?;
    if !is_ours(leaf) {
        return Err(Errno::INVAL);
    }
    let mut mounts: Vec<&Mount> = hierarchy.v1().iter().chain(hierarchy.tree()).collect();
    mounts.sort_by(|a, b| a.point.cmp(&b.point));
    mounts.dedup_by(|a, b| a.point == b.point);
    let patience = Patience::new(wait, None);
    let mut left = Vec::new();
    let mut is_busy = false;
    for mount in mounts {
        // Every group on the way, the mount's own root first.
        let Ok(top) = mount.open() else { continue };
        let mut way: Vec<OwnedFd> = vec![top];
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
            Ok(Cleaned::Stuck) => {
                let members = enter(group, leaf).map(|fd| Group::new(fd, mount.version, true));
                let members = members.map(|group| group.members()).unwrap_or_default();
                is_busy |= members.is_empty();
                left.extend(members);
            }
            Ok(Cleaned::Live) | Err(_) => is_busy = true,
        }
    }
    left.sort_unstable();
    left.dedup();
    if is_busy && left.is_empty() {
        return Err(Errno::BUSY);
    }
    Ok(left)
}
