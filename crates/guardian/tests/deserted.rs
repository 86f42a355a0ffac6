// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! A controller that reads one of the streams no more.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

mod support;

use proton_stream_protocol::{ExitKind, Field, Stdio, Stream, ToGuardian};
use support::{state, Guardian};

const SIGPIPE: ExitKind = ExitKind::Signalled { signal: 13, core: false };

/// Says what becomes of a write to stdout, once it has read a line.
const WRITER: &str = "import os, signal
signal.signal(signal.SIGPIPE, signal.SIG_IGN)
os.read(0, 100)
try: os.write(1, b'taken')
except BrokenPipeError: os.write(2, b'EPIPE')";

#[test]
fn a_program_whose_stdout_nobody_reads_gets_sigpipe() {
    for (stream, script) in [(Stream::Stdout, "exec yes"), (Stream::Stderr, "exec yes >&2")] {
        for credit in [0, 1, 1 << 30] {
            let credit = Field::Credit { stdout: credit, stderr: credit };
            let (mut guardian, _) = Guardian::run_with(&["sh", "-c", script], &[credit]);
            guardian.say(&ToGuardian::OutputGone(stream));
            let outcome = guardian.hear_out();
            assert_eq!(outcome.exit.unwrap().kind, SIGPIPE, "{credit:?}");
            assert_eq!(outcome.ended.len(), 2);
            guardian.part();
        }
    }
}

#[test]
fn the_other_stream_flows_on() {
    let (mut guardian, _) = Guardian::run(&["python3", "-c", WRITER]);
    // A second time it does nothing.
    for _ in 0..2 {
        guardian.say(&ToGuardian::OutputGone(Stream::Stdout));
    }
    guardian.say(&ToGuardian::Stdin(b"\n"));
    let outcome = guardian.hear_out();
    assert_eq!((&outcome.stdout[..], &outcome.stderr[..]), (&b""[..], &b"EPIPE"[..]));
    assert_eq!(outcome.exit.unwrap().kind, ExitKind::Exited(0));
}

#[test]
fn a_frame_that_was_begun_is_completed() {
    let (mut guardian, pid) = Guardian::run_unheard(&["yes"], &[]);
    // Its pipe is full, and the controller's: a frame is begun.
    support::eventually("nothing moves", || {
        let before = support::switches(pid);
        std::thread::sleep(std::time::Duration::from_millis(100));
        state(pid) == Some('S') && support::switches(pid) == before
    });
    guardian.say(&ToGuardian::OutputGone(Stream::Stdout));
    guardian.listen();
    let outcome = guardian.hear_out();
    assert_eq!(outcome.exit.unwrap().kind, SIGPIPE);
    let lines = outcome.stdout.chunks(2).filter(|line| !line.is_empty());
    assert!(lines.clone().count() > 1000 && lines.clone().all(|line| b"y\n".starts_with(line)));
    guardian.part();
}

#[test]
fn a_stream_that_the_guardian_does_not_have_stays_as_it_is() {
    // What both streams are is stdout's; of /dev/null nobody reads anyway.
    let same = Field::Stdio([Stdio::Piped, Stdio::Piped, Stdio::SameAsStdout]);
    let null = Field::Stdio([Stdio::Piped, Stdio::Null, Stdio::Piped]);
    for (stdio, stream, said) in
        [(same, Stream::Stderr, ["taken", ""]), (null, Stream::Stdout, ["", ""])]
    {
        let (mut guardian, _) = Guardian::run_with(&["python3", "-c", WRITER], &[stdio]);
        guardian.say(&ToGuardian::OutputGone(stream));
        guardian.say(&ToGuardian::Stdin(b"\n"));
        let outcome = guardian.hear_out();
        assert_eq!(outcome.exit.unwrap().kind, ExitKind::Exited(0));
        assert_eq!([&outcome.stdout[..], &outcome.stderr[..]], said.map(str::as_bytes));
    }
}

#[test]
fn a_program_that_is_being_ended_can_write_to_its_end() {
    let (mut guardian, _) = Guardian::run(&[
        "python3",
        "-c",
        &support::at_signal(15, "say('x' * 200000); os._exit(7)"),
    ]);
    guardian.hear_until("\n");
    guardian.say(&ToGuardian::Close);
    guardian.say(&ToGuardian::OutputGone(Stream::Stdout));
    assert_eq!(guardian.hear_out().exit.unwrap().kind, ExitKind::Exited(7));
}
