// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! What the real kernel does. Each case is a process of its own: this executable runs itself once
//! for each, because a guardian has one thread and collects every child it has. And once more with
//! what can be made ahead of a start, which must make no difference.
//!
//! `cargo test -p proton-stream-containment --test kernel -- NAME` runs those with NAME in theirs.

#[path = "../guard/mod.rs"]
mod guard;
mod host;

mod ahead;
mod attributes;
mod bases;
mod cgroups;
mod counting;
mod failures;
mod guarded;
mod namespaces;
mod owners;
mod spawning;
mod trees;
mod users;

use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

pub(crate) use guard::mount_of;
pub(crate) use host::{eventually, Case, AHEAD};

/// How a case runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// As whoever runs the tests.
    Plain,
    /// Only as root.
    Root,
    /// Behind the guard.
    Guarded,
    /// Only as root, and behind the guard.
    RootGuarded,
    /// Only as a part of another case, behind the guard.
    Inside,
}

fn cases() -> impl Iterator<Item = &'static Case> {
    [
        spawning::CASES,
        ahead::CASES,
        users::CASES,
        trees::CASES,
        cgroups::CASES,
        counting::CASES,
        namespaces::CASES,
        owners::CASES,
        attributes::CASES,
        failures::CASES,
        guarded::CASES,
    ]
    .into_iter()
    .flatten()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["--case", name] => {
            let case = cases().find(|case| case.name == *name).expect("a case");
            (case.run)();
            ExitCode::SUCCESS
        }
        ["--guarded", name] => behind_the_guard(name),
        ["--helper", name, rest @ ..] => {
            host::helper(name, rest);
            ExitCode::SUCCESS
        }
        ["--list", ..] => {
            cases().for_each(|case| println!("{}: test", case.name));
            ExitCode::SUCCESS
        }
        words => run_all(words),
    }
}

/// The first process of the guard's namespace. The case is a child of it, so that it is not itself
/// what adopts every orphan by nature.
fn behind_the_guard(name: &str) -> ExitCode {
    guard::confirm();
    assert_eq!(std::process::id(), 1);
    let status = Command::new("/proc/self/exe").args(["--case", name]).status();
    match status.expect("the case").code() {
        Some(0) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn run_all(words: &[&str]) -> ExitCode {
    let filters: Vec<&&str> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let wanted = |case: &&Case| {
        case.how != How::Inside
            && (filters.is_empty() || filters.iter().any(|word| case.name.contains(**word)))
    };
    let (mut passed, mut failed, mut skipped) = (0, Vec::new(), 0);
    for case in cases().filter(wanted) {
        if matches!(case.how, How::Root | How::RootGuarded) && !rustix::process::geteuid().is_root()
        {
            println!("test {} ... needs root: sudo -E cargo test", case.name);
            skipped += 1;
            if std::env::var_os("CI").is_some() {
                failed.push(case.name);
            }
            continue;
        }
        let mut verdict = |how: &str, (succeeded, output): (bool, String)| {
            println!("test {}{how} ... {}", case.name, if succeeded { "ok" } else { "FAILED" });
            if succeeded {
                passed += 1;
            } else {
                println!("{output}");
                failed.push(case.name);
            }
        };
        if matches!(case.how, How::Guarded | How::RootGuarded) {
            verdict("", run_guarded(case));
        } else {
            verdict("", run_one(case, false));
            verdict(", made ahead", run_one(case, true));
        }
    }
    println!("\n{passed} passed; {} failed; {skipped} skipped\n", failed.len());
    failed.iter().for_each(|name| println!("failed: {name}"));
    ExitCode::from(u8::from(!failed.is_empty()))
}

fn run_guarded(case: &Case) -> (bool, String) {
    let output = guard::run(&["--guarded", case.name]);
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

fn run_one(case: &Case, ahead: bool) -> (bool, String) {
    let path = std::env::temp_dir().join(format!("proton-kernel-{}", std::process::id()));
    let log = std::fs::File::create(&path).expect("a log");
    let mut child = Command::new(std::env::current_exe().expect("this executable"))
        .args(["--case", case.name])
        .envs(ahead.then_some((AHEAD, "1")))
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log"))
        .stderr(log)
        .spawn()
        .expect("a case");
    let deadline = Instant::now() + Duration::from_secs(60);
    let status = loop {
        match child.try_wait().expect("our own child") {
            Some(status) => break status.success(),
            None if Instant::now() > deadline => {
                child.kill().expect("our own child");
                child.wait().expect("our own child");
                break false;
            }
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    let text = std::fs::read(&path).unwrap_or_default();
    let _ = std::fs::remove_file(&path);
    (status, String::from_utf8_lossy(&text).into_owned())
}
