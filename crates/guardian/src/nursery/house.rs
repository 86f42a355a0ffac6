// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Where a nursery listens: a socket in a directory that only this user can enter, so that nobody
//! else can connect, not even to fill the backlog.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{poll, PollFd, PollFlags};
use rustix::fs::{
    flock, fstat, mkdir, open, stat, unlinkat, AtFlags, FlockOperation, Mode, OFlags,
};
use rustix::io::Errno;
use rustix::net::{
    bind, listen, socket_with, AddressFamily, SocketAddrUnix, SocketFlags, SocketType,
};
use rustix::process::{geteuid, getpid};

use crate::polling::timespec;

/// What Linux takes for a local socket, with its end (unix(7)).
const LONGEST_PATH: usize = 107;

/// The kernel cuts it to `net.core.somaxconn`, 4096 since 5.4.
const BACKLOG: i32 = 4096;

const SOCKET: &str = "s";
const PREFIX: &str = "proton-";

pub(crate) struct House {
    /// Its lock tells others that this nursery lives.
    directory: OwnedFd,
    path: PathBuf,
    listener: OwnedFd,
}

impl House {
    /// Makes a directory and listens in it. Directories of nurseries that were killed are removed.
    pub(crate) fn make() -> io::Result<Self> {
        let mut refusal = io::Error::from(io::ErrorKind::NotFound);
        for root in roots() {
            match Self::make_in(&root) {
                Ok((directory, path, listener)) => return Ok(Self { directory, path, listener }),
                Err(error) => {
                    refusal = io::Error::new(error.kind(), format!("{}: {error}", root.display()));
                }
            }
        }
        Err(refusal)
    }

    fn make_in(root: &Path) -> io::Result<(OwnedFd, PathBuf, OwnedFd)> {
        sweep(root);
        let me = getpid().as_raw_nonzero();
        // A name that is taken belongs to another PID namespace, or was left by a namesake.
        for attempt in 0..100 {
            let path = root.join(format!("{PREFIX}{me}-{attempt}"));
            if path.as_os_str().len() + 1 + SOCKET.len() > LONGEST_PATH {
                return Err(Errno::NAMETOOLONG.into());
            }
            match mkdir(&path, Mode::RWXU) {
                Ok(()) => {}
                Err(Errno::EXIST) => continue,
                Err(error) => return Err(error.into()),
            }
            let directory = enter(&path)?;
            // Between the two another nursery may have taken it for left behind.
            if !lock(&directory) || !is_still(&path, &directory) {
                continue;
            }
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let listener = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            let socket = path.join(SOCKET);
            bind(&listener, &SocketAddrUnix::new(socket.as_os_str().as_bytes())?)?;
            listen(&listener, BACKLOG)?;
            return Ok((directory, socket, listener));
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// The socket's.
    pub(crate) fn path(&self) -> &[u8] {
        self.path.as_os_str().as_bytes()
    }

    /// Whether somebody waits to be let in.
    pub(crate) fn has_visitors(&self) -> bool {
        let mut fds = [PollFd::new(&self.listener, PollFlags::IN)];
        poll(&mut fds, Some(&timespec(Duration::ZERO))).is_ok_and(|count| count > 0)
    }

    pub(crate) fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if let Some(path) = self.path.parent() {
            remove(path, &self.directory);
        }
    }
}

/// Where a directory may be made: a short path in which this user may write.
fn roots() -> Vec<PathBuf> {
    let given = std::env::var_os("TMPDIR").map(PathBuf::from).filter(|path| path.is_absolute());
    let usual = ["/tmp", "/var/tmp", "/dev/shm"].map(PathBuf::from);
    given.into_iter().chain(usual).collect()
}

fn enter(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(open(path, flags, Mode::empty())?)
}

fn lock(directory: &OwnedFd) -> bool {
    flock(directory, FlockOperation::NonBlockingLockExclusive).is_ok()
}

fn is_still(path: &Path, directory: &OwnedFd) -> bool {
    match (stat(path), fstat(directory)) {
        (Ok(now), Ok(then)) => (now.st_dev, now.st_ino) == (then.st_dev, then.st_ino),
        _ => false,
    }
}

/// Removes the socket and the directory around it.
fn remove(path: &Path, directory: &OwnedFd) {
    if let Ok(socket) = CString::new(SOCKET) {
        let _ = unlinkat(directory, socket, AtFlags::empty());
    }
    if is_still(path, directory) {
        // What somebody has put into it keeps it there.
        let _ = std::fs::remove_dir(path);
    }
}

/// Removes directories of this user's nurseries that were killed: their locks are free.
fn sweep(root: &Path) {
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        if !is_ours(&entry.file_name()) {
            continue;
        }
        let path = entry.path();
        let Ok(directory) = enter(&path) else { continue };
        let is_mine = fstat(&directory).is_ok_and(|stat| stat.st_uid == geteuid().as_raw());
        if is_mine && lock(&directory) && is_still(&path, &directory) {
            remove(&path, &directory);
        }
    }
}

/// `proton-PID-NUMBER`.
fn is_ours(name: &OsStr) -> bool {
    let numbers = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split_once('-'));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    numbers.is_some_and(|(pid, number)| is_number(pid) && is_number(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_nurseries_are_swept() {
        for name in ["proton-1-0", "proton-4194304-99"] {
            assert!(is_ours(OsStr::new(name)), "{name}");
        }
        for name in ["proton-", "proton-1", "proton-1-", "proton-a-0", "proton-1-0-1", "proton_1-0"]
        {
            assert!(!is_ours(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn what_a_killed_nursery_has_left_is_swept_and_a_live_one_is_not() {
        let root = std::env::temp_dir().join(format!("proton-house-{}", std::process::id()));
        std::fs::create_dir(&root).unwrap();
        let (live, socket, _listener) = House::make_in(&root).unwrap();
        let (dead, other, _) = House::make_in(&root).unwrap();
        std::fs::create_dir(root.join("proton-x-1")).unwrap();
        drop(dead);
        assert!(other.exists());
        sweep(&root);
        assert!(!other.parent().unwrap().exists());
        assert!(socket.exists() && root.join("proton-x-1").exists());
        drop(live);
        sweep(&root);
        assert!(!socket.exists());
        std::fs::remove_dir_all(&root).unwrap();
    }
}
