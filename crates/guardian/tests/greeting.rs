// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! A controller that has not heard HELLO in time and leaves may start its program elsewhere.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

mod support;

use std::fs::{remove_dir_all, File};
use std::io::Write;
use std::process::Command;

use proton_stream_protocol::ToGuardian;
use rustix::pipe::{pipe_with, PipeFlags};
use support::leased::Leased;
use support::{directory, eventually, nobody_has_the_other_end, Guardian, Said};

fn children(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default()
}

#[test]
fn a_start_that_takes_long_is_greeted_meanwhile() {
    let leased = Leased::new("greeted");
    let mut guardian = Guardian::open_with(&[&leased.path()], &[]);
    assert_eq!(guardian.hear(), Said::Hello);
    assert_eq!(guardian.heard(), None, "it has not started");
    guardian.say(&ToGuardian::Close);
    assert!(matches!(guardian.hear(), Said::StartError { step: 11, .. }));
    guardian.part();
}

#[test]
fn who_leaves_while_a_start_is_under_way_hears_hello() {
    let leased = Leased::new("left");
    let mut guardian = Guardian::open_with(&[&leased.path()], &[]);
    let pid = guardian.child().id();
    eventually("the start is under way", || !children(pid).is_empty());
    guardian.vanish();
    assert_eq!(guardian.hear(), Said::Hello);
    assert_eq!(guardian.hear_or_lose(), None);
    assert!(guardian.wait().success());
}

#[test]
fn who_has_left_before_starts_nothing_and_hears_nothing() {
    let directory = directory("unheard");
    let (mark, said) = (directory.join("mark"), directory.join("said"));
    // A guardian is quicker than a program: this one would be seen if it had begun.
    let program = format!("trap '' TERM; : > {}", mark.display());
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    File::from(writer).write_all(&Guardian::opening(&["sh", "-c", &program], &[])).unwrap();
    nobody_has_the_other_end(&reader);
    let mut guardian = Command::new(env!("CARGO_BIN_EXE_proton-guardian"));
    guardian.arg("session").stdin(File::from(reader)).stdout(File::create(&said).unwrap());
    assert!(guardian.status().unwrap().success());
    assert_eq!(std::fs::read(&said).unwrap(), b"");
    assert!(!mark.exists());
    remove_dir_all(&directory).unwrap();
}
