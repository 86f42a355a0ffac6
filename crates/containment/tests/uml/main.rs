// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! What a kernel does that has cgroup version 2 only: user-mode Linux, booted by this test, which
//! needs neither root nor KVM. This executable is also the guest's.
//!
//! `cargo test -p proton-stream-containment --test uml -- NAME` runs those with NAME in theirs.

#[path = "../kernel/attributes.rs"]
mod attributes;
#[path = "../kernel/bases.rs"]
mod bases;
mod boot;
#[path = "../kernel/counting.rs"]
mod counting;
mod cpio;
#[path = "../kernel/host.rs"]
// Not everything in it is of use on a machine without files.
#[allow(dead_code)]
mod host;
mod killing;
mod limits;
#[path = "../kernel/owners.rs"]
mod owners;
mod places;
mod privileges;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

pub(crate) use host::Case;

/// How a case runs: in the guest everybody is root.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Root,
}

fn cases() -> impl Iterator<Item = &'static Case> {
    [
        limits::CASES,
        killing::CASES,
        places::CASES,
        owners::CASES,
        counting::CASES,
        attributes::CASES,
        privileges::CASES,
    ]
    .into_iter()
    .flatten()
}

/// Where the controllers are, in the guest: all in one tree.
pub(crate) fn mount_of(_controller: &str) -> PathBuf {
    "/sys/fs/cgroup".into()
}

fn wanted(words: &[&str]) -> impl Iterator<Item = &'static Case> {
    let filters: Vec<String> =
        words.iter().filter(|word| !word.starts_with('-')).map(|word| word.to_string()).collect();
    cases().filter(move |case| {
        filters.is_empty() || filters.iter().any(|word| case.name.contains(word.as_str()))
    })
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
        ["--helper", name, rest @ ..] => {
            host::helper(name, rest);
            ExitCode::SUCCESS
        }
        ["--guest", rest @ ..] => in_the_guest(rest),
        ["--list", ..] => {
            cases().for_each(|case| println!("{}: test", case.name));
            ExitCode::SUCCESS
        }
        words if wanted(words).next().is_none() => ExitCode::SUCCESS,
        words => boot::run(words),
    }
}

/// Runs each case in a process of its own.
fn in_the_guest(words: &[&str]) -> ExitCode {
    let mut failed = 0;
    let mut passed = 0;
    for case in wanted(words) {
        let began = Instant::now();
        let mut child = Command::new(std::env::current_exe().expect("this executable"))
            .args(["--case", case.name])
            .spawn()
            .expect("a case");
        let succeeded = loop {
            match child.try_wait().expect("our own child") {
                Some(status) => break status.success(),
                None if began.elapsed() > Duration::from_secs(30) => {
                    child.kill().expect("our own child");
                    child.wait().expect("our own child");
                    break false;
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        let time = began.elapsed().as_secs();
        println!("test {} ... {} ({time} s)", case.name, if succeeded { "ok" } else { "FAILED" });
        *(if succeeded { &mut passed } else { &mut failed }) += 1;
    }
    println!("\n{passed} passed; {failed} failed, on cgroup version 2\n");
    ExitCode::from(u8::from(failed > 0))
}
