// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Memory that is shared with forks.

use std::io;
use std::mem::size_of;

use crate::board::Shared;

/// A board that every later fork of this process shares with it, for as long as they live.
pub(crate) fn shared() -> io::Result<&'static Shared> {
    // SAFETY: a new mapping, at an address of the kernel's choice: it overlaps nothing.
    let memory = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            size_of::<Shared>(),
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if memory == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping is as large, aligned to a page, never unmapped, and filled with zeros,
    // which are valid for atomics. Everything in it is an atomic, so that other processes may
    // write meanwhile.
    Ok(unsafe { &*memory.cast::<Shared>() })
}
