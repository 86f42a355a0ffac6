// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Version 2 gives a group the controllers that the group above has enabled for those inside it.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

use super::group::processes;
use super::mounts::Version;
use super::place::Wanted;
use super::settings;
use crate::{Error, Step};

fn names(fd: &OwnedFd, file: &CStr) -> Vec<Vec<u8>> {
    let text = settings::read(fd, file).unwrap_or_default();
    let words = text.split(u8::is_ascii_whitespace);
    words.filter(|word| !word.is_empty()).map(<[u8]>::to_vec).collect()
}

/// Whether a group has the controllers that are wanted.
pub(super) fn has(fd: &OwnedFd, wanted: &Wanted<'_>) -> bool {
    let there = names(fd, c"cgroup.controllers");
    wanted.mount.version == Version::V1
        || wanted.controllers.iter().all(|wanted| there.iter().any(|name| name == wanted))
}

/// Enables the controllers that are wanted for the groups inside a group, which is at `path` below
/// the mount. Only there: what the groups above it allow is their owner's decision, so that where
/// one of them must be changed the error is the command for it.
///
/// What was enabled stays: other runs may rely on it by now.
pub(super) fn enable(fd: &OwnedFd, wanted: &Wanted<'_>, path: &[CString]) -> Result<(), Error> {
    if wanted.mount.version == Version::V1 || wanted.controllers.is_empty() {
        return Ok(());
    }
    // Below a group that has processes none can enter a group, once it has controllers. Most
    // controllers can't be enabled then, but cpu and pids can, which would break every group that
    // is inside already. The kernel's own root, which is the one without a type, is exempt.
    if settings::read(fd, c"cgroup.type").is_ok() && !processes(fd).is_empty() {
        let errno = rustix::io::Errno::BUSY.raw_os_error();
        return Err(Error::new(Step::Cgroup, errno, below(path, b"cgroup.procs")));
    }
    let enabled = names(fd, c"cgroup.subtree_control");
    let there = names(fd, c"cgroup.controllers");
    for name in &wanted.controllers {
        if enabled.iter().any(|known| known == name) {
            continue;
        }
        if !there.iter().any(|known| known == name) {
            return Err(Error::new(Step::Cgroup, libc::ENOENT, advice(wanted, name, path)));
        }
        // One at a time: in one write a refused one would take the others with it, unnamed.
        let line = [b"+".as_slice(), name].concat();
        if let Err(errno) = settings::write(fd, c"cgroup.subtree_control", &line) {
            let file = below(path, b"cgroup.subtree_control");
            return Err(Error::new(Step::Cgroup, errno.raw_os_error(), file));
        }
    }
    Ok(())
}

fn path_below(path: &[CString]) -> Vec<&[u8]> {
    path.iter().map(|name| name.as_bytes()).collect()
}

fn below(path: &[CString], file: &[u8]) -> Vec<u8> {
    let mut names = path_below(path);
    names.push(file);
    names.join(b"/".as_slice())
}

/// Which command would make a controller available in a group.
fn advice(wanted: &Wanted<'_>, name: &[u8], path: &[CString]) -> String {
    let name = name.escape_ascii();
    let group = path_below(path).join(b"/".as_slice());
    let mut commands = Vec::new();
    for depth in 0..path.len() {
        let mut file = vec![wanted.mount.point.as_slice()];
        file.extend(path_below(path.get(..depth).unwrap_or_default()));
        let file = file.join(b"/".as_slice());
        commands.push(format!("echo +{name} > {}/cgroup.subtree_control", file.escape_ascii()));
    }
    format!(
        "controller {name} is not enabled for {}; as its owner: {}",
        group.escape_ascii(),
        commands.join(" && ")
    )
}
