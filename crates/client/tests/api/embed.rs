// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! A program that carries its guardian, and one that has forgotten to say so.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

use proton_stream::{Error, Options, ProtonStream};

use crate::support::{cases, Case, Fake};

pub(crate) const CASES: &[Case] = cases![
    a_host_that_forgot_the_call_is_told_and_starts_nothing,
    a_host_that_calls_too_late_is_told_and_starts_nothing,
    a_guardian_in_a_process_with_threads_refuses_in_words,
    what_looks_like_a_guardian_by_its_arguments_only_is_a_host,
    a_guardian_of_another_version_is_refused_in_words,
];

/// What [`forgetful`] is started as.
pub(crate) const FORGETFUL: [&str; 2] = ["--forgetful", "--late"];

/// A host that has not called `maybe_run`, or too late. Prints what it is told, and whether it has
/// children.
pub(crate) fn forgetful(word: &str) -> ExitCode {
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || stopped.recv().is_err());
    if word == "--late" {
        proton_stream::maybe_run();
    }
    drop(stop);
    assert!(thread.join().unwrap());
    crate::support::run(async {
        let error = ProtonStream::open("true", [] as [&str; 0], Options::new()).await.unwrap_err();
        assert!(matches!(error, Error::NoGuardian(_)), "{error}");
        println!("{error}");
    });
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        assert_eq!(children, "");
    }
    ExitCode::SUCCESS
}

fn told(word: &str) -> String {
    let mut command = Command::new("/proc/self/exe");
    command.arg(word).env_remove("PROTON_GUARDIAN").env("PATH", "/nowhere");
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

async fn a_host_that_forgot_the_call_is_told_and_starts_nothing() {
    let text = told("--forgetful");
    assert!(text.contains("did not call `proton_stream::maybe_run()`"), "{text}");
    assert!(text.contains("first line of `fn main`"), "{text}");
}

async fn a_host_that_calls_too_late_is_told_and_starts_nothing() {
    let text = told("--late");
    assert!(text.contains("more than one thread"), "{text}");
}

async fn a_guardian_in_a_process_with_threads_refuses_in_words() {
    let output = Command::new("/proc/self/exe")
        .arg0("proton-guardian (embedded)")
        .arg("nursery")
        .env("PROTON_CLIENT_THREAD", "yes")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(125));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("more than one thread"), "{text}");
}

async fn what_looks_like_a_guardian_by_its_arguments_only_is_a_host() {
    // It takes `nursery` for a filter, and has no such case.
    let output = Command::new("/proc/self/exe")
        .arg("no-such-nursery")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("0 passed; 0 failed"), "{text}");
}

async fn a_guardian_of_another_version_is_refused_in_words() {
    let fake = Fake::new("printf '\\000\\000\\000\\011\\201\\000\\002\\0059.9.9'; cat > /dev/null");
    let options = Options::new().guardian(&fake.0);
    let error = ProtonStream::open("true", [] as [&str; 0], options).await.unwrap_err();
    let said = error.to_string();
    let sentence = "the other side speaks protocol 2 (proton_stream 9.9.9), this one 1";
    assert!(said.contains(sentence), "{said}");
}
