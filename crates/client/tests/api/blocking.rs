// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! The API for code that has no runtime.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::time::Duration;

use proton_stream::{blocking, Command, Message, Options, Reason, Signal, Stdio};

use crate::support::{Case, Tag, DEADLINE};

/// These have no runtime but for what they say.
pub(crate) const CASES: &[Case] = &[
    Case { name: "blocking_calls_do_what_the_others_do", run: calls },
    Case { name: "a_blocking_child_is_read_and_written", run: child },
    Case { name: "blocking_messages_are_an_iterator", run: messages },
    Case { name: "every_call_has_one_that_waits", run: all },
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
    assert!(child.info().os_pid.is_some() && child.stats().is_err());
    drop(child);
    let mut child =
        blocking::spawn(Command::new("sleep").arg("60").with(|_| tag.options())).unwrap();
    child.signal(Signal::USR1);
    assert_eq!(child.wait().unwrap().signal(), Some(Signal::USR1));
    let mut child =
        blocking::spawn(Command::new("sleep").arg("60").with(|_| tag.options())).unwrap();
    child.start_kill();
    assert_eq!(child.wait().unwrap().signal(), Some(Signal::KILL));
    crate::support::run(async move { tag.await_nobody("dropped").await });
}

fn messages() {
    let (bc, mut messages) = blocking::open("bc", ["-q"], Options::new()).unwrap();
    let error = messages.recv_timeout(Duration::from_millis(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    bc.write("2 + 2\n").unwrap();
    let answer = messages.recv_timeout(DEADLINE).unwrap();
    assert_eq!(answer, Some(Message::Data("4\n".into())));
    // Without a group each is refused.
    assert!(bc.stats().is_err() && bc.freeze().is_err() && bc.thaw().is_err());
    assert_eq!(bc.close().unwrap().reason(), &Reason::Normal);
    let rest: Vec<Message> = messages.collect();
    assert!(matches!(rest[..], [Message::Exit(_), Message::Closed]), "{rest:?}");
}

/// Whatever waits elsewhere waits here, too: those that are missing are found in the sources.
fn all() {
    let ours = [
        include_str!("../../src/blocking/child.rs"),
        include_str!("../../src/blocking/messages.rs"),
    ];
    for (source, ours) in
        [include_str!("../../src/child.rs"), include_str!("../../src/messages.rs")].iter().zip(ours)
    {
        let functions = source.lines().filter_map(|line| {
            let rest = line.strip_prefix("    pub ")?;
            rest.strip_prefix("async ").unwrap_or(rest).strip_prefix("fn ")
        });
        for function in functions {
            let name = function.split(['(', '<']).next().unwrap();
            // Those two are what is waited with.
            if !["open", "poll_recv"].contains(&name) {
                assert!(ours.contains(&format!("    pub fn {name}(")), "{name} is missing");
            }
        }
    }
}

fn inside() {
    crate::support::run(async {
        let output = blocking::output(Command::new("echo").arg("inside")).unwrap();
        assert_eq!(output.stdout, b"inside\n");
    });
}
