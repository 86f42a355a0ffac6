// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! The cases of containment once more, with programs that fork faster than they can be followed:
//! a chain and a bomb; and those in which cgroups are swept. They run behind the guard of the tests of containment: a PID namespace of
//! their own, a number of processes, a deadline.

use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{wait, WaitOptions};

use crate::guard;
use crate::support::{end, fixture, Case, Tag};

/// What programs do that are never run without the guard.
pub(crate) const SHAPES: &[&str] = &["chain.sh", "bomb.sh"];

static IS_BEHIND: AtomicBool = AtomicBool::new(false);

/// Whether this case is one that has them.
pub(crate) fn is_behind() -> bool {
    IS_BEHIND.load(Ordering::Relaxed)
}

/// The process that was made last in the guard's namespace; 0 without a guard, where many are.
pub(crate) fn newest() -> u32 {
    if !is_behind() {
        return 0;
    }
    let load = std::fs::read_to_string("/proc/loadavg").expect("/proc");
    load.split_whitespace().last().and_then(|pid| pid.parse().ok()).expect("a pid")
}

/// Until those that have died are collected, too: they count until then, and a case could not make
/// the threads that it needs.
pub(crate) fn await_calm() {
    if is_behind() {
        crate::eventually("the dead are collected", || guard::population() < 16);
    }
}

macro_rules! guarded {
    ($($title:ident: $module:ident [$($name:ident),* $(,)?])*) => {
        &[$($(Case {
            name: concat!(stringify!($title), "::", stringify!($name)),
            run: || {
                go_behind();
                crate::support::run(crate::$module::$name());
            },
        },)*)* Case { name: "chain_and_bomb::what_is_left_is_seen", run: what_is_left_is_seen }]
    };
}

pub(crate) const CASES: &[Case] = guarded![
    chain_and_bomb: containment [
        a_dropped_handle_ends_the_tree,
        dropped_messages_end_the_tree,
        a_close_resolves_when_the_tree_is_dead,
        an_exit_is_told_when_the_tree_is_dead,
        a_runtime_that_ends_takes_its_programs_along,
        a_handle_that_is_dropped_while_nothing_runs_it_ends_the_tree,
        a_host_that_is_killed_in_any_state_leaves_nobody,
        a_killed_guardian_leaves_nobody,
        programs_of_a_killed_nursery_are_ended_by_a_close,
        a_killed_child_leaves_nobody,
    ]
    cgroup: sweeping [
        a_group_is_gone_when_the_end_is_told,
        a_killed_guardians_group_is_gone_when_that_is_told,
        a_killed_host_leaves_no_group,
        what_a_crash_of_all_has_left_goes_with_the_next_start,
    ]
];

fn go_behind() {
    guard::confirm();
    IS_BEHIND.store(true, Ordering::Relaxed);
}

/// That those cases can fail: nobody contains these, but for the guard.
fn what_is_left_is_seen() {
    go_behind();
    for shape in SHAPES {
        let tag = Tag::new();
        let mut program = Command::new(fixture(shape))
            .arg(end())
            .env("PROTON_CLIENT_TEST", tag.name())
            .stdin(std::process::Stdio::null())
            .spawn()
            .expect("it starts");
        // It reads an end of file, and goes; its descendants stay.
        program.wait().expect("our own child");
        for _ in 0..50 {
            assert!(!tag.alive().is_empty(), "{shape}");
        }
    }
}

/// Runs a case behind the guard.
pub(crate) fn run(case: &Case) -> (bool, String) {
    let output = guard::run(&["--guarded", case.name]);
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// The first process of the guard's namespace: it runs the case as a child, and collects whoever
/// else is left to it, so that the number of processes counts those that live.
pub(crate) fn first_process(name: &str) -> ExitCode {
    guard::confirm();
    assert_eq!(std::process::id(), 1);
    let mut command = Command::new("/proc/self/exe");
    command.args(["--case", name]).env_remove("PROTON_GUARDIAN");
    let case = command.spawn().map(|child| child.id()).expect("the case");
    loop {
        let (pid, status) = wait(WaitOptions::empty()).expect("a child").expect("one that ended");
        if pid.as_raw_nonzero().get().unsigned_abs() == case {
            return if status.exit_status() == Some(0) {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            };
        }
    }
}
