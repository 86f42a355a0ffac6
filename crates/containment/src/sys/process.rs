// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Making, signalling and collecting processes.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use super::child::{self, Plan};
use super::init;

/// Forks; the child carries out the plan and never returns. Where the plan has a namespace, the
/// process is the first one in there, and the program a child of it.
#[doc(alias = "fork")]
pub(crate) fn fork_into(plan: &Plan) -> io::Result<u32> {
    if let Some(namespace) = &plan.namespace {
        return init::clone_into(plan, namespace);
    }
    // SAFETY: a guardian has one thread, and even if it had more, the child calls nothing but
    // async-signal-safe functions until it executes another program or exits.
    match unsafe { libc::fork() } {
        0 => child::run(plan),
        pid if pid > 0 => Ok(pid.unsigned_abs()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sends a signal to the process that the pidfd stands for; 0 only asks whether it is there.
#[doc(alias = "pidfd_send_signal")]
pub(crate) fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: no memory is passed (a null siginfo means as by kill), and a pidfd names one process
    // for ever, so that no number can be taken for another's.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            libc::c_long::from(pidfd.as_raw_fd()),
            libc::c_long::from(signal),
            std::ptr::null::<libc::siginfo_t>(),
            0_usize,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn ordinary(pid: u32) -> io::Result<libc::pid_t> {
    match libc::pid_t::try_from(pid) {
        Ok(pid) if pid > 1 => Ok(pid),
        _ => Err(io::Error::from_raw_os_error(libc::ESRCH)),
    }
}

/// Signals a child that has not been waited for, where there are no pidfds.
///
/// Only the parent's wait frees a pid, so the number of such a child can't be anybody else's.
/// Numbers up to 1 are refused: 0 and -1 would be everybody, 1 is init.
pub(crate) fn kill_direct_child(pid: u32, signal: i32) -> io::Result<()> {
    let pid = ordinary(pid)?;
    // SAFETY: passes no memory; `pid` names a single process, by the check above.
    match unsafe { libc::kill(pid, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Signals the process group that a child leads which has not been waited for.
pub(crate) fn kill_own_group(leader: u32, signal: i32) -> io::Result<()> {
    let leader = ordinary(leader)?;
    // SAFETY: passes no memory; the group is above 1, by the check above.
    match unsafe { libc::kill(-leader, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// One death that was collected.
#[derive(Debug)]
pub(crate) struct Death {
    pub(crate) pid: u32,
    /// The exit status, or the signal and whether a core was dumped.
    pub(crate) status: Result<u8, (u8, bool)>,
    pub(crate) user: Duration,
    pub(crate) system: Duration,
    pub(crate) max_rss_kib: u64,
}

/// Collects one dead child, without blocking: `Ok(None)` when none is dead, `ECHILD` when there
/// is no child at all. Children made with clone (and other exit signals) count too.
#[doc(alias = "wait4")]
pub(crate) fn wait_any() -> io::Result<Option<Death>> {
    let mut status = 0;
    // SAFETY: rusage is plain integers, for which zero is valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both pointers are to live locals of the types that wait4 fills.
        let pid = unsafe { libc::wait4(-1, &mut status, libc::WNOHANG | libc::__WALL, &mut usage) };
        if pid == 0 {
            return Ok(None);
        }
        if pid < 0 {
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::Interrupted {
                continue;
            }
            return Err(error);
        }
        // Not for a stop or continue of a traced child: nothing has ended.
        if let Some(death) = Death::of(pid.unsigned_abs(), status, Usage::of(&usage)) {
            return Ok(Some(death));
        }
    }
}

/// What a process has used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    pub(super) user_micros: u64,
    pub(super) system_micros: u64,
    pub(super) max_rss_kib: u64,
}

impl Usage {
    /// Async-signal-safe.
    pub(super) fn of(usage: &libc::rusage) -> Self {
        let micros = |time: libc::timeval| {
            let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
            seconds * 1_000_000 + u64::try_from(time.tv_usec).unwrap_or(0)
        };
        Self {
            user_micros: micros(usage.ru_utime),
            system_micros: micros(usage.ru_stime),
            max_rss_kib: u64::try_from(usage.ru_maxrss).unwrap_or(0),
        }
    }
}

impl Death {
    /// From what a wait has filled; `None` where nothing has ended.
    pub(super) fn of(pid: u32, status: i32, usage: Usage) -> Option<Self> {
        let status = if libc::WIFEXITED(status) {
            Ok(low_byte(libc::WEXITSTATUS(status)))
        } else if libc::WIFSIGNALED(status) {
            Err((low_byte(libc::WTERMSIG(status)), libc::WCOREDUMP(status)))
        } else {
            return None;
        };
        Some(Self {
            pid,
            status,
            user: Duration::from_micros(usage.user_micros),
            system: Duration::from_micros(usage.system_micros),
            max_rss_kib: usage.max_rss_kib,
        })
    }
}

fn low_byte(value: i32) -> u8 {
    value.to_le_bytes()[0]
}

/// Whether `close_range` with CLOSE_RANGE_CLOEXEC can be used (5.11, and no seccomp filter of
/// before its time).
pub(crate) fn close_range_works() -> bool {
    // SAFETY: passes no memory; no descriptor has the greatest number, so that nothing changes.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            libc::c_ulong::from(u32::MAX),
            libc::c_ulong::from(u32::MAX),
            libc::c_ulong::from(libc::CLOSE_RANGE_CLOEXEC),
        )
    };
    result == 0
}
