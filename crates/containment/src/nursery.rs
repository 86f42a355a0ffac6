// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! The process that forks guardians and adopts what they leave.
//!
//! Like a guardian it has one thread and calls [`become_guardian`](crate::become_guardian) before
//! anything else. Its children are guardians, which it knows, and orphans, which it doesn't: who
//! is not known is a descendant of a guardian that died, and is killed.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::process::{getpid, set_child_subreaper};

use crate::sys::{self, Waited};
use crate::tree::Tree;
use crate::{Signals, Status};

/// What a fork that is to be a guardian has of the nursery's: nothing else is open in it but
/// descriptors 0, 1 and 2.
#[derive(Debug)]
pub struct Forked {
    /// Where controllers connect.
    pub listener: OwnedFd,
    /// The way back to the nursery.
    pub bell: OwnedFd,
    /// The signals that it receives.
    pub signals: Signals,
}

/// Forks a process that runs `body` and exits with what it returns. Answers its pid.
///
/// The child has its own copy of the nursery's memory, but none of its descriptors; so `body` is
/// a plain function, and what it is handed beside the fork can't hold any.
#[doc(alias = "fork")]
pub fn fork_guardian<T: Copy + 'static>(
    listener: BorrowedFd<'_>,
    bell: BorrowedFd<'_>,
    about: T,
    body: fn(Forked, T) -> u8,
) -> io::Result<u32> {
    sys::fork_alone([listener, bell], |[listener, bell]| {
        // Not inherited. Where it fails the guardian would leave orphans to the nursery, which
        // would kill them while their program runs.
        let Ok(()) = set_child_subreaper(Some(getpid())) else { return 125 };
        match Signals::again() {
            Ok(signals) => body(Forked { listener, bell, signals }, about),
            Err(_) => 125,
        }
    })
}

/// What has become of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It has ended, and was collected: its number is free.
    Ended {
        /// The pid that it had.
        pid: u32,
        /// How.
        status: Status,
    },
    /// It was stopped.
    Stopped {
        /// Its pid.
        pid: u32,
    },
}

/// The next change of a child that was not told of, or the error ECHILD when there is no child.
/// Never blocks.
#[doc(alias = "waitpid")]
pub fn collect() -> io::Result<Option<Change>> {
    Ok(sys::wait_any_change()?.map(|waited| match waited {
        Waited::Ended(death) => {
            Change::Ended { pid: death.pid, status: crate::program::status(&death) }
        }
        Waited::Stopped(pid) => Change::Stopped { pid },
    }))
}

/// Signals a child that was not collected since it was forked. Numbers other than 1 to 64, and
/// pids of 1 or below, are an error.
pub fn signal_child(pid: u32, number: i32) -> io::Result<()> {
    if !(1..=64).contains(&number) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sys::kill_direct_child(pid, number)
}

/// Descendants of guardians that have died.
#[derive(Debug)]
pub struct Orphans {
    tree: Tree,
}

impl Orphans {
    /// Those of the calling process.
    pub fn of_this_process() -> Self {
        Self { tree: Tree::new() }
    }

    /// One round of SIGKILL over all descendants but the children that are known, and theirs. It
    /// is repeated after each death, and every few milliseconds.
    ///
    /// `None` says that there are none: not those that are alive, which are answered, and not one
    /// that is dead and was not collected, whose children may have become ours only when it died,
    /// after our own list had been read. The list is read twice, since a child that ends meanwhile
    /// can hide another one (proc_pid_task(5), `children`).
    pub fn kill(&self, is_known: &dyn Fn(u32) -> bool) -> Option<Vec<u32>> {
        for _ in 0..2 {
            let mut is_empty = true;
            let mut alive = Vec::new();
            self.tree.walk_but(is_known, &mut |found| {
                is_empty = false;
                if !found.stat.is_some_and(|stat| stat.is_dead()) {
                    alive.push(found.pid);
                    found.signal(libc::SIGKILL);
                }
            });
            if !is_empty {
                alive.sort_unstable();
                alive.dedup();
                return Some(alive);
            }
        }
        None
    }
}
