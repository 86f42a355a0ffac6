// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Everything that descends from this process, found, verified and signalled.
//!
//! A pid that was read from a file may be somebody else's by the time it is signalled. So for each
//! one, in this order:
//!
//! 1. `pidfd_open`: from here on the process is held, whatever becomes of its number.
//! 2. Its parent is read from `/proc/PID/stat`, and must be the member of the tree under which
//!    the pid was listed, or this process.
//! 3. That member must still be there, held by its own pidfd, or its number, too, may have become
//!    another's meanwhile.
//! 4. The signal goes to the pidfd. Had the process died after step 1 and its number been
//!    somebody else's in step 2, this reaches nobody.
//!
//! This process's direct children need none of it: only their parent's wait frees their numbers,
//! and this process waits nowhere in between.
//!
//! The walk is top down, and a process's children are read after its signal: once SIGKILL was
//! sent, it can't finish another fork. What was born unseen before that has become a direct child
//! by the next round, because this process is the subreaper.

use std::cell::OnceCell;
use std::collections::{HashSet, VecDeque};
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::{getpid, pidfd_open, Pid, PidfdFlags};

use crate::procfs::{Procfs, Stat};
use crate::sys;

/// How descendants are found, decided once.
#[derive(Debug)]
enum Listing {
    /// `/proc/PID/task/TID/children`.
    Children(Procfs),
    /// Every process's parent (no CONFIG_PROC_CHILDREN): 1 ms per 100 processes.
    Scan(Procfs),
    /// There is no usable `/proc`: only the program and its process group are known.
    Nothing,
}

/// A round ends here, so that a tree which grows as fast as it is walked can't hold up the caller.
/// The next round sees the rest.
const LONGEST_ROUND: usize = 16_384;

/// Each generation that dies of a signal on the spot costs a walk; a tree is rarely deeper.
const MOST_WALKS: usize = 16;

/// How many members' pidfds are held while they wait for their turn; beyond that they are opened
/// anew and recognised by their start time.
const HELD: usize = 128;

/// A process that is known to be in the tree, whose children are to be listed.
#[derive(Debug)]
struct Member {
    pid: u32,
    start: Option<u64>,
    held: Option<OwnedFd>,
}

/// This process's descendants.
#[derive(Debug)]
pub(crate) struct Tree {
    me: u32,
    listing: OnceCell<Listing>,
}

/// One process that was found.
#[derive(Debug)]
pub(crate) struct Found<'a> {
    pub(crate) pid: u32,
    pub(crate) stat: Option<Stat>,
    held: Option<&'a OwnedFd>,
    is_child: bool,
}

impl Found<'_> {
    /// Signals it. Without pidfds a direct child only: a descendant becomes one when what is
    /// above it has died.
    pub(crate) fn signal(&self, signal: i32) {
        // What fails is either dead already or stays in the list of survivors.
        let _ = match self.held {
            Some(held) => sys::send_signal(held.as_fd(), signal),
            None if self.is_child => sys::kill_direct_child(self.pid, signal),
            None => Ok(()),
        };
    }
}

/// Holds a process; `Err` when it is gone, `Ok(None)` when it can't be held (an old container's
/// seccomp filter, no free descriptor).
pub(crate) fn hold(pid: u32) -> Result<Option<OwnedFd>, ()> {
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 1);
    let pid = pid.and_then(Pid::from_raw).ok_or(())?;
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(held) => Ok(Some(held)),
        Err(Errno::SRCH | Errno::INVAL) => Err(()),
        Err(_) => Ok(None),
    }
}

/// Whether the process that is held still has its number.
fn is_there(held: &OwnedFd) -> bool {
    match sys::send_signal(held.as_fd(), 0) {
        Ok(()) => true,
        Err(error) => error.raw_os_error() != Some(libc::ESRCH),
    }
}

impl Listing {
    fn of(procfs: Option<Procfs>, me: u32) -> Self {
        match procfs {
            Some(procfs) if procfs.lists_children(me) => Listing::Children(procfs),
            Some(procfs) if procfs.stat(me).is_some() => Listing::Scan(procfs),
            _ => Listing::Nothing,
        }
    }
}

impl Tree {
    pub(crate) fn new() -> Self {
        let me = getpid().as_raw_nonzero().get().unsigned_abs();
        Self { me, listing: OnceCell::new() }
    }

    #[cfg(test)]
    fn through(procfs: Option<Procfs>) -> Self {
        let tree = Self::new();
        let _ = tree.listing.set(Listing::of(procfs, tree.me));
        tree
    }

    /// A program that ends by itself needs none.
    fn listing(&self) -> &Listing {
        self.listing.get_or_init(|| Listing::of(Procfs::open(c"/proc").ok(), self.me))
    }

    /// How descendants are seen, in words; `None` when they are not.
    pub(crate) fn how(&self) -> Option<&'static str> {
        match self.listing() {
            Listing::Children(_) => Some("the kernel lists each process's children"),
            Listing::Scan(_) => Some("all processes are looked through, 1 ms for each hundred"),
            Listing::Nothing => None,
        }
    }

    /// Whether there is no way to see descendants.
    pub(crate) fn is_blind(&self) -> bool {
        matches!(self.listing(), Listing::Nothing)
    }

    fn stat(&self, pid: u32) -> Option<Stat> {
        match self.listing() {
            Listing::Children(procfs) | Listing::Scan(procfs) => procfs.stat(pid),
            Listing::Nothing => None,
        }
    }

    /// `parents` is the scan as of the round's beginning, where there is one.
    fn children(&self, pid: u32, parents: &[(u32, u32)]) -> Vec<u32> {
        let mut children = Vec::new();
        match self.listing() {
            Listing::Children(procfs) => procfs.children(pid, &mut children),
            Listing::Scan(_) => children.extend(
                parents.iter().filter(|(_, parent)| *parent == pid).map(|(child, _)| *child),
            ),
            Listing::Nothing => {}
        }
        children.retain(|child| *child > 1 && *child != self.me);
        children
    }

    /// Visits every descendant that can be verified, parents first; what `visit` does to a process
    /// is done before its children are listed.
    pub(crate) fn walk(&self, visit: &mut dyn FnMut(&Found<'_>)) {
        self.walk_but(&|_| false, visit);
    }

    /// The same, without the children that are `left_out` and those below them.
    pub(crate) fn walk_but(
        &self,
        left_out: &dyn Fn(u32) -> bool,
        visit: &mut dyn FnMut(&Found<'_>),
    ) {
        let parents = match self.listing() {
            Listing::Scan(procfs) => procfs.parents(),
            _ => Vec::new(),
        };
        let mut queue = VecDeque::new();
        let mut visited = 0;
        for pid in self.children(self.me, &parents) {
            if left_out(pid) {
                continue;
            }
            let Ok(held) = hold(pid) else { continue };
            // Hidden processes (hidepid) are visited all the same: they are children.
            let stat = self.stat(pid);
            // From a scan's list a process may have gone, and its number be another's.
            if stat.is_some_and(|stat| stat.parent != self.me) {
                continue;
            }
            visit(&Found { pid, stat, held: held.as_ref(), is_child: true });
            queue.push_back(Member {
                pid,
                start: stat.map(|stat| stat.start),
                held: held.filter(|_| queue.len() < HELD),
            });
            visited += 1;
        }
        while let Some(member) = queue.pop_front() {
            if visited > LONGEST_ROUND {
                return;
            }
            let Some(parent) = self.recognise(&member) else {
                continue;
            };
            for pid in self.children(member.pid, &parents) {
                let Ok(Some(held)) = hold(pid) else { continue };
                let Some(stat) = self.stat(pid) else { continue };
                let is_child = stat.parent == self.me;
                if !is_child && (stat.parent != member.pid || !is_there(&parent)) {
                    continue;
                }
                visit(&Found { pid, stat: Some(stat), held: Some(&held), is_child });
                queue.push_back(Member {
                    pid,
                    start: Some(stat.start),
                    held: Some(held).filter(|_| queue.len() < HELD),
                });
                visited += 1;
            }
        }
    }

    /// Signals every descendant but the child that is `spared` once, and tells which numbers they
    /// had.
    ///
    /// SIGKILL takes one round: who was missed gets it in the next, and nobody minds a second one.
    /// Other signals are sent once to each. A parent that dies of it on the spot is gone before its
    /// children are listed, and they are this process's by then: so walks are repeated until one
    /// finds nobody new, though not for ever, because a tree may grow meanwhile.
    pub(crate) fn signal(&self, signal: i32, spared: Option<u32>) -> HashSet<u32> {
        let mut reached = HashSet::new();
        let walks = if signal == libc::SIGKILL { 1 } else { MOST_WALKS };
        for _ in 0..walks {
            let mut is_news = false;
            self.walk(&mut |found| {
                let start = found.stat.map(|stat| stat.start);
                if found.is_child && Some(found.pid) == spared {
                    return;
                }
                if reached.insert((found.pid, start)) {
                    found.signal(signal);
                    is_news = true;
                }
            });
            if !is_news {
                break;
            }
        }
        reached.into_iter().map(|(pid, _)| pid).collect()
    }

    /// Holds a member whose turn has come, again if it was let go.
    fn recognise(&self, member: &Member) -> Option<OwnedFd> {
        if let Some(held) = &member.held {
            return held.try_clone().ok();
        }
        let held = hold(member.pid).ok()??;
        let stat = self.stat(member.pid)?;
        (Some(stat.start) == member.start).then_some(held)
    }
}

#[cfg(test)]
mod tests;
