// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! What became of the program, told as it was, once.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

mod support;

use proton_stream_protocol::{Cause, ExitKind, Field, Rlimit, Stream, ToGuardian};
use support::{Guardian, Said};

#[test]
fn every_status_is_reported_as_a_status() {
    for status in 0..=255 {
        let (mut guardian, _) = Guardian::sh(&format!("exit {status}"));
        let exit = guardian.hear_out().exit.unwrap();
        assert_eq!((exit.kind, exit.cause), (ExitKind::Exited(status), Cause::Program));
        guardian.part();
    }
}

#[test]
fn every_terminating_signal_is_reported_as_that_signal() {
    // Those whose default action ends a process (signal(7)), real-time ones included.
    let terminating = (1..=64).filter(|number| !matches!(number, 17..=23 | 28));
    for number in terminating {
        let no_core = Rlimit { name: b"core", soft: Some(0), hard: Some(0) };
        let script = format!("kill -{number} $$");
        let fields = [Field::Rlimit(no_core)];
        let (mut guardian, _) = Guardian::run_with(&["sh", "-c", &script], &fields);
        let exit = guardian.hear_out().exit.unwrap();
        assert_eq!(exit.kind, ExitKind::Signalled { signal: number, core: false });
        guardian.part();
    }
}

#[test]
fn a_core_dump_is_reported_where_the_system_makes_cores() {
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    assert!(!pattern.trim().is_empty(), "this system makes no cores: set kernel.core_pattern");
    let directory = std::env::temp_dir().join(format!("proton-core-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let fields = [Field::Directory(directory.to_str().unwrap().as_bytes())];
    let script = "ulimit -c unlimited && kill -SEGV $$";
    let (mut guardian, _) = Guardian::run_with(&["sh", "-c", script], &fields);
    let exit = guardian.hear_out().exit.unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    assert_eq!(exit.kind, ExitKind::Signalled { signal: 11, core: true });
    guardian.part();
}

#[test]
fn what_the_program_used_is_reported() {
    let (mut guardian, _) =
        Guardian::run(&["python3", "-c", "x = bytearray(30_000_000); sum(range(2_000_000))"]);
    let exit = guardian.hear_out().exit.unwrap();
    assert!(exit.user_time > 1_000, "{exit:?}");
    assert!(exit.max_rss > 30_000, "{exit:?}");
    guardian.part();
}

#[test]
fn a_signal_from_the_controller_is_the_programs_own_end() {
    use proton_stream_protocol::ToGuardian;
    let (mut guardian, _) = Guardian::run(&["sleep", "1000"]);
    guardian.say(&ToGuardian::Signal { number: 10, tree: false });
    let exit = guardian.hear_out().exit.unwrap();
    assert_eq!(exit.kind, ExitKind::Signalled { signal: 10, core: false });
    assert_eq!(exit.cause, Cause::Program);
    guardian.part();
}

#[test]
fn the_pid_is_told_to_be_free_where_the_exit_has_to_wait() {
    // For credit.
    let credit = Field::Credit { stdout: 0, stderr: 0 };
    let (mut guardian, pid) = Guardian::run_with(&["echo", "hello"], &[credit]);
    while guardian.hear() != Said::Reaped {}
    assert!(!support::is_alive(pid));
    guardian.say(&ToGuardian::Credit { stream: Stream::Stdout, bytes: 100 });
    let outcome = guardian.hear_out();
    assert_eq!((outcome.stdout, outcome.reaped), (b"hello\n".to_vec(), false));
    guardian.part();
    // For descendants.
    let script = "(read line) <&3 & exit 3";
    let (mut guardian, _) = Guardian::run_with(
        &["sh", "-c", &format!("exec 3<&0; {script}")],
        &[Field::OnExitWait(true)],
    );
    while guardian.hear() != Said::Reaped {}
    guardian.say(&ToGuardian::Eof);
    let outcome = guardian.hear_out();
    assert_eq!(outcome.exit.unwrap().kind, ExitKind::Exited(3));
    guardian.part();
}
