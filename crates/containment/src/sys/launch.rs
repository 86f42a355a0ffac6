// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Making the process that is to become the program.
//!
//! A fork copies the page tables of the guardian, and both sides then copy the pages that they
//! touch: together a tenth of the time that a short program takes. So where it can be done the
//! child shares the guardian's memory until its exec, as with vfork(2), but without stopping the
//! guardian meanwhile: an exec from a dead network mount must hang nobody else. What both use at
//! the same time is the plan, which neither changes, and the C library's `errno`, which the child
//! neither reads nor writes: see [`child`].

use std::ffi::{c_int, c_void};
use std::io;
use std::mem::ManuallyDrop;
use std::ptr::null_mut;
use std::sync::{Arc, Mutex};

use super::child::{self, Plan};
use super::init;
use super::waiting::{Gate, Waiting};

/// The child's frames take a few KB, without optimization as well.
const STACK: usize = 64 * 1024;

/// What can't be touched below the stack. No architecture has larger pages.
const GUARD: usize = 64 * 1024;

/// A plan that is carried out. The child may use its memory, so that this is given back by
/// [`Launch::end`] only.
#[derive(Debug)]
pub(crate) struct Launch {
    plan: ManuallyDrop<Box<Plan>>,
    memory: ManuallyDrop<Option<Memory>>,
}

/// What the child uses beside the plan, where it shares the guardian's memory.
#[derive(Debug)]
pub(super) struct Memory {
    stack: Stack,
    /// Where it has waited.
    _gate: Option<Arc<Gate>>,
}

impl Memory {
    pub(super) fn new(stack: Stack, gate: Option<Arc<Gate>>) -> Self {
        Self { stack, _gate: gate }
    }
}

impl Launch {
    pub(crate) fn new(plan: Plan) -> Self {
        Self { plan: ManuallyDrop::new(Box::new(plan)), memory: ManuallyDrop::new(None) }
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Makes the process, or takes the one that waits for such a plan. It carries the plan out and
    /// never returns. Where the plan has a namespace, it is the first one in there, and the program
    /// a child of it.
    #[doc(alias = "fork")]
    pub(crate) fn begin(&mut self, waiting: Option<Waiting>) -> io::Result<u32> {
        let plan: &Plan = &self.plan;
        if let Some(waiting) = waiting.filter(|waiting| waiting.suits(plan)) {
            let (pid, memory) = waiting.release(plan);
            *self.memory = memory;
            return Ok(pid);
        }
        if let Some(namespace) = &plan.namespace {
            return init::clone_into(plan, namespace);
        }
        if plan.can_share_memory() {
            if let Ok(stack) = Stack::take() {
                let memory = self.memory.insert(Memory::new(stack, None));
                return clone_sharing(plan, &memory.stack);
            }
        }
        // SAFETY: a guardian has one thread, and even if it had more, the child calls nothing but
        // async-signal-safe functions until it executes another program or exits.
        match unsafe { libc::fork() } {
            0 => child::run(plan),
            pid if pid > 0 => Ok(pid.unsigned_abs()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// There is no child, or it has executed the program, or is dead.
    pub(crate) fn end(self) {
        drop(ManuallyDrop::into_inner(self.plan));
        if let Some(memory) = ManuallyDrop::into_inner(self.memory) {
            memory.stack.keep();
        }
    }
}

/// The stack of the last launch, for the next one: a guardian has one run after the other.
static LAST: Mutex<Option<Stack>> = Mutex::new(None);

/// Gives it back.
pub(super) fn forget() {
    if let Ok(mut last) = LAST.lock() {
        last.take();
    }
}

extern "C" fn enter(plan: *mut c_void) -> c_int {
    // SAFETY: it points to the plan of a launch, which outlives the child's use of it, and which
    // nobody changes.
    child::run(unsafe { &*plan.cast::<Plan>() })
}

fn clone_sharing(plan: &Plan, stack: &Stack) -> io::Result<u32> {
    let plan = std::ptr::from_ref(plan).cast_mut().cast();
    // SAFETY: the stack is as large as the child needs, is nobody else's, and lasts, as the plan
    // does, until the launch is over. The child has its own copies of descriptors, directory and
    // dispositions; it calls nothing that uses memory of the guardian's but the plan.
    let pid = unsafe { libc::clone(enter, stack.top(), libc::CLONE_VM | libc::SIGCHLD, plan) };
    match u32::try_from(pid) {
        Ok(pid) => Ok(pid),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// Memory for a stack, below which there is some that can't be touched.
#[derive(Debug)]
pub(super) struct Stack(*mut c_void);

// SAFETY: the memory is its own, wherever it is used.
unsafe impl Send for Stack {}

impl Stack {
    pub(super) fn take() -> io::Result<Self> {
        let last = LAST.lock().ok().and_then(|mut last| last.take());
        last.map_or_else(Self::new, Ok)
    }

    /// Nobody uses it any more.
    pub(super) fn keep(self) {
        if let Ok(mut last) = LAST.lock() {
            *last = Some(self);
        }
    }

    fn new() -> io::Result<Self> {
        // SAFETY: a new mapping, at an address of the kernel's choice: it overlaps nothing.
        let memory = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
            libc::mmap(null_mut(), GUARD + STACK, libc::PROT_NONE, flags, -1, 0)
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let stack = Self(memory);
        // SAFETY: the upper part of what has just been mapped, which nobody uses yet.
        let result = unsafe {
            libc::mprotect(memory.byte_add(GUARD), STACK, libc::PROT_READ | libc::PROT_WRITE)
        };
        match result {
            0 => Ok(stack),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Where it begins: it grows downwards. Aligned to a page, which suits every architecture.
    pub(super) fn top(&self) -> *mut c_void {
        self.0.wrapping_byte_add(GUARD + STACK)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` has made, which nobody uses any more: see `Launch`.
        unsafe {
            libc::munmap(self.0, GUARD + STACK);
        }
    }
}
