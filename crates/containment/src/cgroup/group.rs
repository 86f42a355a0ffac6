// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! One group of ours in one hierarchy, with the groups that the program may have made in it:
//! who is in it, and how they are killed.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{accessat, Access, AtFlags};
use rustix::process::getpid;

use super::beneath::{enter, remove, subdirectories, DEEPEST};
use super::mounts::Version;
use super::settings;
use crate::procfs::{decimal, pids};
use crate::sys;
use crate::tree::hold;

/// How many processes are held at once; verified together, so that the list is read twice a batch
/// and not twice a process.
const BATCH: usize = 64;

/// What the kernel offers against processes that fork while they are killed; decided when the
/// group is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Means {
    /// `cgroup.kill` (version 2, from 5.14): all of them in one write.
    Kill,
    /// `cgroup.freeze` (version 2): who is frozen can't fork, but can be killed.
    Freeze,
    /// `pids.max` where there is one (version 1), which makes forks fail. Its freezer is no help:
    /// a frozen process of version 1 takes SIGKILL only when it is thawed.
    Limit,
}

/// A group, open.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) fd: OwnedFd,
    pub(super) version: Version,
    means: Means,
}

impl Group {
    /// `with_kill_file` is false only where a test wants to see what older kernels would do.
    pub(super) fn new(fd: OwnedFd, version: Version, with_kill_file: bool) -> Self {
        let has = |file| accessat(&fd, file, Access::EXISTS, AtFlags::empty()).is_ok();
        let means = match version {
            Version::V1 => Means::Limit,
            Version::V2 if with_kill_file && has(c"cgroup.kill") => Means::Kill,
            Version::V2 => Means::Freeze,
        };
        Self { fd, version, means }
    }

    /// Kills all at once where the kernel can, or keeps the group from growing meanwhile.
    pub(super) fn press(&self) {
        // What fails shows in the processes that are left: they are signalled one by one.
        let _ = match self.means {
            Means::Kill => settings::write(&self.fd, c"cgroup.kill", b"1"),
            Means::Freeze => settings::write(&self.fd, c"cgroup.freeze", b"1"),
            Means::Limit => {
                self.each(&mut |fd| {
                    let _ = settings::write(fd, c"freezer.state", b"THAWED");
                });
                settings::write(&self.fd, c"pids.max", b"0")
            }
        };
    }

    /// Signals every process of the group but those that were reached already, and adds them.
    ///
    /// A pid in a list may be somebody else's by now: each is held first, then the list is read
    /// again, and only who is still in it gets the signal, by what holds it.
    pub(super) fn signal(&self, signal: i32, reached: &mut HashSet<u32>) {
        let me = own_pid();
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

    /// One round of killing. Its effect shows a little later: repeated until nobody is in it.
    pub(super) fn kill(&self) {
        self.press();
        if self.means != Means::Kill {
            self.signal(libc::SIGKILL, &mut HashSet::new());
        }
    }

    pub(super) fn members(&self) -> Vec<u32> {
        let mut members = Vec::new();
        self.each(&mut |fd| members.extend(processes(fd)));
        members
    }

    /// Whether a process is in it or below it.
    pub(super) fn is_populated(&self) -> bool {
        // Where the kernel counts them, also those of other PID namespaces.
        match settings::read(&self.fd, c"cgroup.events") {
            Ok(events) if self.version == Version::V2 => number_of(&events, b"populated") == 1,
            _ => !self.members().is_empty(),
        }
    }

    pub(super) fn has_this_process(&self) -> bool {
        self.members().contains(&own_pid())
    }

    /// How often the OOM killer struck here. Version 1 counts where the victim was, not above;
    /// version 2 counts above as well, unless it is mounted with `memory_localevents`.
    pub(super) fn ooms(&self) -> u64 {
        let file = match self.version {
            Version::V1 => c"memory.oom_control",
            Version::V2 => c"memory.events.local",
        };
        let count = |fd: &OwnedFd, file| {
            number_of(&settings::read(fd, file).unwrap_or_default(), b"oom_kill")
        };
        let mut each = 0;
        self.each(&mut |fd| each += count(fd, file));
        match self.version {
            Version::V1 => each,
            Version::V2 => each.max(count(&self.fd, c"memory.events")),
        }
    }

    /// Visits this group and those inside, innermost first.
    fn each(&self, visit: &mut dyn FnMut(&OwnedFd)) {
        each(&self.fd, DEEPEST, visit);
    }
}

fn own_pid() -> u32 {
    getpid().as_raw_nonzero().get().unsigned_abs()
}

/// The processes directly in a group. Numbers of other PID namespaces read as 0.
pub(super) fn processes(fd: &OwnedFd) -> Vec<u32> {
    let bytes = settings::read(fd, c"cgroup.procs").unwrap_or_default();
    pids(&bytes).filter(|pid| *pid != 0).collect()
}

/// The number in a line `key number`; 0 where there is none.
pub(super) fn number_of(lines: &[u8], key: &[u8]) -> u64 {
    let mut lines = lines.split(|&byte| byte == b'\n');
    lines.find_map(|line| decimal(line.strip_prefix(key)?.strip_prefix(b" ")?)).unwrap_or_default()
}

fn each(fd: &OwnedFd, depth: usize, visit: &mut dyn FnMut(&OwnedFd)) {
    if depth > 0 {
        for name in subdirectories(fd) {
            if let Ok(inner) = enter(fd, &name) {
                each(&inner, depth - 1, visit);
            }
        }
    }
    visit(fd);
}

/// Removes the groups inside, innermost first.
pub(super) fn remove_inside(fd: &OwnedFd) -> Result<(), rustix::io::Errno> {
    remove_below(fd, DEEPEST)
}

fn remove_below(fd: &OwnedFd, depth: usize) -> Result<(), rustix::io::Errno> {
    use rustix::io::Errno;
    if depth == 0 {
        return Ok(());
    }
    for name in subdirectories(fd) {
        match enter(fd, &name) {
            Ok(inner) => remove_below(&inner, depth - 1)?,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            Err(error) => return Err(error),
        }
        remove(fd, &name)?;
    }
    Ok(())
}
