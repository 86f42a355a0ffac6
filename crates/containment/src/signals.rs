// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! The signals that the guardian itself receives.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::{getpid, set_child_subreaper, set_dumpable_behavior, DumpableBehavior};

use crate::procfs::Procfs;
use crate::sys;

/// Those a guardian is told of. QUIT to USR2 end the program in order; WINCH, TSTP and CONT are
/// what a terminal's user does; URG, which does nothing by itself, says that the nursery is gone.
const WATCHED: [i32; 11] = [
    libc::SIGCHLD,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGWINCH,
    libc::SIGTSTP,
    libc::SIGCONT,
    libc::SIGURG,
];

/// Turns this process into a guardian. Called once, first thing, while it has a single thread;
/// with more it is refused.
///
/// From here on orphaned descendants become this process's children, same-user processes can't
/// reach into it through `/proc`, whatever signals were inherited as ignored or blocked are not,
/// the scheduler lets it in soon when it has something to do (Linux 6.12), and the signals listed in
/// [`Received::signal`] arrive at the descriptor that is returned.
#[doc(alias = "PR_SET_CHILD_SUBREAPER")]
#[doc(alias = "signalfd")]
pub fn become_guardian() -> io::Result<Signals> {
    let me = getpid();
    // Unknown (no /proc) counts as one thread.
    let threads = Procfs::open(c"/proc")
        .ok()
        .and_then(|procfs| procfs.stat(me.as_raw_nonzero().get().unsigned_abs()))
        .map_or(1, |stat| stat.threads);
    if threads > 1 {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "a guardian must be made while its process has one thread",
        ));
    }
    set_child_subreaper(Some(me))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    // Blocked before the dispositions change: a signal that comes in between is kept.
    sys::block_only(&WATCHED)?;
    for signal in 1..=64 {
        sys::default_disposition(signal);
    }
    sys::ignore_some();
    sys::Slice::shorten();
    Ok(Signals { fd: sys::signal_descriptor(&WATCHED)? })
}

/// The signals that were sent to this process and not yet looked at. Its descriptor is
/// non-blocking, close-on-exec, and readable while there are any.
#[derive(Debug)]
pub struct Signals {
    fd: OwnedFd,
}

/// One signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Its number: CHLD, TERM, HUP, INT, QUIT, USR1, USR2, WINCH, TSTP, CONT or URG. Several of the
    /// same number that were not yet looked at are one: after a CHLD any number may be dead.
    pub signal: i32,
    /// The process that sent it; `None` for the kernel, and for one in another PID namespace.
    pub sender: Option<u32>,
}

impl Signals {
    /// For a fork of the process that [`become_guardian`] was called in: it has the dispositions
    /// and the mask already, and needs a descriptor of its own.
    pub(crate) fn again() -> io::Result<Self> {
        Ok(Self { fd: sys::signal_descriptor(&WATCHED)? })
    }

    /// The next signal that is pending. Never blocks.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<Received> {
        let (signal, sender) = sys::pending(self.fd.as_fd())?;
        Some(Received { signal, sender })
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
