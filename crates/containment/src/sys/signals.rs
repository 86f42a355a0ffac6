// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Dispositions, masks and the signal descriptor.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A write to a program that is gone is an error, not a death; a terminal in the background is
/// neither.
const IGNORED: [i32; 3] = [libc::SIGPIPE, libc::SIGTTIN, libc::SIGTTOU];

/// Gives a signal its default action. Async-signal-safe.
///
/// By the raw call, because the C library's refuses 32 and 33, which it keeps for itself, and a
/// program must not start with those ignored either. KILL and STOP fail, as they should.
pub(crate) fn default_disposition(signal: i32) {
    // All zeros is SIG_DFL without flags, restorer or mask, in the layout of every architecture.
    let action = [0_u64; 4];
    // SAFETY: the kernel reads at most 32 bytes (handler, flags, restorer, 8 bytes of mask) from
    // `action`, which has as many, writes nothing (null), and checks the signal number.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            libc::c_long::from(signal),
            action.as_ptr(),
            std::ptr::null_mut::<u64>(),
            8_usize,
        );
    }
}

/// Ignores those that a guardian ignores.
pub(crate) fn ignore_some() {
    for signal in IGNORED {
        // SAFETY: SIG_IGN runs no code of ours.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Ignores none of them any more. Handlers end with the exec. Async-signal-safe.
pub(crate) fn ignore_none() {
    IGNORED.into_iter().for_each(default_disposition);
}

fn set_of(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: sigset_t is plain integers, for which zero is valid; sigemptyset and sigaddset write
    // only inside the set they are given.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for &signal in signals {
            libc::sigaddset(&mut set, signal);
        }
        set
    }
}

/// Blocks exactly these signals. Async-signal-safe.
pub(crate) fn block_only(signals: &[i32]) -> io::Result<()> {
    let set = set_of(signals);
    // SAFETY: `set` lives across the call; the old mask is not asked for.
    match unsafe { libc::sigprocmask(libc::SIG_SETMASK, &set, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A non-blocking, close-on-exec descriptor from which these signals are read.
pub(crate) fn signal_descriptor(signals: &[i32]) -> io::Result<OwnedFd> {
    let set = set_of(signals);
    // SAFETY: `set` lives across the call; -1 asks for a new descriptor.
    let fd = unsafe { libc::signalfd(-1, &set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made `fd`, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The next pending signal: its number, and the process that sent it where one did.
pub(crate) fn pending(fd: BorrowedFd<'_>) -> Option<(i32, Option<u32>)> {
    // SAFETY: signalfd_siginfo is plain integers, for which zero is valid.
    let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
    let size = std::mem::size_of::<libc::signalfd_siginfo>();
    loop {
        // SAFETY: `info` has `size` bytes that any content is valid for.
        let got = unsafe { libc::read(fd.as_raw_fd(), (&raw mut info).cast(), size) };
        if usize::try_from(got) == Ok(size) {
            break;
        }
        if got < 0 && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted {
            continue;
        }
        return None;
    }
    // Codes above 0 are the kernel's own (a child's death, a terminal): nobody sent those.
    let sender = (info.ssi_code <= 0 && info.ssi_pid != 0).then_some(info.ssi_pid);
    Some((i32::try_from(info.ssi_signo).ok()?, sender))
}
