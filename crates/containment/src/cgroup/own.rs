// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! This process's own group as the place for runs, where it is delegated to it: a service with
//! `Delegate=yes`, a user's session, a container.
//!
//! On version 2 a group with processes can't give controllers to groups inside it. So before that,
//! everybody in it is moved into a group inside, which is what systemd asks of a delegated service
//! (systemd's CGROUP_DELEGATION, "no processes in inner nodes"). A process that starts afterwards
//! is born there, and its own group is then the one above.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

use rustix::fs::{fgetxattr, fstat};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::beneath::{components, enter, make, mark};
use super::group::processes;
use super::mounts::{Mount, Version};
use super::settings;
use crate::{Error, Step};

/// The group inside, for those who were there before.
pub(super) const HOST: &CStr = c"proton-host";

/// Where systemd writes that it has let go of a group: readable for all since 252, and before for
/// root.
const DELEGATED: [&CStr; 2] = [c"user.delegate", c"trusted.delegate"];

/// How often processes are moved: while that is done, they fork.
const MOST_ROUNDS: usize = 100;

/// The own group of the calling process in one hierarchy, as a path below its mount; from
/// `/proc/self/cgroup`. `None` where that can't be seen from here.
pub(super) fn own_path(mount: &Mount, memberships: &[u8]) -> Option<Vec<CString>> {
    let mut lines = memberships.split(|&byte| byte == b'\n');
    let path = lines.find_map(|line| {
        // `4:cpu,cpuacct:/path`, and `0::/path` for version 2.
        let mut fields = line.splitn(3, |&byte| byte == b':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let is_it = match mount.version {
            Version::V2 => controllers.is_empty(),
            Version::V1 => mount.controllers.iter().any(|controller| {
                controllers.split(|&byte| byte == b',').any(|known| known == controller)
            }),
        };
        is_it.then_some(path)
    })?;
    // A container's mount shows a part of the hierarchy.
    let root = mount.root.strip_suffix(b"/").unwrap_or(&mount.root);
    let below = match path.strip_prefix(root)? {
        b"" | b"/" => return Some(Vec::new()),
        below => below.strip_prefix(b"/")?,
    };
    let mut names = components(below)?;
    if names.last().is_some_and(|last| last.as_c_str() == HOST) {
        names.pop();
    }
    Some(names)
}

/// Opens it, if it is delegated.
pub(super) fn open(mount: &Mount, names: &[CString]) -> Result<OwnedFd, Error> {
    let failed = |errno: Errno| Error::new(Step::Cgroup, errno.raw_os_error(), shown(names));
    let top = mount.open().map_err(failed)?;
    let fd = names.iter().try_fold(top, |fd, name| enter(&fd, name)).map_err(failed)?;
    if is_delegated(&fd, names) {
        Ok(fd)
    } else {
        let (found, remedy) = advice(mount, names);
        Err(Error::new(Step::Cgroup, libc::EPERM, format!("{found}: {remedy}")))
    }
}

/// Whose it is: the mount's own root has nobody above it who could mind; a user's directory is
/// that user's; and systemd leaves a mark.
fn is_delegated(fd: &OwnedFd, names: &[CString]) -> bool {
    let euid = geteuid();
    let is_mine = fstat(fd).is_ok_and(|stat| stat.st_uid == euid.as_raw());
    let has_mark = || {
        DELEGATED.iter().any(|name| {
            let mut value = [0_u8; 8];
            matches!(fgetxattr(fd, *name, &mut value), Ok(1) if value.first() == Some(&b'1'))
        })
    };
    is_mine && (names.is_empty() || !euid.is_root() || has_mark())
}

/// Sees to it that groups can be made in the own group, and have controllers.
pub(super) fn prepare(mount: &Mount, names: &[CString]) -> Result<(), Error> {
    let fd = open(mount, names)?;
    let failed = |errno: Errno| Error::new(Step::Cgroup, errno.raw_os_error(), shown(names));
    // The kernel's own root, which is the one without a type, may have both.
    if mount.version == Version::V1 || settings::read(&fd, c"cgroup.type").is_err() {
        return Ok(());
    }
    for _ in 0..MOST_ROUNDS {
        let here = processes(&fd);
        if here.is_empty() {
            return Ok(());
        }
        match make(&fd, HOST) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed(errno)),
        }
        let host = enter(&fd, &HOST.to_owned()).map_err(failed)?;
        mark(&host);
        for pid in here {
            match settings::write(&host, c"cgroup.procs", pid.to_string().as_bytes()) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
    }
    Err(failed(Errno::BUSY))
}

fn shown(names: &[CString]) -> Vec<u8> {
    let mut path = vec![b"".as_slice()];
    path.extend(names.iter().map(|name| name.as_bytes()));
    match path.as_slice() {
        [_] => b"/".to_vec(),
        path => path.join(b"/".as_slice()),
    }
}

/// That it is not delegated, in words, and how it could be.
pub(super) fn advice(mount: &Mount, names: &[CString]) -> (String, String) {
    let controller = mount.controllers.first().filter(|_| mount.version == Version::V1);
    let group = match controller {
        Some(controller) => format!("{}:proton", controller.escape_ascii()),
        None => "memory,cpu,pids:proton".into(),
    };
    let found =
        format!("the own group {} is not delegated to this process", shown(names).escape_ascii());
    let remedy = format!(
        "start it with `systemd-run --scope -p Delegate=yes COMMAND`, or `sudo cgcreate -a \
         $(whoami) -g {group}` and give cgroup_base \"proton\""
    );
    (found, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(version: Version, root: &str, controllers: &[&str]) -> Mount {
        Mount {
            point: b"/none".to_vec(),
            root: root.into(),
            version,
            controllers: controllers.iter().map(|name| name.as_bytes().to_vec()).collect(),
            magic: None,
        }
    }

    fn path(mount: &Mount, text: &str) -> Option<String> {
        let names = own_path(mount, text.as_bytes())?;
        Some(String::from_utf8(shown(&names)).expect("text"))
    }

    #[test]
    fn the_own_group_is_found_below_what_is_mounted() {
        let v2 = mount(Version::V2, "/", &[]);
        assert_eq!(path(&v2, "0::/user.slice/x.scope\n"), Some("/user.slice/x.scope".into()));
        assert_eq!(path(&v2, "1:cpu:/a\n0::/\n"), Some("/".into()));
        assert_eq!(path(&v2, "1:cpu:/a\n"), None);
        let v1 = mount(Version::V1, "/", &["cpu", "cpuacct"]);
        assert_eq!(path(&v1, "2:cpuset:/b\n1:cpu,cpuacct:/a\n0::/"), Some("/a".into()));
        assert_eq!(path(&v1, "2:cpuset:/b\n"), None);
    }

    #[test]
    fn a_containers_mount_hides_what_is_above() {
        let v2 = mount(Version::V2, "/docker/1", &[]);
        assert_eq!(path(&v2, "0::/docker/1\n"), Some("/".into()));
        assert_eq!(path(&v2, "0::/docker/1/a\n"), Some("/a".into()));
        assert_eq!(path(&v2, "0::/docker/2\n"), None);
        // Outside of the namespace.
        assert_eq!(path(&mount(Version::V2, "/", &[]), "0::/../a\n"), None);
    }

    #[test]
    fn whoever_was_moved_makes_runs_beside_itself() {
        let v2 = mount(Version::V2, "/", &[]);
        assert_eq!(path(&v2, "0::/a.scope/proton-host\n"), Some("/a.scope".into()));
        assert_eq!(path(&v2, "0::/proton-host\n"), Some("/".into()));
    }
}
