// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Where a nursery listens, and who gets in.
//!
//! The socket is in a directory that only this user can enter, so that nobody else can connect, not
//! even to fill the backlog. Of those who do connect only the controller's own process is heard,
//! and only with the secret that it was told over its pipe.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proton_stream_protocol::{Preamble, PREAMBLE_LENGTH, SECRET_LENGTH};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::fs::{
    flock, fstat, mkdir, open, stat, unlinkat, AtFlags, FlockOperation, Mode, OFlags,
};
use rustix::io::{read, Errno};
use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    accept_with, bind, listen, socket_with, AddressFamily, SocketAddrUnix, SocketFlags, SocketType,
};
use rustix::process::{geteuid, getpid};

/// What Linux takes for a local socket, with its end (unix(7)).
const LONGEST_PATH: usize = 107;

/// The kernel cuts it to `net.core.somaxconn`, 4096 since 5.4.
const BACKLOG: i32 = 4096;

/// How long a connection may take to say its secret, and how many there may be that have not.
const PATIENCE: Duration = Duration::from_secs(5);
const MOST_WAITING: usize = 256;

/// So many are taken in before the rest of the nursery has its turn.
const AT_ONCE: usize = 64;

const SOCKET: &str = "s";
const PREFIX: &str = "proton-";

pub(crate) struct House {
    /// Its lock tells others that this nursery lives.
    directory: OwnedFd,
    path: PathBuf,
    listener: OwnedFd,
    controller: u32,
    secret: [u8; SECRET_LENGTH],
    waiting: Vec<Waiting>,
    admitted: Vec<(OwnedFd, Preamble)>,
}

/// A connection that has yet to say its secret.
struct Waiting {
    connection: OwnedFd,
    said: [u8; PREAMBLE_LENGTH],
    length: usize,
    give_up: Instant,
}

impl House {
    /// Makes a directory and listens in it. Directories of nurseries that were killed are removed.
    pub(crate) fn make(controller: u32, secret: [u8; SECRET_LENGTH]) -> io::Result<Self> {
        let mut refusal = io::Error::from(io::ErrorKind::NotFound);
        for root in roots() {
            match Self::make_in(&root) {
                Ok((directory, path, listener)) => {
                    return Ok(Self {
                        directory,
                        path,
                        listener,
                        controller,
                        secret,
                        waiting: Vec::new(),
                        admitted: Vec::new(),
                    })
                }
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

    pub(crate) fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Those that have yet to say their secret, in the order in which [`hear`](Self::hear) expects
    /// what poll says of them.
    pub(crate) fn connections(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.waiting.iter().map(|waiting| waiting.connection.as_fd())
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.waiting.first().map(|waiting| waiting.give_up)
    }

    /// Takes in who has connected.
    pub(crate) fn accept(&mut self, now: Instant) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        for _ in 0..AT_ONCE {
            let connection = match accept_with(&self.listener, flags) {
                Ok(connection) => connection,
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                // EMFILE among them: they wait in the backlog.
                Err(_) => return,
            };
            if !self.is_controllers(&connection) {
                continue;
            }
            let said = [0; PREAMBLE_LENGTH];
            let waiting = Waiting { connection, said, length: 0, give_up: now + PATIENCE };
            self.listen_to(waiting);
        }
    }

    fn is_controllers(&self, connection: &OwnedFd) -> bool {
        socket_peercred(connection).is_ok_and(|peer| {
            peer.uid == geteuid()
                && peer.pid.as_raw_nonzero().get().unsigned_abs() == self.controller
        })
    }

    /// `found` is what poll says of each of [`connections`](Self::connections).
    pub(crate) fn hear(&mut self, found: &[PollFlags], now: Instant) {
        if self.waiting.is_empty() {
            return;
        }
        let waiting = std::mem::take(&mut self.waiting);
        for (index, waiting) in waiting.into_iter().enumerate() {
            let has_news = found.get(index).is_some_and(|flags| !flags.is_empty());
            if has_news {
                self.listen_to(waiting);
            } else if now < waiting.give_up {
                self.waiting.push(waiting);
            }
        }
    }

    fn listen_to(&mut self, mut waiting: Waiting) {
        loop {
            match read(&waiting.connection, &mut waiting.said[waiting.length..]) {
                Ok(0) => return,
                Ok(length) => waiting.length += length,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => return,
            }
            if waiting.length == PREAMBLE_LENGTH {
                let preamble = Preamble::decode(waiting.said);
                if is_same(&preamble.secret, &self.secret) && !has_left(&waiting.connection) {
                    self.admitted.push((waiting.connection, preamble));
                }
                return;
            }
        }
        if self.waiting.len() >= MOST_WAITING {
            self.waiting.remove(0);
        }
        self.waiting.push(waiting);
    }

    /// The next one that has said its secret.
    pub(crate) fn admit(&mut self) -> Option<(OwnedFd, Preamble)> {
        if self.admitted.is_empty() {
            return None;
        }
        Some(self.admitted.remove(0))
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

/// In a time that doesn't tell how much of it was right.
fn is_same(one: &[u8; SECRET_LENGTH], other: &[u8; SECRET_LENGTH]) -> bool {
    one.iter().zip(other).fold(0, |difference, (one, other)| difference | (one ^ other)) == 0
}

/// Whether the other side has closed already: then nobody waits for a guardian.
fn has_left(connection: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(connection, PollFlags::RDHUP)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_ok_and(|count| count > 0)
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

    #[test]
    fn a_secret_is_the_same_or_not() {
        let secret = [7; SECRET_LENGTH];
        assert!(is_same(&secret, &secret));
        let mut other = secret;
        other[31] ^= 1;
        assert!(!is_same(&secret, &other));
    }
}
