// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Room for bytes under way. How much a pipe holds: the default while little flows, more under load, given back afterwards.
//!
//! A user without privilege has 16,384 pages of pipes in all (`pipe-user-pages-soft`, pipe(7)): 1,024
//! default pipes, or 64 of 1 MiB. Past that growing fails, and, worse, every new pipe holds 8 KiB.

use std::io;
use std::os::fd::BorrowedFd;

use memmap2::MmapMut;
use proton_stream_containment::pipe::{capacity, set_capacity};

/// What Linux gives a new pipe.
const DEFAULT: usize = 64 * 1024;

/// What one under load gets. Four times as much gains a tenth more.
const GROWN: usize = 256 * 1024;

/// `size` zeros, of which only the pages that are used cost memory. An allocator does the same with
/// the first one only: what it was given back it clears, page by page (mallopt(3),
/// M_MMAP_THRESHOLD).
pub(crate) fn buffer(size: usize) -> io::Result<MmapMut> {
    MmapMut::map_anon(size)
}

/// One pipe's room.
pub(crate) struct Room {
    size: usize,
    may_grow: bool,
}

impl Room {
    /// Of a pipe, or of a socket, which never grows.
    pub(crate) fn of(pipe: BorrowedFd<'_>) -> Self {
        let size = capacity(pipe).unwrap_or(0);
        // One that was created smaller tells that the user has no room left to take.
        Room { size, may_grow: size == DEFAULT }
    }

    /// Of nothing.
    pub(crate) fn none() -> Self {
        Room { size: 0, may_grow: false }
    }

    pub(crate) fn is_nearly_filled_by(&self, held: usize) -> bool {
        self.size > 0 && held >= self.size / 4 * 3
    }

    pub(crate) fn is_grown(&self) -> bool {
        self.size == GROWN
    }

    pub(crate) fn grow(&mut self, pipe: BorrowedFd<'_>) {
        if self.may_grow && self.size == DEFAULT {
            match set_capacity(pipe, GROWN) {
                Ok(()) => self.size = GROWN,
                // EPERM: the user's pages are used up.
                Err(_) => self.may_grow = false,
            }
        }
    }

    /// `false` while it holds more than would fit.
    pub(crate) fn give_back(&mut self, pipe: BorrowedFd<'_>) -> bool {
        if self.is_grown() && set_capacity(pipe, DEFAULT).is_ok() {
            self.size = DEFAULT;
        }
        !self.is_grown()
    }
}
