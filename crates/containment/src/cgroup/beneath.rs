// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Paths below a mount, and never beside it.
//!
//! One component at a time, each opened without following links and only as a directory of the
//! same file system. That is what `openat2` with RESOLVE_BENEATH would do for components that were
//! checked to be plain names, and it is there on every kernel and behind every seccomp filter.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{fstat, openat, Mode, OFlags};
use rustix::io::Errno;

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
