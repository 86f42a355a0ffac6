// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! What only Linux's pipes can do.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::stat;
use rustix::pipe::{fcntl_getpipe_size, fcntl_setpipe_size, SpliceFlags};
use rustix::thread::{capabilities, CapabilitySet};

/// What Linux gives a new pipe, in bytes. It gives less to a user who has too many: [`are_unlimited`].
pub const DEFAULT: usize = 64 * 1024;

/// Moves up to `most` bytes without copying them, out of a pipe or into one; 0 at the source's end.
/// Never blocks: `WouldBlock` when the source is empty or the target full.
#[doc(alias = "splice")]
pub fn move_bytes(
    source: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
    most: usize,
) -> io::Result<usize> {
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    Ok(rustix::pipe::splice(source, None, target, None, most, flags)?)
}

/// How many bytes a pipe can hold; an error for what is no pipe.
#[doc(alias = "F_GETPIPE_SZ")]
pub fn capacity(pipe: BorrowedFd<'_>) -> io::Result<usize> {
    Ok(fcntl_getpipe_size(pipe)?)
}

/// Changes how many bytes a pipe can hold. EPERM when the user has no pages left for it, EBUSY
/// when it holds more than that now (`F_SETPIPE_SZ`, fcntl(2)).
#[doc(alias = "F_SETPIPE_SZ")]
pub fn set_capacity(pipe: BorrowedFd<'_>, bytes: usize) -> io::Result<()> {
    fcntl_setpipe_size(pipe, bytes)?;
    Ok(())
}

/// The inode of `/proc/PID/ns/user` in the first user namespace (`PROC_USER_INIT_INO`).
const FIRST_USER_NAMESPACE: u64 = 0xEFFF_FFFD;

/// Whether the caller may have as many pipes as it likes: the limits on a user's pages (pipe(7))
/// don't hold for CAP_SYS_RESOURCE and CAP_SYS_ADMIN, of the first user namespace.
#[doc(alias = "pipe-user-pages-soft")]
pub fn are_unlimited() -> bool {
    let either = CapabilitySet::SYS_RESOURCE | CapabilitySet::SYS_ADMIN;
    capabilities(None).is_ok_and(|sets| sets.effective.intersects(either))
        && stat("/proc/self/ns/user").is_ok_and(|space| space.st_ino == FIRST_USER_NAMESPACE)
}
