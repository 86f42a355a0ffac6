// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! How long the scheduler lets a process run at once.
//!
//! A guardian works for a tenth of a millisecond and sleeps again, and others wait for what it
//! says. Beside a process that starts, or calculates, it would be let in when that one's slice is
//! over, which is a millisecond or a few. Who asks for a shorter slice is let in sooner, and
//! gets no more of the processor than before: sched(7), "EEVDF"; `sched_runtime` of an ordinary
//! process in sched_setattr(2), since Linux 6.12. Before that there is none to be asked for.
//!
//! The program gets the slice that the guardian had.

use std::io;
use std::mem::size_of;
use std::sync::OnceLock;

/// The shortest that there is, in nanoseconds.
const SHORT: u64 = 100_000;

/// The kernel's `sched_attr`, in its first version.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Slice {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// What this process, or the one that it was forked from, was started with.
static GIVEN: OnceLock<u64> = OnceLock::new();

impl Slice {
    /// Asks for a short one. It is a wish: where it can't be had there is nothing to tell.
    pub(crate) fn shorten() {
        let Ok(given) = Self::of_this_process() else { return };
        if given.policy == libc::SCHED_OTHER.unsigned_abs() && given.runtime > SHORT {
            let short = Self { runtime: SHORT, ..given };
            if short.set() == 0 {
                let _ = GIVEN.set(given.runtime);
            }
        }
    }

    /// What a program is to have, with its nice value, where a guardian has a short one.
    pub(crate) fn of_a_program(nice: Option<i32>) -> Option<Self> {
        let runtime = *GIVEN.get()?;
        let now = Self::of_this_process().ok()?;
        Some(Self { runtime, nice: nice.unwrap_or(now.nice), ..now })
    }

    /// What one has that waits to become a program: as short, and whom it is woken by goes on until
    /// it sleeps. Put aside in favour of what it has woken, a guardian would not be let in again
    /// when it is to hear of the exec, but when others have had their slices. SCHED_BATCH, sched(7):
    /// who has it never preempts.
    pub(super) fn of_who_waits() -> Option<Self> {
        GIVEN.get()?;
        let now = Self::of_this_process().ok()?;
        Some(Self { policy: libc::SCHED_BATCH.unsigned_abs(), ..now })
    }

    fn of_this_process() -> io::Result<Self> {
        let mut slice = Self::default();
        let size = size_of::<Self>() as libc::c_long;
        // SAFETY: the kernel writes no more than `size` bytes, all of them numbers, to a live local.
        match unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut slice, size, 0) } {
            0 => Ok(slice),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// For the calling process. Async-signal-safe.
    pub(super) fn set(&self) -> libc::c_long {
        // SAFETY: it is alive, and the kernel reads as many bytes as its `size` says, which the
        // kernel itself has filled in.
        unsafe { libc::syscall(libc::SYS_sched_setattr, 0, std::ptr::from_ref(self), 0) }
    }
}
