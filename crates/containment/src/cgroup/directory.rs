// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! One directory of one hierarchy, with the groups that the program may have made in it.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{flock, openat, unlinkat, AtFlags, Dir, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::getpid;

use super::beneath::{enter, plain_name};
use super::settings;
use crate::procfs::{decimal, pids};
use crate::sys;
use crate::tree::hold;

/// How far below the run's own directory groups are followed. A program that nests deeper holds
/// up only the removal, which then names the path.
const DEEPEST: usize = 128;

/// How many processes are held at once; verified together, so that the list is read twice a batch
/// and not twice a process.
const BATCH: usize = 64;

/// A directory that was made, and can be removed again.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) parent: OwnedFd,
    pub(super) name: CString,
}

/// A group in one hierarchy.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) controllers: Vec<Vec<u8>>,
    pub(super) fd: OwnedFd,
    /// What was made on the way to it, outermost first; its last one is the group itself, unless
    /// the group was there before.
    pub(super) made: Vec<Made>,
    /// Groups inside that were there before.
    pub(super) kept: Vec<CString>,
    pub(super) was_there: bool,
}

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

impl Directory {
    pub(super) fn has(&self, controller: &[u8]) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }

    /// Makes sure that nobody else is in it or about to be (EBUSY). Before this has succeeded
    /// nothing in it may be touched.
    pub(super) fn occupy(&self) -> Result<(), Errno> {
        // Held until this directory is dropped or this process ends: only who has the lock may
        // clean the group.
        match flock(&self.fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(Errno::BUSY),
            Err(error) => return Err(error),
        }
        // What is in it would be killed with the program.
        if processes(&self.fd).is_empty() {
            Ok(())
        } else {
            Err(Errno::BUSY)
        }
    }

    /// The descriptor through which a child enters the group, opened before the fork.
    pub(super) fn door(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&self.fd, c"cgroup.procs", flags, Mode::empty())
    }

    /// Visits this group and those inside, innermost first.
    pub(super) fn each(&self, visit: &mut dyn FnMut(&OwnedFd)) {
        each(&self.fd, &self.kept, DEEPEST, visit);
    }

    /// Signals every process of the group but those that were reached already, and adds them.
    ///
    /// A pid in a list may be somebody else's by now: each is held first, then the list is read
    /// again, and only who is still in it gets the signal, by what holds it.
    pub(super) fn signal(&self, signal: i32, reached: &mut HashSet<u32>) {
        let me = getpid().as_raw_nonzero().get().unsigned_abs();
        self.each(&mut |fd| {
            let mut listed = processes(fd);
            listed.retain(|pid| *pid > 1 && *pid != me && !reached.contains(pid));
            for batch in listed.chunks(BATCH) {
                let held: Vec<_> =
                    batch.iter().filter_map(|pid| Some((*pid, hold(*pid).ok()??))).collect();
                let mut still = processes(fd);
                still.sort_unstable();
                for (pid, held) in &held {
                    if still.binary_search(pid).is_ok() {
                        // One that can't be signalled is among the survivors.
                        let _ = sys::send_signal(held.as_fd(), signal);
                        reached.insert(*pid);
                    }
                }
            }
        });
    }

    pub(super) fn members(&self) -> Vec<u32> {
        let mut members = Vec::new();
        self.each(&mut |fd| members.extend(processes(fd)));
        members
    }

    /// How often the OOM killer struck here. Version 1 counts where the victim was, not above.
    pub(super) fn ooms(&self) -> u64 {
        let mut count = 0;
        self.each(&mut |fd| {
            let state = settings::read(fd, c"memory.oom_control").unwrap_or_default();
            count += state
                .split(|&byte| byte == b'\n')
                .filter_map(|line| decimal(line.strip_prefix(b"oom_kill ")?))
                .sum::<u64>();
        });
        count
    }

    /// Removes what was made, and the groups inside that were not there before.
    pub(super) fn remove(&self) -> Result<(), Errno> {
        remove_inside(&self.fd, &self.kept, DEEPEST)?;
        let Some((itself, above)) = self.made.split_last() else {
            return Ok(());
        };
        remove_one(&itself.parent, &itself.name)?;
        remove_made(above);
        Ok(())
    }
}

/// Removes directories, innermost first, up to one in which somebody else has made a group since:
/// then it is theirs.
pub(super) fn remove_made(made: &[Made]) {
    for made in made.iter().rev() {
        if remove_one(&made.parent, &made.name).is_err() {
            return;
        }
    }
}

/// The processes directly in a group. Numbers of other PID namespaces read as 0.
pub(super) fn processes(fd: &OwnedFd) -> Vec<u32> {
    let bytes = settings::read(fd, c"cgroup.procs").unwrap_or_default();
    pids(&bytes).filter(|pid| *pid != 0).collect()
}

fn each(fd: &OwnedFd, kept: &[CString], depth: usize, visit: &mut dyn FnMut(&OwnedFd)) {
    if depth > 0 {
        for name in subdirectories(fd).iter().filter(|name| !kept.contains(name)) {
            if let Ok(inner) = enter(fd, name) {
                each(&inner, &[], depth - 1, visit);
            }
        }
    }
    visit(fd);
}

fn remove_inside(fd: &OwnedFd, kept: &[CString], depth: usize) -> Result<(), Errno> {
    if depth == 0 {
        return Ok(());
    }
    for name in subdirectories(fd).iter().filter(|name| !kept.contains(name)) {
        match enter(fd, name) {
            Ok(inner) => remove_inside(&inner, &[], depth - 1)?,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            Err(error) => return Err(error),
        }
        remove_one(fd, name)?;
    }
    Ok(())
}

fn remove_one(parent: &OwnedFd, name: &CStr) -> Result<(), Errno> {
    match unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error),
    }
}
