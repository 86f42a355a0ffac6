// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! A process that is made before it is known what for.
//!
//! It shares the guardian's memory, as [`Launch`](super::Launch) tells, leads a session already, and
//! waits in a futex for the plan that it is to carry out. Everything else that a process has is its
//! own, and as the guardian's was: so it can become the program of a plan that says where that
//! starts, and names nothing which was opened since.

use std::ffi::{c_int, c_void, CStr};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::sync::Arc;

use rustix::thread::futex;

use super::child::{self, End, Plan};
use super::exec::HAS_OWN_EXECVE;
use super::launch::{Memory, Stack};
use super::process::{
    close_range, close_range_works, is_dead, kill_direct_child, others, wait_for,
};
use super::slice::Slice;

/// What it is called meanwhile, by `ps` and in `/proc/PID/comm`.
const NAME: &CStr = c"proton-waiting";

/// What it waits at.
#[derive(Debug)]
pub(super) struct Gate {
    is_open: AtomicU32,
    plan: AtomicPtr<Plan>,
    /// What it goes on to hold, in ascending order.
    held: [RawFd; 4],
    report: RawFd,
    slice: Option<Slice>,
}

/// A child that waits. Dropping this ends it, and collects it.
#[derive(Debug)]
pub(crate) struct Waiting {
    pid: u32,
    gate: Arc<Gate>,
    /// There while the process is ours to end.
    stack: Option<Stack>,
}

impl Waiting {
    /// Makes one that holds the program's ends of its pipes and the one that takes the report.
    pub(crate) fn new(stdio: [RawFd; 3], report: RawFd) -> io::Result<Self> {
        // Without the first it would change the guardian's `errno`, without the second it could
        // not close what it must not hold.
        if !HAS_OWN_EXECVE || !close_range_works() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let [stdin, stdout, stderr] = stdio;
        let mut held = [stdin, stdout, stderr, report];
        held.sort_unstable();
        let (is_open, plan) = (AtomicU32::new(0), AtomicPtr::new(null_mut()));
        let slice = Slice::of_who_waits();
        let gate = Arc::new(Gate { is_open, plan, held, report, slice });
        let stack = Stack::take()?;
        let argument = Arc::as_ptr(&gate).cast_mut().cast();
        // SAFETY: the stack is as large as the child needs and is nobody else's. It lasts, as the
        // gate does, until the child has died, or has executed the program: see `drop`, `release`
        // and `Launch`. Of the gate both sides change atomics only.
        let pid =
            unsafe { libc::clone(wait, stack.top(), libc::CLONE_VM | libc::SIGCHLD, argument) };
        match u32::try_from(pid) {
            Ok(pid) => Ok(Self { pid, gate, stack: Some(stack) }),
            Err(_) => Err(io::Error::last_os_error()),
        }
    }

    /// Whether it would be, with this plan, what a process is that is made now.
    pub(super) fn suits(&self, plan: &Plan) -> bool {
        let is_held = |end: &End| match end {
            End::Owned(fd) => self.gate.held.contains(&fd.as_raw_fd()),
            End::Inherited | End::SameAsStdout => true,
        };
        plan.can_share_memory()
            // Where the guardian is now it need not be.
            && plan.base.is_some()
            && plan.close_on_exec.is_none()
            && plan.report == self.gate.report
            && plan.stdio.iter().all(is_held)
            && !is_dead(self.pid)
    }

    /// Lets it carry out a plan that suits it. It is a child like any other from now on, and uses
    /// the plan and what else is answered here until its exec, or its death.
    pub(super) fn release(mut self, plan: &Plan) -> (u32, Option<Memory>) {
        let gate = Arc::clone(&self.gate);
        let memory = self.stack.take().map(|stack| Memory::new(stack, Some(gate)));
        self.gate.plan.store(std::ptr::from_ref(plan).cast_mut(), Ordering::Relaxed);
        self.gate.is_open.store(1, Ordering::Release);
        // That there is nobody to be woken is no failure: it may not have got there yet.
        let _ = futex::wake(&self.gate.is_open, futex::Flags::PRIVATE, 1);
        (self.pid, memory)
    }

    /// Kills and collects it. Whether it is gone.
    fn end(&self) -> bool {
        let is_hit = is_dead(self.pid) || kill_direct_child(self.pid, libc::SIGKILL).is_ok();
        is_hit && wait_for(self.pid)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some(stack) = self.stack.take() else { return };
        if self.end() {
            stack.keep();
        } else {
            // It may use both still.
            std::mem::forget((stack, Arc::clone(&self.gate)));
        }
    }
}

extern "C" fn wait(gate: *mut c_void) -> c_int {
    // SAFETY: it points to the gate that `new` has made, which lasts until this process has died
    // or executed another program.
    let gate: &Gate = unsafe { &*gate.cast::<Gate>() };
    // What fails here is reported when there is a plan.
    let session = child::lead_session();
    for (first, last) in others(&gate.held) {
        close_range(first, last);
    }
    // SAFETY: the name is a terminated literal; it is this process's own, and the exec's afterwards.
    unsafe { libc::prctl(libc::PR_SET_NAME, NAME.as_ptr()) };
    if let Some(slice) = &gate.slice {
        slice.set();
    }
    let bound = child::die_with_guardian(gate.report);
    while gate.is_open.load(Ordering::Acquire) == 0 {
        let _ = futex::wait(&gate.is_open, futex::Flags::PRIVATE, 0, None);
    }
    // SAFETY: whoever opens the gate has put a plan there before, which outlives this process's use
    // of it, and which nobody changes.
    let plan = unsafe { &*gate.plan.load(Ordering::Relaxed) };
    child::go_on(plan, session.and(bound))
}
