// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Paths below a mount, and never beside it.
//!
//! One component at a time, each opened without following links and only as a directory of the
//! same file system. That is what `openat2` with RESOLVE_BENEATH would do for components that were
//! checked to be plain names, and it is there on every kernel and behind every seccomp filter.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    fgetxattr, fsetxattr, fstat, mkdirat, openat, unlinkat, AtFlags, Dir, FileType, Mode, OFlags,
    XattrFlags,
};
use rustix::io::Errno;

/// How far below the run's own directory groups are followed. A program that nests deeper holds
/// up only the removal, which then names the path.
pub(super) const DEEPEST: usize = 128;

/// The plain names that a relative path is made of; `None` when it has anything else: nothing at
/// all, a `/` at an end or two in a row, `.`, `..`, or a NUL.
pub(super) fn components(path: &[u8]) -> Option<Vec<CString>> {
    path.split(|&byte| byte == b'/').map(plain_name).collect()
}

/// A string that can only be the name of something in a directory.
pub(super) fn plain_name(name: &[u8]) -> Option<CString> {
    if matches!(name, b"" | b"." | b"..") || name.contains(&b'/') {
        return None;
    }
    CString::new(name).ok()
}

/// Opens a directory in another one.
pub(super) fn enter(parent: impl AsFd, name: &CString) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = openat(&parent, name, flags, Mode::empty())?;
    if fstat(&directory)?.st_dev != fstat(&parent)?.st_dev {
        return Err(Errno::XDEV);
    }
    Ok(directory)
}

/// The directories in a directory.
pub(super) fn subdirectories(fd: &OwnedFd) -> Vec<CString> {
    let Ok(entries) = Dir::read_from(fd) else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .filter(|entry| matches!(entry.file_type(), FileType::Directory | FileType::Unknown))
        .filter_map(|entry| plain_name(entry.file_name().to_bytes()))
        .collect()
}

/// Whether a directory is still the one of that name: another may have removed it, and even made
/// a new one, since it was opened.
pub(super) fn is_still(parent: &OwnedFd, name: &CString, fd: &OwnedFd) -> bool {
    let now = enter(parent, name).and_then(fstat);
    match (now, fstat(fd)) {
        (Ok(now), Ok(then)) => (now.st_dev, now.st_ino) == (then.st_dev, then.st_ino),
        _ => false,
    }
}

/// Where it is written that a group was made by a run, and not by somebody else: users may do so
/// on version 2 from 5.7 on, root everywhere.
const MARKS: [&CStr; 2] = [c"user.proton_stream.made", c"trusted.proton_stream.made"];

/// Leaves a mark, if that is possible: so that whoever uses the group last can remove it, also
/// when the run that made it has crashed. Where it is not possible such a group stays, empty.
pub(super) fn mark(fd: &OwnedFd) {
    for name in MARKS {
        if fsetxattr(fd, name, b"1", XattrFlags::empty()).is_ok() {
            return;
        }
    }
}

/// Whether it has the mark.
pub(super) fn is_marked(fd: &OwnedFd) -> bool {
    MARKS.iter().any(|name| fgetxattr(fd, *name, &mut [0_u8; 8]).is_ok())
}

/// Makes a group.
pub(super) fn make(parent: &OwnedFd, name: &CStr) -> Result<(), Errno> {
    mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
    #[cfg(test)]
    pretend::give_files(parent, name);
    Ok(())
}

/// Removes a group; that it is gone already is as good.
pub(super) fn remove(parent: &OwnedFd, name: &CStr) -> Result<(), Errno> {
    #[cfg(test)]
    pretend::take_files(parent, name);
    match unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error),
    }
}

/// What the kernel does when a group is made and removed, for directories that stand for groups:
/// it has the files of the one that it is in, but for what they say.
#[cfg(test)]
mod pretend {
    use super::*;
    use std::path::PathBuf;

    fn path(parent: &OwnedFd, name: &CStr) -> PathBuf {
        use std::os::fd::AsRawFd;
        let parent = std::fs::read_link(format!("/proc/self/fd/{}", parent.as_raw_fd()));
        parent.expect("the parent").join(name.to_str().expect("text"))
    }

    fn files(directory: &std::path::Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect()
    }

    pub(super) fn give_files(parent: &OwnedFd, name: &CStr) {
        let path = path(parent, name);
        let above = path.parent().expect("a parent");
        for file in files(above) {
            let name = file.file_name().expect("a name");
            let enabled = std::fs::read_to_string(above.join("cgroup.subtree_control"));
            let content = match name.to_str() {
                Some("cgroup.controllers") => enabled.unwrap_or_default().replace('+', ""),
                _ => String::new(),
            };
            std::fs::write(path.join(name), content).expect("a file");
        }
    }

    pub(super) fn take_files(parent: &OwnedFd, name: &CStr) {
        let path = path(parent, name);
        let procs = std::fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
        let has_groups =
            enter(parent, &name.to_owned()).is_ok_and(|fd| !subdirectories(&fd).is_empty());
        // Then the kernel says EBUSY.
        if procs.is_empty() && !has_groups {
            files(&path).iter().for_each(|file| std::fs::remove_file(file).expect("a file"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_make_a_path() {
        for bad in ["", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b", "a\0b"] {
            assert_eq!(components(bad.as_bytes()), None, "{bad:?}");
        }
        for good in ["a", "a/b", "..a", "a..b/...", "a b"] {
            assert!(components(good.as_bytes()).is_some(), "{good:?}");
        }
    }

    #[test]
    fn a_link_is_not_followed() {
        let base = std::env::temp_dir().join(format!("proton-beneath-{}", std::process::id()));
        std::fs::create_dir_all(base.join("real")).expect("a directory");
        std::os::unix::fs::symlink("real", base.join("link")).expect("a link");
        let top = OwnedFd::from(std::fs::File::open(&base).expect("opened"));
        let name = |text: &str| plain_name(text.as_bytes()).expect("plain");
        assert!(enter(&top, &name("real")).is_ok());
        assert!(matches!(enter(&top, &name("link")), Err(Errno::LOOP | Errno::NOTDIR)));
        assert!(matches!(enter(&top, &name("none")), Err(Errno::NOENT)));
        std::fs::remove_dir_all(&base).expect("removed");
    }

    #[test]
    fn another_file_system_is_not_entered() {
        let root = OwnedFd::from(std::fs::File::open("/").expect("the root"));
        let name = plain_name(b"proc").expect("plain");
        assert!(matches!(enter(&root, &name), Err(Errno::XDEV)));
    }
}
