// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Reading processes from a proc file system, whose place is a parameter.

use std::ffi::CStr;
use std::fmt::Write as _;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Dir, Mode, OFlags};

/// PF_FORKNOEXEC of `include/linux/sched.h`, a stable part of field 9 of `/proc/PID/stat`.
const FORKED_AND_NOT_EXECUTED: u64 = 0x40;

/// A proc file system.
#[derive(Debug)]
pub(crate) struct Procfs {
    root: OwnedFd,
}

/// What `/proc/PID/stat` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) parent: u32,
    /// Clock ticks after boot; with the pid it identifies a process.
    pub(crate) start: u64,
    pub(crate) threads: u64,
    state: u8,
    flags: u64,
}

impl Stat {
    /// A zombie with further threads is one whose first thread has ended: it lives.
    pub(crate) fn is_dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x') && self.threads <= 1
    }

    pub(crate) fn never_executed(&self) -> bool {
        self.flags & FORKED_AND_NOT_EXECUTED != 0
    }

    /// A process may call itself `x) R 1 (`: what follows the *last* parenthesis is the kernel's.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.iter().rposition(|&byte| byte == b')')?;
        let mut fields =
            bytes.get(end + 1..)?.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
        // In the manual's numbering: 3 state, 4 parent, 9 flags, 20 threads, 22 start.
        let state = *fields.next()?.first()?;
        let parent = u32::try_from(decimal(fields.next()?)?).ok()?;
        let flags = decimal(fields.nth(4)?)?;
        let threads = decimal(fields.nth(10)?)?;
        let start = decimal(fields.nth(1)?)?;
        Some(Self { parent, start, threads, state, flags })
    }
}

/// A decimal number without sign or space.
pub(crate) fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() || !bytes.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// The whitespace-separated pids in a file.
pub(crate) fn pids(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    bytes.split(u8::is_ascii_whitespace).filter_map(|word| u32::try_from(decimal(word)?).ok())
}

/// Everything that is in a file, from where it stands.
pub(crate) fn read_to_end(fd: &OwnedFd, into: &mut Vec<u8>) -> io::Result<()> {
    loop {
        into.reserve(4096);
        match rustix::io::read(fd, rustix::buffer::spare_capacity(into)) {
            Ok(0) => return Ok(()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

impl Procfs {
    pub(crate) fn open(root: &CStr) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { root: rustix::fs::open(root, flags, Mode::empty())? })
    }

    fn read(&self, path: &str, into: &mut Vec<u8>) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.root, path, flags, Mode::empty())?;
        read_to_end(&fd, into)
    }

    fn numbers(&self, path: &str) -> Vec<u32> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(fd) = rustix::fs::openat(&self.root, path, flags, Mode::empty()) else {
            return Vec::new();
        };
        let Ok(directory) = Dir::new(fd) else {
            return Vec::new();
        };
        directory
            .filter_map(|entry| u32::try_from(decimal(entry.ok()?.file_name().to_bytes())?).ok())
            .collect()
    }

    pub(crate) fn stat(&self, pid: u32) -> Option<Stat> {
        let mut bytes = Vec::new();
        self.read(&format!("{pid}/stat"), &mut bytes).ok()?;
        Stat::parse(&bytes)
    }

    /// Whether the kernel lists children (CONFIG_PROC_CHILDREN).
    pub(crate) fn lists_children(&self, pid: u32) -> bool {
        let mut bytes = Vec::new();
        self.read(&format!("{pid}/task/{pid}/children"), &mut bytes).is_ok()
    }

    /// The children of every thread of a process.
    pub(crate) fn children(&self, pid: u32, into: &mut Vec<u32>) {
        let mut path = format!("{pid}/task");
        let mut bytes = Vec::new();
        let stem = path.len();
        for thread in self.numbers(&path) {
            path.truncate(stem);
            // Writing to a String can't fail.
            let _ = write!(path, "/{thread}/children");
            bytes.clear();
            if self.read(&path, &mut bytes).is_ok() {
                into.extend(pids(&bytes));
            }
        }
    }

    /// Every process with its parent, for kernels that don't list children.
    pub(crate) fn parents(&self) -> Vec<(u32, u32)> {
        self.numbers(".")
            .into_iter()
            .filter_map(|pid| Some((pid, self.stat(pid)?.parent)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_numbers_does_not_shift_the_fields() {
        let line = b"4242 (x) R 1 (2) S 77 4242 4242 0 -1 4194368 1 2 3 4 5 6 7 8 20 0 3 0 99887 0";
        let stat = Stat::parse(line).expect("a valid line");
        assert_eq!(stat.parent, 77);
        assert_eq!(stat.threads, 3);
        assert_eq!(stat.start, 99887);
        assert!(stat.never_executed());
        assert!(!stat.is_dead());
    }

    #[test]
    fn a_stat_line_that_is_cut_anywhere_is_refused_or_whole() {
        let line = b"7 (sh) Z 1 7 7 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 55";
        for end in 0..line.len() - 2 {
            assert_eq!(Stat::parse(&line[..end]), None, "cut at {end}");
        }
        assert!(Stat::parse(line).expect("whole").is_dead());
    }

    #[test]
    fn a_zombie_with_living_threads_is_alive() {
        let line = b"7 (sh) Z 1 7 7 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 2 0 55 0";
        assert!(!Stat::parse(line).expect("whole").is_dead());
    }

    #[test]
    fn this_process_is_read_from_the_real_proc() {
        let procfs = Procfs::open(c"/proc").expect("/proc");
        let stat = procfs.stat(std::process::id()).expect("our own stat");
        assert_eq!(stat.parent, std::os::unix::process::parent_id());
        assert!(procfs.parents().contains(&(std::process::id(), stat.parent)));
    }
}
