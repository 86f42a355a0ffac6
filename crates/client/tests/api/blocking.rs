// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! The API for code that has no runtime.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::time::Duration;

use proton_stream::{blocking, Command, Message, Options, Reason, Stdio};

use crate::support::{Case, Tag, DEADLINE};

/// These have no runtime but for what they say.
pub(crate) const CASES: &[Case] = &[
    Case { name: "blocking_calls_do_what_the_others_do", run: calls },
    Case { name: "a_blocking_child_is_read_and_written", run: child },
    Case { name: "blocking_messages_are_an_iterator", run: messages },
    Case { name: "a_blocking_call_inside_of_a_runtime_works", run: inside },
];

fn calls() {
    let output =
        blocking::output(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 2"]));
    let output = output.unwrap();
    assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!(output.exit.code(), Some(2));
    assert!(blocking::status(&mut Command::new("true")).unwrap().success());
    let error = blocking::spawn(&mut Command::new("no-such-program")).unwrap_err();
    assert_eq!(error.errno(), Some(2));
}

fn child() {
    let mut command = Command::new("cat");
    let mut child = blocking::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped())).unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut stdin = child.stdin.take().unwrap();
    for number in 0..50 {
        writeln!(stdin, "line {number}").unwrap();
        stdin.flush().unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), format!("line {number}"));
    }
    drop(stdin);
    assert!(lines.next().is_none());
    assert!(child.wait().unwrap().success());
    let tag = Tag::new();
    let child = blocking::spawn(Command::new("sleep").arg("60").with(|_| tag.options())).unwrap();
    drop(child);
    crate::support::run(async move { tag.await_nobody("dropped").await });
}

fn messages() {
    let (bc, mut messages) = blocking::open("bc", ["-q"], Options::new()).unwrap();
    let error = messages.recv_timeout(Duration::from_millis(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    bc.write("2 + 2\n").unwrap();
    let answer = messages.recv_timeout(DEADLINE).unwrap();
    assert_eq!(answer, Some(Message::Data("4\n".into())));
    assert_eq!(bc.close().unwrap().reason(), &Reason::Normal);
    let rest: Vec<Message> = messages.collect();
    assert!(matches!(rest[..], [Message::Exit(_), Message::Closed]), "{rest:?}");
}

fn inside() {
    crate::support::run(async {
        let output = blocking::output(Command::new("echo").arg("inside")).unwrap();
        assert_eq!(output.stdout, b"inside\n");
    });
}
