// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Which cgroups this process could use.

use std::ffi::CString;
use std::os::fd::OwnedFd;

use rustix::fs::{accessat, Access, AtFlags};
use rustix::process::geteuid;

use super::beneath::{enter, subdirectories};
use super::mounts::{Hierarchy, Mount};
use super::own;
use crate::survey::Check;

/// How deep, and how many, groups are looked for that could be a base.
const DEPTH: usize = 5;
const MOST_BASES: usize = 4;

/// What a base is usually wanted for.
const USEFUL: [&str; 5] = ["cpu", "cpuacct", "freezer", "memory", "pids"];

/// Looks for hierarchies, the own group, and bases.
pub(crate) fn survey() -> Vec<Check> {
    let mountinfo = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let hierarchy = Hierarchy::detect(&mountinfo);
    if hierarchy == Hierarchy::None {
        let remedy = "mount -t cgroup2 cgroup2 /sys/fs/cgroup";
        return vec![Check::missing("cgroups", "no cgroup file system is mounted", remedy)];
    }
    let mut mounts: Vec<&Mount> = hierarchy.v1().iter().chain(hierarchy.tree()).collect();
    // Those of no use for limits: systemd's own, and a tree without controllers.
    mounts.retain(|mount| mount.controllers.iter().any(|name| !name.starts_with(b"name=")));
    let memberships = std::fs::read("/proc/self/cgroup").unwrap_or_default();
    let mut checks = vec![Check::there("cgroups", described(&hierarchy))];
    checks.push(pressure());
    checks.push(own_group(&mounts, &memberships));
    checks.push(bases(&mounts));
    checks
}

fn names(mount: &Mount) -> String {
    let names = mount.controllers.iter().map(|name| name.escape_ascii().to_string());
    names.collect::<Vec<_>>().join(",")
}

fn described(hierarchy: &Hierarchy) -> String {
    let old: Vec<String> = hierarchy.v1().iter().map(names).collect();
    let point = |tree: &Mount| tree.point.escape_ascii().to_string();
    match hierarchy {
        Hierarchy::None => String::new(),
        Hierarchy::V1(_) => format!("version 1: {}", old.join(" ")),
        Hierarchy::V2(tree) => format!("version 2 at {}: {}", point(tree), names(tree)),
        Hierarchy::Hybrid(_, tree) => {
            let new = names(tree);
            format!("version 1: {}; version 2 at {}: {new}", old.join(" "), point(tree))
        }
    }
}

fn pressure() -> Check {
    match std::fs::read("/proc/pressure/cpu") {
        Ok(_) => Check::there("pressure", "stall times are counted on version 2"),
        Err(_) => Check::missing("pressure", "stall times are not counted", "boot with psi=1"),
    }
}

/// Where `limits` need no base.
fn own_group(mounts: &[&Mount], memberships: &[u8]) -> Check {
    let (mut usable, mut refused) = (Vec::new(), None);
    for mount in mounts {
        let Some(path) = own::own_path(mount, memberships) else { continue };
        if own::open(mount, &path).is_ok() {
            usable.push(names(mount));
        } else {
            refused.get_or_insert_with(|| own::advice(mount, &path));
        }
    }
    match refused {
        _ if !usable.is_empty() => {
            Check::there("own cgroup", format!("limits need no base for {}", usable.join(" ")))
        }
        Some((found, remedy)) => Check::missing("own cgroup", found, remedy),
        None => Check::missing(
            "own cgroup",
            "it can't be seen from here",
            "start the container with its own cgroup namespace, writable",
        ),
    }
}

fn bases(mounts: &[&Mount]) -> Check {
    let mut found = Vec::new();
    let mut missing = Vec::new();
    for mount in mounts {
        let mut here = Vec::new();
        match mount.open() {
            Ok(top) if is_writable(&top) => here.push("anywhere".into()),
            Ok(top) => look(&top, &mut Vec::new(), &mut here),
            Err(_) => {}
        }
        if here.is_empty() {
            let useful = |name: &&Vec<u8>| USEFUL.iter().any(|useful| useful.as_bytes() == **name);
            let useful = mount.controllers.iter().filter(useful);
            missing.extend(useful.map(|name| name.escape_ascii().to_string()));
        } else {
            found.push(format!("{}: {}", names(mount), here.join(" ")));
        }
    }
    let user = if geteuid().is_root() { "root" } else { "$(whoami)" };
    let command = format!("sudo cgcreate -a {user} -g {}:proton", missing.join(","));
    if found.is_empty() {
        return Check::missing("cgroup bases", "no group is writable", command);
    }
    let remedy = (!missing.is_empty()).then_some(command);
    Check { remedy, ..Check::there("cgroup bases", found.join("; ")) }
}

/// Whether this user may make groups in it.
fn is_writable(fd: &OwnedFd) -> bool {
    accessat(fd, c".", Access::WRITE_OK, AtFlags::EACCESS).is_ok()
}

/// Groups in which this user may make groups. Not what is inside of such a one.
fn look(fd: &OwnedFd, path: &mut Vec<CString>, found: &mut Vec<String>) {
    for name in subdirectories(fd) {
        if found.len() >= MOST_BASES {
            return;
        }
        let Ok(inner) = enter(fd, &name) else { continue };
        path.push(name);
        if is_writable(&inner) {
            let names: Vec<_> = path.iter().map(|name| name.to_string_lossy()).collect();
            found.push(names.join("/"));
        } else if path.len() < DEPTH {
            look(&inner, path, found);
        }
        path.pop();
    }
}
