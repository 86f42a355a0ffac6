// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Starts that fail, and what the started program finds.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

mod support;

use proton_stream_protocol::{ExitKind, Field, ToGuardian};
use support::{Guardian, Said};

const ENOENT: u32 = 2;
const E2BIG: u32 = 7;
const ENOEXEC: u32 = 8;
const EACCES: u32 = 13;

fn refusal(program: &[&str], fields: &[Field<'_>]) -> (u8, u32, String) {
    let mut guardian = Guardian::open_with(program, fields);
    assert_eq!(guardian.hear(), Said::Hello);
    let Said::StartError { step, errno, detail } = guardian.hear() else {
        panic!("{:?} was not refused", program[0])
    };
    guardian.part();
    (step, errno, detail)
}

fn output(program: &[&str], fields: &[Field<'_>]) -> String {
    let (mut guardian, _) = Guardian::run_with(program, fields);
    let outcome = guardian.hear_out();
    assert_eq!(outcome.exit.unwrap().kind, ExitKind::Exited(0));
    guardian.part();
    String::from_utf8(outcome.stdout).unwrap()
}

#[test]
fn a_missing_program_is_a_start_error() {
    assert_eq!(refusal(&["no-such-program"], &[]), (2, ENOENT, "no-such-program".into()));
    assert_eq!(refusal(&["/no/such"], &[]), (2, ENOENT, "/no/such".into()));
}

#[test]
fn what_is_not_executable_is_a_start_error() {
    assert_eq!(refusal(&["/etc/passwd"], &[]).1, EACCES);
    assert_eq!(refusal(&["/tmp"], &[]).1, EACCES);
}

#[test]
fn a_script_without_an_interpreter_is_a_start_error() {
    use std::os::unix::fs::PermissionsExt;
    let path = std::env::temp_dir().join(format!("proton-script-{}", std::process::id()));
    std::fs::write(&path, "echo hello\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let got = refusal(&[path.to_str().unwrap()], &[]);
    std::fs::remove_file(&path).unwrap();
    assert_eq!((got.0, got.1), (2, ENOEXEC));
}

#[test]
fn arguments_beyond_the_systems_limit_are_a_start_error_and_70_kb_are_not() {
    // A single string may have 128 KiB (execve(2), MAX_ARG_STRLEN).
    let long = "x".repeat(200_000);
    assert_eq!(refusal(&["true", &long], &[]).1, E2BIG);
    let fine = "x".repeat(70_000);
    assert_eq!(output(&["printf", "%s", &fine], &[]), fine);
    // More than a pipe holds, and far more than a VM's port arguments.
    let many: Vec<String> = (0..20).map(|_| "y".repeat(60_000)).collect();
    let mut program = vec!["sh", "-c", "echo $#", "sh"];
    program.extend(many.iter().map(String::as_str));
    assert_eq!(output(&program, &[]), "20\n");
}

#[test]
fn a_missing_directory_is_a_start_error_of_its_own() {
    let got = refusal(&["true"], &[Field::Directory(b"/no/such")]);
    assert_eq!(got, (3, ENOENT, "/no/such".into()));
}

#[test]
fn unknown_users_and_groups_are_start_errors_of_their_own() {
    assert_eq!(refusal(&["true"], &[Field::User(b"nobdy")]), (4, 0, "nobdy".into()));
    assert_eq!(refusal(&["true"], &[Field::Group(b"nogrp")]), (5, 0, "nogrp".into()));
}

#[test]
fn a_nul_in_an_argument_is_refused_not_cut() {
    let (step, _, sentence) = refusal(&["echo", "a\0b"], &[]);
    assert_eq!(step, 1);
    assert!(sentence.contains("NUL"), "{sentence}");
}

#[test]
fn a_descriptor_that_was_not_passed_is_missed_in_words() {
    use proton_stream_protocol::Stdio;
    let stdio = Field::Stdio([Stdio::Passed, Stdio::Piped, Stdio::Piped]);
    let (step, _, sentence) = refusal(&["true"], &[stdio]);
    assert_eq!(step, 1);
    assert_eq!(sentence, "0 descriptors came with the specification, stdio names 1");
}

#[test]
fn a_failed_start_is_followed_by_nothing() {
    let mut guardian = Guardian::open_with(&["no-such-program"], &[]);
    assert_eq!(guardian.hear(), Said::Hello);
    assert!(matches!(guardian.hear(), Said::StartError { .. }));
    guardian.say(&ToGuardian::Close);
    guardian.say(&ToGuardian::Stdin(b"late"));
    guardian.part();
}

#[test]
fn the_program_finds_the_environment_that_was_sent() {
    let fields = [
        Field::Inherited(b"A=inherited\0B=gone\0D=e"),
        Field::Inherited(b"C=bytes \xff"),
        Field::Set(b"A=set"),
        Field::Unset(b"B"),
    ];
    let (mut guardian, _) = Guardian::run_with(&["env", "-0"], &fields);
    let out = guardian.hear_out().stdout;
    let mut entries: Vec<&[u8]> = out.split(|byte| *byte == 0).filter(|e| !e.is_empty()).collect();
    entries.sort();
    let path = &b"PATH=/usr/local/bin:/usr/bin:/bin"[..];
    assert_eq!(entries, [&b"A=set"[..], b"C=bytes \xff", b"D=e", path]);
    guardian.part();
}

#[test]
fn the_program_runs_in_its_directory_with_its_own_name_and_path() {
    assert_eq!(output(&["pwd"], &[Field::Directory(b"/usr")]), "/usr\n");
    let arg0 = output(&["sh", "-c", "echo $0"], &[Field::Arg0(b"other")]);
    assert_eq!(arg0, "other\n");
    // A path is relative to the program's directory, a name is looked up in the program's PATH.
    assert_eq!(output(&["bin/echo", "x"], &[Field::Directory(b"/usr")]), "x\n");
    assert_eq!(refusal(&["echo"], &[Field::Set(b"PATH=/no/such")]).1, ENOENT);
}

#[test]
fn nothing_is_inherited_but_0_1_and_2() {
    let listing = output(&["ls", "/proc/self/fd"], &[]);
    // The fourth is the directory that ls reads.
    assert_eq!(listing, "0\n1\n2\n3\n");
}

#[test]
fn no_signal_is_ignored_or_blocked() {
    let status = output(&["cat", "/proc/self/status"], &[]);
    for field in ["SigBlk:", "SigIgn:"] {
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        assert!(line.ends_with("\t0000000000000000"), "{line}");
    }
}

#[test]
fn a_same_uid_program_cannot_write_into_the_guardians_descriptors() {
    // With it a program could fake its own exit report. Root may, so this is nobody's guardian.
    let (mut guardian, _) = Guardian::run_with(
        &["sh", "-c", "ls -ld /proc/$PPID/fd; ls /proc/$PPID/fd || echo refused"],
        &[],
    );
    let outcome = guardian.hear_out();
    let text = String::from_utf8(outcome.stdout).unwrap();
    // Not dumpable: the files of /proc/PID belong to root, whoever runs it (proc(5)).
    assert!(text.contains(" root root "), "{text}");
    guardian.part();
}

/// How long the scheduler lets a process run at once, in nanoseconds, where the kernel tells.
fn slice(sched: &str) -> Option<u64> {
    let line = sched.lines().find(|line| line.starts_with("se.slice"))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn a_guardian_has_a_short_slice_and_the_program_the_one_that_it_would_have_had() {
    let sched = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/sched")).ok();
    let Some(ours) = sched("thread-self").as_deref().and_then(slice) else { return };
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut release = release.split('.').map_while(|part| part.parse::<u32>().ok());
    let is_asked_for = (release.next(), release.next()) >= (Some(6), Some(12));
    // Made in the guardian's memory, and by a fork.
    for fields in [&[][..], &[Field::Nice(3)]] {
        let (mut guardian, pid) = Guardian::run_with(&["cat"], fields);
        assert_eq!(sched(&pid.to_string()).as_deref().and_then(slice), Some(ours));
        if is_asked_for {
            let its = sched(&guardian.child().id().to_string()).as_deref().and_then(slice);
            assert_eq!(its, Some(100_000));
        }
        guardian.say(&ToGuardian::Eof);
        assert_eq!(guardian.hear_out().exit.unwrap().kind, ExitKind::Exited(0));
        guardian.part();
    }
    assert_eq!(output(&["nice"], &[Field::Nice(3)]), "3\n");
}
