// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Descriptors that travel with OPEN over a local socket (PROTOCOL §3).

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

mod support;

use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};

use proton_stream_protocol::{ExitKind, Field, Stdio, ToGuardian};
use rustix::fs::{fcntl_getfl, OFlags};
use rustix::net::{sendmsg, SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use support::{eventually, Guardian, Said};

fn pipe() -> (File, File) {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    (reader.into(), writer.into())
}

/// Starts `program` with what is passed, and hears what comes of it.
fn run(
    program: &[&str],
    stdio: [Stdio; 3],
    passed: &[BorrowedFd<'_>],
    check: impl FnOnce(&mut Guardian),
) {
    let (child, mut socket) = Guardian::on_a_socket();
    let wire = Guardian::opening(program, &[Field::Stdio(stdio)]);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(passed));
    let sent =
        sendmsg(&socket, &[IoSlice::new(&wire)], &mut ancillary, SendFlags::empty()).unwrap();
    socket.write_all(&wire[sent..]).unwrap();
    let mut guardian = Guardian::at(Some(child), socket);
    assert_eq!(guardian.hear(), Said::Hello);
    check(&mut guardian);
    guardian.vanish();
    guardian.wait();
}

#[test]
fn a_program_gets_the_open_files_themselves_and_their_flags_stay() {
    let (reader, writer) = pipe();
    let path = std::env::temp_dir().join(format!("proton-passing-{}", std::process::id()));
    std::fs::write(&path, "from a file\n").unwrap();
    let file = File::open(&path).unwrap();
    let passed = [file.as_fd(), writer.as_fd()];
    run(
        &["sh", "-c", "cat; echo error >&2; cat /proc/self/fdinfo/1 | grep flags >&2"],
        [Stdio::Passed, Stdio::Passed, Stdio::Piped],
        &passed,
        |guardian| {
            let Said::Started { stdin_credit, .. } = guardian.hear() else { panic!("no start") };
            assert_eq!(stdin_credit, 0);
            let outcome = guardian.hear_out();
            assert!(outcome.stdout.is_empty() && outcome.stdin_gone);
            let text = String::from_utf8(outcome.stderr).unwrap();
            assert_eq!(text, "error\nflags:\t01\n");
            assert_eq!(outcome.exit.unwrap().kind, ExitKind::Exited(0));
        },
    );
    assert!(!fcntl_getfl(&writer).unwrap().contains(OFlags::NONBLOCK));
    // Neither the guardian nor the program has it any more.
    drop(writer);
    let mut text = String::new();
    { reader }.read_to_string(&mut text).unwrap();
    assert_eq!(text, "from a file\n");
    // It was read by way of the same open file.
    let mut rest = String::new();
    { file }.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn more_or_fewer_than_stdio_names_are_refused_in_words() {
    let null = File::open("/dev/null").unwrap();
    let fd = null.as_fd();
    let refused = |stdio: [Stdio; 3], passed: &[BorrowedFd<'_>], said: &str| {
        run(&["true"], stdio, passed, |guardian| match guardian.hear() {
            Said::StartError { step, errno, detail } => {
                assert_eq!((step, errno, detail.as_str()), (1, 0, said));
            }
            other => panic!("{other:?}"),
        });
    };
    refused(
        [Stdio::Passed, Stdio::Piped, Stdio::Passed],
        &[fd],
        "1 descriptors came with the specification, stdio names 2",
    );
    refused(
        [Stdio::Piped; 3],
        &[fd, fd],
        "2 descriptors came with the specification, stdio names 0",
    );
}

#[test]
fn descriptors_that_come_late_are_closed() {
    let (mut child, mut socket) = Guardian::on_a_socket();
    socket.write_all(&Guardian::opening(&["cat"], &[])).unwrap();
    let (mut reader, writer) = pipe();
    let mut late = Vec::new();
    ToGuardian::Stdin(b"hello\n").encode(&mut late);
    let heard = socket.try_clone().unwrap();
    let mut guardian = Guardian::over(heard);
    guardian.started(&["cat"]);
    let passed = [writer.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&passed));
    sendmsg(&socket, &[IoSlice::new(&late)], &mut ancillary, SendFlags::empty()).unwrap();
    guardian.hear_until("hello\n");
    drop(writer);
    // The end of file: nobody else has it.
    assert_eq!(reader.read(&mut [0; 1]).unwrap(), 0);
    drop((guardian, socket));
    eventually("the guardian is gone", || child.try_wait().unwrap().is_some());
}
