// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Who may connect to a nursery, and what all others cost (PROTOCOL §10).

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

mod support;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;

use proton_stream_protocol::{ExitKind, Preamble, ToGuardian};
use support::nursery::{begin, children, nurse, Nursery, Told, SECRET};
use support::{eventually, Guardian, DEADLINE};

/// Whether a connection is closed without a word.
fn is_closed(mut socket: UnixStream) -> bool {
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut nothing = Vec::new();
    // Closed with bytes unread is a reset.
    socket.read_to_end(&mut nothing).map_or_else(
        |error| error.kind() == std::io::ErrorKind::ConnectionReset,
        |_| nothing.is_empty(),
    )
}

#[test]
fn garbage_and_a_wrong_secret_cost_a_connection_and_no_run() {
    let nursery = Nursery::new();
    let mut wrong = Preamble { secret: SECRET, run: 1 }.encode();
    wrong[31] ^= 1;
    for said in
        [&wrong[..], &[0; 40], &b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n"[..]]
    {
        let mut socket = nursery.connect();
        socket.write_all(said).unwrap();
        assert!(is_closed(socket));
    }
    // One that leaves too early, and one that comes in pieces.
    let mut early = nursery.connect();
    early.write_all(&wrong[..20]).unwrap();
    drop(early);
    let mut slow = nursery.connect();
    for byte in (Preamble { secret: SECRET, run: 2 }).encode() {
        slow.write_all(&[byte]).unwrap();
    }
    let mut guardian = Guardian::over(slow);
    guardian.open(&["true"], &[]);
    guardian.started(&["true"]);
    assert_eq!(guardian.hear_out().exit.unwrap().kind, ExitKind::Exited(0));
}

#[test]
fn many_that_say_nothing_keep_nobody_out() {
    let nursery = Nursery::new();
    let silent: Vec<UnixStream> = (0..40).map(|_| nursery.connect()).collect();
    let (mut guardian, _, _) = nursery.run(1, &["cat"], &[]);
    guardian.say(&ToGuardian::Eof);
    assert_eq!(guardian.hear_out().exit.unwrap().kind, ExitKind::Exited(0));
    drop(guardian);
    silent.into_iter().for_each(|socket| assert!(is_closed(socket)));
    eventually("two wait", || children(nursery.pid()).len() == 2);
}

#[test]
fn another_process_of_the_same_user_is_not_served() {
    let nursery = Nursery::new();
    // It has the secret, and yet another pid.
    let script = "import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.settimeout(20)
try:
    s.sendall(bytes.fromhex(sys.argv[2]))
    print(len(s.recv(100)))
except (ConnectionResetError, BrokenPipeError):
    print(0)";
    let preamble = Preamble { secret: SECRET, run: 1 }.encode();
    let hex: String = preamble.iter().map(|byte| format!("{byte:02x}")).collect();
    let output = Command::new("python3")
        .args(["-c", script])
        .arg(&nursery.socket)
        .arg(hex)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0\n", "{output:?}");
    eventually("two wait", || children(nursery.pid()).len() == 2);
}

#[test]
fn another_user_can_not_connect() {
    if !support::is_root() {
        return;
    }
    let nursery = Nursery::new();
    let script = "import socket, sys
try:
    socket.socket(socket.AF_UNIX).connect(sys.argv[1])
    print('connected')
except PermissionError:
    print('refused')";
    let output = Command::new("/usr/bin/python3")
        .args(["-c", script])
        .arg(&nursery.socket)
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "refused\n", "{output:?}");
}

#[test]
fn what_is_wrong_with_a_beginning_is_said_in_words() {
    let mut version = nurse(std::process::id());
    version[6] = 9;
    for (wire, code, word) in [
        (version, 1, "speaks protocol 9"),
        (nurse(4_194_305), 4, "directory"),
        (b"\0\0\0\x02\x7fx".to_vec(), 2, "frame type 0x7f"),
    ] {
        let mut nursery = begin(&wire, None);
        match nursery.hear() {
            Told::Error(got, sentence) => {
                assert_eq!(got, code, "{sentence}");
                assert!(sentence.contains(word), "{sentence}");
            }
            other => panic!("{other:?}"),
        }
        nursery.stdin = None;
        assert!(nursery.wait().success());
    }
}
