// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! A nursery whose controller is the test.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{channel, Receiver};

use proton_stream_protocol::{
    Ending, ExitKind, Field, FromNursery, Header, Preamble, ToGuardian, ToNursery, HEADER_LENGTH,
    SECRET_LENGTH,
};
use rustix::process::{kill_process, Pid, Signal};

use super::{eventually, pid_in, Guardian, DEADLINE};

pub const SECRET: [u8; SECRET_LENGTH] = [0x5a; SECRET_LENGTH];

/// What a nursery said, owned.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    Ready(PathBuf),
    Died(u64, Ending, Vec<u32>),
    Error(u8, String),
}

/// A nursery whose controller is the test.
pub struct Nursery {
    pub child: Child,
    pub stdin: Option<ChildStdin>,
    pub told: Receiver<Told>,
    pub socket: PathBuf,
}

fn read_frames(mut stdout: impl Read, tell: impl Fn(Told) -> bool) {
    let mut head = [0; HEADER_LENGTH];
    while stdout.read_exact(&mut head).is_ok() {
        let header = Header::from_nursery(head).expect("a well-formed header");
        let mut body = vec![0; header.body_length];
        stdout.read_exact(&mut body).expect("a whole body");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let told = match FromNursery::decode(header.kind, &body).expect("a well-formed frame") {
            FromNursery::Ready { path, .. } => Told::Ready(text(path).into()),
            FromNursery::Died { run, ending, survivors } => Told::Died(run, ending, survivors),
            FromNursery::Error { code, message } => Told::Error(code, text(message)),
        };
        if !tell(told) {
            return;
        }
    }
}

/// A nursery that has been told `first`, and no more.
pub fn begin(first: &[u8], directory: Option<&Path>) -> Nursery {
    let mut command = Command::new(env!("CARGO_BIN_EXE_proton-guardian"));
    if let Some(directory) = directory {
        command.env("TMPDIR", directory);
    }
    let mut child = command
        .arg("nursery")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the nursery starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(first).expect("it listens");
    let stdout = child.stdout.take().expect("piped");
    let (sender, told) = channel();
    std::thread::spawn(move || read_frames(stdout, |told| sender.send(told).is_ok()));
    Nursery { child, stdin: Some(stdin), told, socket: PathBuf::new() }
}

pub fn nurse(controller: u32) -> Vec<u8> {
    let mut wire = Vec::new();
    ToNursery::Nurse { package: b"test", controller, secret: SECRET }.encode(&mut wire);
    wire
}

impl Nursery {
    pub fn new() -> Self {
        Self::in_directory(None)
    }

    pub fn in_directory(directory: Option<&Path>) -> Self {
        let mut nursery = begin(&nurse(std::process::id()), directory);
        match nursery.hear() {
            Told::Ready(path) => nursery.socket = path,
            other => panic!("it is not ready: {other:?}"),
        }
        nursery
    }

    pub fn hear(&self) -> Told {
        self.told.recv_timeout(DEADLINE).expect("the nursery says something")
    }

    pub fn say(&mut self, frame: &ToNursery<'_>) {
        let mut wire = Vec::new();
        frame.encode(&mut wire);
        self.stdin.as_mut().unwrap().write_all(&wire).unwrap();
    }

    pub fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.socket).expect("it listens")
    }

    /// A connection that has said the secret.
    pub fn guardian(&self, run: u64) -> Guardian {
        let mut socket = self.connect();
        socket.write_all(&Preamble { secret: SECRET, run }.encode()).unwrap();
        Guardian::over(socket)
    }

    /// A program, with its pid and its guardian's.
    pub fn run(&self, run: u64, program: &[&str], fields: &[Field<'_>]) -> (Guardian, u32, u32) {
        let mut guardian = self.guardian(run);
        guardian.open(program, fields);
        let pid = guardian.started(program);
        (guardian, pid, parent(pid))
    }

    /// A connection whose run is over, with the pid of its guardian.
    pub fn kept(&self, run: u64) -> (Guardian, u32) {
        let (mut guardian, _, forked) = self.run(run, &["cat"], &[]);
        guardian.say(&ToGuardian::Eof);
        assert_eq!(guardian.hear_out().exit.unwrap().kind, ExitKind::Exited(0));
        (guardian, forked)
    }

    pub fn sh(&self, run: u64, script: &str) -> (Guardian, u32, u32) {
        self.run(run, &["sh", "-c", script], &[])
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> std::process::ExitStatus {
        let mut status = None;
        eventually("the nursery is gone", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Nursery {
    fn drop(&mut self) {
        self.stdin = None;
        if std::thread::panicking() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

pub fn parent(pid: u32) -> u32 {
    parent_of(pid).expect("it lives")
}

pub fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

pub fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid as i32).expect("a pid"), signal).expect("it is alive");
}

/// A process's children.
pub fn children(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().map(pid_in).collect()
}
