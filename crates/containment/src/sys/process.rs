// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Making, signalling and collecting processes.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{waitid, Pid, WaitId, WaitIdOptions};

/// Forks; the child has its own of two descriptors beside 0, 1 and 2, runs `body` and exits with
/// what that returns. It never returns into the caller's frames, so that nothing there can use, or
/// close a second time, what was closed.
///
/// The process must have one thread, as one that became a guardian has: then whatever the child
/// does is as good as before the fork.
pub(crate) fn fork_alone(
    kept: [BorrowedFd<'_>; 2],
    body: impl FnOnce([OwnedFd; 2]) -> u8,
) -> io::Result<u32> {
    let [one, other] = kept.map(|fd| fd.as_raw_fd());
    if one == other {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: see above; the child ends in `exit`.
    match unsafe { libc::fork() } {
        0 => {
            close_all_but(&[one.min(other), one.max(other)]);
            // SAFETY: this process's copies of two different descriptors are its own since the
            // fork, open, and used by nobody else: the frames that have lent them are never
            // returned to.
            let kept = unsafe { [OwnedFd::from_raw_fd(one), OwnedFd::from_raw_fd(other)] };
            std::process::exit(body(kept).into())
        }
        pid if pid > 0 => Ok(pid.unsigned_abs()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The ranges of numbers above 2 that are not in `kept`, which is in ascending order.
pub(super) fn others(kept: &[RawFd]) -> impl Iterator<Item = (RawFd, RawFd)> + '_ {
    let begins = [3].into_iter().chain(kept.iter().map(|fd| fd + 1));
    let ends = kept.iter().map(|fd| fd - 1).chain([RawFd::MAX]);
    begins.zip(ends).filter(|(begin, end)| begin <= end)
}

/// Closes what has these numbers, for a process that uses none of it any more. Whether the kernel
/// has the call. Async-signal-safe.
pub(super) fn close_range(begin: RawFd, end: RawFd) -> bool {
    let (begin, end) = (libc::c_long::from(begin), libc::c_long::from(end));
    // SAFETY: passes no memory, and changes this process's own table only.
    unsafe { libc::syscall(libc::SYS_close_range, begin, end, 0) == 0 }
}

/// Closes every descriptor above 2 but these, in ascending order. For a process that uses no other
/// one any more.
fn close_all_but(kept: &[RawFd]) {
    for (begin, end) in others(kept) {
        if !close_range(begin, end) {
            // Before 5.9, or behind an old seccomp filter.
            let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
            let open: Vec<RawFd> =
                entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
            for fd in open.into_iter().filter(|fd| (begin..=end).contains(fd)) {
                // SAFETY: as above. The directory that was read is closed already, and an error.
                unsafe { libc::close(fd) };
            }
        }
    }
}

/// Whether a child can be collected, or is none any more.
pub(crate) fn is_dead(pid: u32) -> bool {
    let how = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    by_number(pid).is_none_or(|pid| !matches!(waitid(WaitId::Pid(pid), how), Ok(None)))
}

/// Waits until a child is dead, and collects it. Whether it is collected, or is none any more.
pub(super) fn wait_for(pid: u32) -> bool {
    let Some(pid) = by_number(pid) else { return false };
    loop {
        match waitid(WaitId::Pid(pid), WaitIdOptions::EXITED) {
            Err(Errno::INTR) => {}
            outcome => return matches!(outcome, Ok(_) | Err(Errno::CHILD)),
        }
    }
}

fn by_number(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
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

/// A child's change that was collected.
#[derive(Debug)]
pub(crate) enum Waited {
    Ended(Death),
    Stopped(u32),
}

/// Collects one dead child, without blocking: `Ok(None)` when none is dead, `ECHILD` when there
/// is no child at all. Children made with clone (and other exit signals) count too.
#[doc(alias = "wait4")]
pub(crate) fn wait_any() -> io::Result<Option<Death>> {
    loop {
        match wait(libc::WNOHANG | libc::__WALL)? {
            Some(Waited::Ended(death)) => return Ok(Some(death)),
            Some(Waited::Stopped(_)) => {}
            None => return Ok(None),
        }
    }
}

/// The same, and tells of a child that was stopped.
pub(crate) fn wait_any_change() -> io::Result<Option<Waited>> {
    wait(libc::WNOHANG | libc::__WALL | libc::WUNTRACED)
}

fn wait(flags: libc::c_int) -> io::Result<Option<Waited>> {
    let mut status = 0;
    // SAFETY: rusage is plain integers, for which zero is valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both pointers are to live locals of the types that wait4 fills.
        let pid = unsafe { libc::wait4(-1, &mut status, flags, &mut usage) };
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
        let pid = pid.unsigned_abs();
        // A stop is told where it is asked for, and of a traced child always.
        return Ok(Some(match Death::of(pid, status, Usage::of(&usage)) {
            Some(death) => Waited::Ended(death),
            None => Waited::Stopped(pid),
        }));
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
