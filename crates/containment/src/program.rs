// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! A program that was started, and everything that descends from it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::namespace::Init;
use crate::sys::Launch;
use crate::tree::Tree;
use crate::{cgroup, sys, Error, Step};

/// Our ends of the program's pipes: non-blocking and close-on-exec. The program's own ends are
/// blocking.
#[derive(Debug, Default)]
pub struct Pipes {
    /// What is written here the program reads.
    pub stdin: Option<OwnedFd>,
    /// What the program writes to descriptor 1.
    pub stdout: Option<OwnedFd>,
    /// What the program writes to descriptor 2.
    pub stderr: Option<OwnedFd>,
}

/// What holds the program's descendants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Level {
    /// The process tree: orphans are adopted by the guardian.
    Tree,
    /// The process tree and a control group.
    Cgroup,
    /// A PID namespace, and a control group if one was asked for.
    PidNamespace,
}

/// How the program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// By itself, with this status.
    Exited(u8),
    /// By a signal.
    Signalled {
        /// The signal's number.
        signal: u8,
        /// Whether a core was dumped.
        core: bool,
    },
}

/// The program's end, with what it and the children that it waited for used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// How it ended.
    pub status: Status,
    /// Time on a CPU in user mode.
    pub user: Duration,
    /// Time on a CPU in the kernel.
    pub system: Duration,
    /// The largest resident set, in KiB.
    pub max_rss_kib: u64,
}

/// What one round of collecting the dead found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reaped {
    /// How many processes were collected.
    pub deaths: usize,
    /// Whether nothing of the tree is left, and nothing in the program's cgroup.
    pub alone: bool,
}

/// How far the removal of the run's cgroup has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Released {
    /// Nothing of it is left, or there never was one.
    Done,
    /// The kernel still holds on to it (EBUSY for some 100 µs after the last death): call again
    /// in about a millisecond.
    Retry,
    /// It can't be removed: the path below the mounts and the errno.
    Failed(Vec<u8>, i32),
}

/// A program and its descendants.
///
/// Whoever has it calls [`Program::reap`] when SIGCHLD arrives. To end it: [`Program::signal_tree`]
/// with SIGTERM, then SIGCONT; [`Program::kill_tree`] until `reap` says alone;
/// [`Program::release`] until it is done.
#[derive(Debug)]
pub struct Program {
    /// 0 where it is in a namespace and was not met. The number of our own child is nobody else's
    /// until it is reaped.
    pid: u32,
    /// Holds somebody else's child.
    held: Option<OwnedFd>,
    /// The first process of its namespace, whose child it is then.
    init: Option<Init>,
    ended: Option<Ended>,
    pipes: Pipes,
    tree: Tree,
    run: Option<cgroup::Run>,
    /// What it may still use, until its exec was heard of, or its death.
    launch: Option<Launch>,
}

impl Program {
    /// `pid` is our child: the program, or the first process of its namespace.
    pub(crate) fn new(
        pid: u32,
        mut init: Option<Init>,
        pipes: Pipes,
        run: Option<cgroup::Run>,
        launch: Launch,
    ) -> Self {
        let pid = match &mut init {
            Some(init) => {
                init.was_born(pid);
                0
            }
            None => pid,
        };
        let (tree, launch) = (Tree::new(), Some(launch));
        Self { pid, held: None, init, ended: None, pipes, tree, run, launch }
    }

    /// What its start has used, for whoever knows that its exec has succeeded or failed.
    pub(crate) fn take_launch(&mut self) -> Option<Launch> {
        self.launch.take()
    }

    /// Learns who it is, where somebody else has started it. Never blocks.
    pub(crate) fn meet(&mut self) {
        if let (0, Some(init)) = (self.pid, &self.init) {
            if let Some((pid, held)) = init.introduced() {
                (self.pid, self.held) = (pid, Some(held));
            }
        }
    }

    /// The program's pid; `None` once it was reaped.
    pub fn pid(&self) -> Option<u32> {
        (self.ended.is_none() && self.pid != 0).then_some(self.pid)
    }

    /// Readable when the program has ended whose death is no SIGCHLD, because somebody else has
    /// collected it: then [`Program::reap`] tells. `None` where there is no such thing.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.init.as_ref().and_then(Init::descriptor)
    }

    /// Our ends of its pipes; the second time there are none.
    pub fn take_pipes(&mut self) -> Pipes {
        std::mem::take(&mut self.pipes)
    }

    /// What holds its descendants.
    pub fn level(&self) -> Level {
        match (&self.init, &self.run) {
            (Some(_), _) => Level::PidNamespace,
            (None, Some(_)) => Level::Cgroup,
            (None, None) => Level::Tree,
        }
    }

    /// The run's cgroup, below the mounts of its controllers; empty without one.
    pub fn cgroup_path(&self) -> &[u8] {
        self.run.as_ref().map_or(b"", cgroup::Run::path)
    }

    /// Signals the program itself; `false` when it is dead already. Numbers other than 1 to 64
    /// are an error.
    #[doc(alias = "pidfd_send_signal")]
    pub fn signal(&self, number: i32) -> io::Result<bool> {
        if !(1..=64).contains(&number) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if self.pid().is_none() {
            return Ok(false);
        }
        let sent = match (&self.held, &self.init) {
            (Some(held), _) => sys::send_signal(held.as_fd(), number),
            // Its number is only kept from others while it is our own child.
            (None, Some(_)) => return Ok(false),
            (None, None) => sys::kill_direct_child(self.pid, number),
        };
        match sent {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Signals every process of the tree once, parents first. Numbers other than 1 to 64 do
    /// nothing.
    pub fn signal_tree(&mut self, number: i32) {
        if !(1..=64).contains(&number) {
            return;
        }
        if number == libc::SIGTERM {
            // Most likely the end. Were it only a signal, a start on the same path would wait in
            // vain before it is refused.
            self.run.iter().for_each(cgroup::Run::is_about_to_end);
        }
        // It has no use for signals, and is the last to go.
        let spared = self.init.as_ref().map(Init::pid);
        let mut reached = self.tree.signal(number, spared);
        if self.tree.is_blind() && self.ended.is_none() && self.init.is_none() {
            // The group's number is the program's pid, which is taken until it is reaped.
            let _ = sys::kill_own_group(self.pid, number);
            let _ = self.signal(number);
        }
        if let Some(run) = &self.run {
            run.signal(number, &mut reached);
        }
    }

    /// One round of SIGKILL over the tree and the cgroup. Its effect shows in deaths: the caller
    /// repeats it after each, and every few milliseconds, until [`Program::reap`] says alone.
    pub fn kill_tree(&mut self) {
        if let Some(run) = &self.run {
            run.press();
        }
        // With its first process a namespace ends at once; only that one could tell of the program,
        // so it is killed when it has.
        if self.init.is_some() && self.pid().is_some() {
            // What can't be signalled is among the survivors.
            let _ = self.signal(libc::SIGKILL);
        } else if let Some(init) = &self.init {
            init.kill();
        }
        self.signal_tree(libc::SIGKILL);
    }

    /// Collects the dead, the program among them when it is one. Never blocks.
    #[doc(alias = "wait4")]
    pub fn reap(&mut self) -> Reaped {
        let mut deaths = usize::from(self.hear_of_the_end());
        let childless = loop {
            match sys::wait_any() {
                Ok(Some(death)) => {
                    deaths += 1;
                    match &mut self.init {
                        Some(init) if init.pid() == death.pid => {
                            init.was_collected();
                            self.hear_of_the_end();
                            // Had it known, it would have told: the kernel has killed all of them.
                            if self.pid().is_some() {
                                self.has_ended(&sys::Death { status: Err((9, false)), ..death });
                            }
                        }
                        Some(_) => {}
                        None if death.pid == self.pid => self.has_ended(&death),
                        None => {}
                    }
                }
                Ok(None) => break false,
                Err(error) => break error.raw_os_error() == Some(libc::ECHILD),
            }
        };
        Reaped {
            deaths,
            alone: childless && !self.run.as_ref().is_some_and(cgroup::Run::is_populated),
        }
    }

    /// Listens to who has collected the program, if that was somebody else; whether it has told.
    fn hear_of_the_end(&mut self) -> bool {
        let death = self.init.as_mut().and_then(|init| init.end_of(self.pid));
        death.iter().for_each(|death| self.has_ended(death));
        death.is_some()
    }

    fn has_ended(&mut self, death: &sys::Death) {
        if self.ended.is_none() {
            if let Some(launch) = self.take_launch() {
                launch.end();
            }
            self.ended = Some(Ended::of(death));
            self.run.iter().for_each(cgroup::Run::is_about_to_end);
        }
    }

    /// The program's end, once it was reaped.
    pub fn ended(&self) -> Option<&Ended> {
        self.ended.as_ref()
    }

    /// The live processes of the tree and the cgroup that are still found, in order.
    pub fn survivors(&self) -> Vec<u32> {
        let mut alive = self.run.as_ref().map(cgroup::Run::members).unwrap_or_default();
        self.tree.walk(&mut |found| {
            if !found.stat.is_some_and(|stat| stat.is_dead()) {
                alive.push(found.pid);
            }
        });
        // It lives as long as somebody else does.
        if let Some(init) = self.init.as_ref().filter(|_| alive.len() > 1) {
            alive.retain(|pid| *pid != init.pid());
        }
        alive.sort_unstable();
        alive.dedup();
        alive
    }

    /// Removes the run's cgroup, and groups that the program made in it. For when
    /// [`Program::reap`] has said alone: one that has processes is not removed.
    pub fn release(&mut self) -> Released {
        let Some(run) = &mut self.run else {
            return Released::Done;
        };
        match run.remove() {
            Ok(()) => Released::Done,
            Err((_, libc::EBUSY)) => Released::Retry,
            Err((path, errno)) => Released::Failed(path, errno),
        }
    }

    /// What the run's cgroup counts; `None` without one.
    pub fn stats(&self) -> Option<cgroup::Stats> {
        self.run.as_ref().map(cgroup::Run::stats)
    }

    fn group(&self) -> Result<&cgroup::Run, Error> {
        self.run.as_ref().ok_or_else(|| {
            Error::new(Step::Cgroup, libc::EOPNOTSUPP, "the program runs in no cgroup of its own")
        })
    }

    /// Changes limits of the run's cgroup, in order; those before one that fails hold.
    pub fn update_limits(&self, limits: &[cgroup::Limit]) -> Result<(), Error> {
        self.group()?.update(limits)
    }

    /// Begins to stop every process of the run's cgroup, or lets them go on. They are stopped when
    /// [`Program::is_frozen`] says so.
    pub fn freeze(&self, frozen: bool) -> Result<(), Error> {
        self.group()?.freeze(frozen)
    }

    /// Whether every process of the run's cgroup is stopped.
    pub fn is_frozen(&self) -> bool {
        self.run.as_ref().is_some_and(cgroup::Run::is_frozen)
    }

    /// Whether the kernel's OOM killer struck in the run's cgroup; asked before the release.
    pub fn oom_killed(&self) -> bool {
        self.run.as_ref().is_some_and(|run| run.ooms() > 0)
    }
}

pub(crate) fn status(death: &sys::Death) -> Status {
    match death.status {
        Ok(code) => Status::Exited(code),
        Err((signal, core)) => Status::Signalled { signal, core },
    }
}

impl Ended {
    fn of(death: &sys::Death) -> Self {
        Self {
            status: status(death),
            user: death.user,
            system: death.system,
            max_rss_kib: death.max_rss_kib,
        }
    }
}
