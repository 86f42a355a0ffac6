// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! What a Rust program gets: the promises of docs/GUARANTEES.md through this crate, with real
//! programs. Each case is a process of its own, which is its own guardian's executable, too.
//!
//! `cargo test -p proton-stream --test api -- NAME` runs those with NAME in theirs.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

mod blocking;
mod cancel;
mod containment;
mod covered;
mod data;
mod embed;
mod exit;
mod first_use;
mod flow;
mod groups;
#[path = "../../../containment/tests/guard/mod.rs"]
#[allow(dead_code)] // what the tests of containment need besides
mod guard;
mod guarded;
mod hanging;
mod host;
mod input;
mod located;
mod nobody;
mod pipes;
mod runtimes;
mod sigpipe;
mod start;
mod support;
mod sweeping;
mod worker;

use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

pub(crate) use support::eventually_without_runtime as eventually;
use support::Case;

fn cases() -> impl Iterator<Item = &'static Case> {
    [
        data::CASES,
        flow::CASES,
        input::CASES,
        exit::CASES,
        start::CASES,
        hanging::CASES,
        pipes::CASES,
        first_use::CASES,
        containment::CASES,
        groups::CASES,
        nobody::CASES,
        guarded::CASES,
        cancel::CASES,
        covered::CASES,
        worker::CASES,
        blocking::CASES,
        runtimes::CASES,
        sigpipe::CASES,
        embed::CASES,
        located::CASES,
    ]
    .into_iter()
    .flatten()
}

fn main() -> ExitCode {
    // Those who make a mistake, of their own accord.
    let first = std::env::args().nth(1).unwrap_or_default();
    if embed::FORGETFUL.contains(&first.as_str()) {
        return embed::forgetful(&first);
    }
    if located::HOSTS.contains(&first.as_str()) {
        return located::main(&first);
    }
    if std::env::var_os("PROTON_CLIENT_THREAD").is_some() {
        std::thread::spawn(std::thread::park);
    }
    proton_stream::maybe_run();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["--case", name] => {
            let case = cases().find(|case| case.name == *name).expect("a case");
            (case.run)();
            ExitCode::SUCCESS
        }
        ["--guarded", name] => guarded::first_process(name),
        ["--hanging", rest @ ..] => hanging::main(rest),
        ["--host", rest @ ..] => host::main(rest),
        ["--nobody", rest @ ..] => nobody::main(rest),
        ["--list", ..] => {
            cases().for_each(|case| println!("{}: test", case.name));
            ExitCode::SUCCESS
        }
        words => run_all(words),
    }
}

fn run_all(words: &[&str]) -> ExitCode {
    let filters: Vec<&&str> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let wanted =
        |case: &&Case| filters.is_empty() || filters.iter().any(|word| case.name.contains(**word));
    let (mut passed, mut failed) = (0, Vec::new());
    for case in cases().filter(wanted) {
        let (succeeded, output) = run_one(case);
        println!("test {} ... {}", case.name, if succeeded { "ok" } else { "FAILED" });
        if succeeded {
            passed += 1;
        } else {
            println!("{output}");
            failed.push(case.name);
        }
    }
    println!("\n{passed} passed; {} failed\n", failed.len());
    failed.iter().for_each(|name| println!("failed: {name}"));
    ExitCode::from(u8::from(!failed.is_empty()))
}

fn run_one(case: &Case) -> (bool, String) {
    if guarded::CASES.iter().any(|guarded| guarded.name == case.name) {
        return guarded::run(case);
    }
    let path = std::env::temp_dir().join(format!("proton-client-{}", std::process::id()));
    let log = std::fs::File::create(&path).expect("a log");
    let mut child = Command::new(std::env::current_exe().expect("this executable"))
        .args(["--case", case.name])
        .env_remove("PROTON_GUARDIAN")
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log"))
        .stderr(log)
        .spawn()
        .expect("a case");
    let deadline = Instant::now() + Duration::from_secs(120);
    let succeeded = loop {
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
    (succeeded, String::from_utf8_lossy(&text).into_owned())
}
