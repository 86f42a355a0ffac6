// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! A host program that carries its guardian: its own executable, started once more.

use std::ffi::OsString;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::shell::fail;

/// `argv[0]` of a host's executable that is to be a guardian.
pub const EMBEDDED: &str = "proton-guardian (embedded)";

/// What such an executable may be told to be.
const ROLES: [&str; 3] = ["session", "nursery", "sweep"];

const NOT_CALLED: u8 = 0;
const CALLED: u8 = 1;
const TOO_LATE: u8 = 2;

static STATE: AtomicU8 = AtomicU8::new(NOT_CALLED);

/// The first line of a host's `fn main`, before any runtime or thread: where this process was
/// started to be a guardian it is one, and ends in here. Otherwise it is noted that the host's
/// executable can be started as one.
///
/// Which it is `argv` says, never the environment, which programs inherit. With more than one
/// thread a guardian can't be had: in a process that was to be one that is said on stderr, and the
/// host is told by the first open.
pub fn maybe_run() {
    let mut arguments = std::env::args_os();
    let is_guardian = arguments.next().is_some_and(|name| name == EMBEDDED);
    let arguments: Vec<OsString> = arguments.collect();
    let is_role = arguments.first().is_some_and(|role| ROLES.iter().any(|known| role == known));
    if is_guardian && is_role {
        let status = match has_one_thread() {
            true => crate::run(arguments),
            false => fail(
                "this process has more than one thread: `maybe_run` has to be the first line of a \
                 plain `fn main`, before any runtime",
            ),
        };
        std::process::exit(if status == std::process::ExitCode::SUCCESS { 0 } else { 125 });
    }
    let state = if has_one_thread() { CALLED } else { TOO_LATE };
    STATE.store(state, Ordering::Release);
}

/// Whether [`maybe_run`] was called in time.
pub fn is_embedded() -> bool {
    STATE.load(Ordering::Acquire) == CALLED
}

/// Whether [`maybe_run`] was called when there was more than one thread.
pub fn came_too_late() -> bool {
    STATE.load(Ordering::Acquire) == TOO_LATE
}

/// Without `/proc` that is not known, and a guardian would find out itself.
fn has_one_thread() -> bool {
    std::fs::read_dir("/proc/self/task").map_or(true, |threads| threads.take(2).count() == 1)
}
