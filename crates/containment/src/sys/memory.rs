// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Memory that is shared with forks, and memory that is given back.

use std::io;
use std::mem::size_of;

use super::launch;
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

/// Gives the pages back that lie wholly in `part`, which is zeros then, for all who share it.
#[doc(alias = "MADV_REMOVE")]
pub(crate) fn clear<T>(part: &'static [T]) {
    let page = page_size();
    let range = part.as_ptr_range();
    let begin = (range.start as usize).next_multiple_of(page);
    let end = range.end as usize & !(page - 1);
    if begin < end {
        // SAFETY: the pages are of the mapping that `shared` has made, whose atomics others may
        // change at any time, and to which zeros are as good. Where it fails nothing is given back.
        unsafe { libc::madvise(begin as *mut libc::c_void, end - begin, libc::MADV_REMOVE) };
    }
}

fn page_size() -> usize {
    // SAFETY: it only asks.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// More than this function and the two calls in it use of the stack.
const FRAMES: usize = 1024;

/// So much of the stack below is looked at.
const DEPTH: usize = 128 * 1024;

/// Gives memory back to the kernel that the calling process has used and doesn't need now: free
/// parts of the heap, the stack below, and what the last start's child had for one. What is used
/// again costs a fault for each page.
#[doc(alias = "malloc_trim")]
pub fn give_memory_back() {
    launch::forget();
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no memory that is in use.
    unsafe {
        libc::malloc_trim(0)
    };
    let page = page_size();
    let here = 0_u8;
    let end = std::hint::black_box(&raw const here) as usize;
    let end = end.saturating_sub(FRAMES) & !(page - 1);
    // SAFETY: a stack grows downwards, so below this frame no object lives; with the kernel's guard
    // gap of 1 MiB nothing else is mapped there (mmap(2), MAP_GROWSDOWN). Where not all of it is
    // mapped, the rest is given back all the same (madvise(2), ENOMEM).
    unsafe {
        libc::madvise(end.saturating_sub(DEPTH) as *mut libc::c_void, DEPTH, libc::MADV_DONTNEED)
    };
}
