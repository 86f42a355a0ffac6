// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! A controller for tests: starts a guardian and speaks the protocol to it.

#![allow(dead_code, unreachable_pub)] // each test file uses its part

pub mod leased;
pub mod nursery;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{channel, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use proton_stream_protocol::{
    Exit, Field, FromGuardian, Gauge, Header, Open, Stream, ToGuardian, HEADER_LENGTH,
};
use rustix::event::{poll, PollFd, PollFlags, Timespec};

/// How long a condition may take to come true.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// What a guardian said, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Hello,
    Started { pid: u32, stdin_credit: u32, level: u8, cgroup: String },
    StartError { step: u8, errno: u32, detail: String },
    Output(Stream, Vec<u8>),
    StdinCredit(u32),
    StdinGone,
    Reaped,
    EndOfOutput(Stream),
    Exit(Exit),
    Error { code: u8, message: String },
    Stats(Vec<(Gauge, u64)>),
    Done,
    Refused { errno: u32, detail: String },
}

impl From<FromGuardian<'_>> for Said {
    fn from(frame: FromGuardian<'_>) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match frame {
            FromGuardian::Hello { .. } => Said::Hello,
            FromGuardian::Started { pid, level, stdin_credit, cgroup } => {
                Said::Started { pid, level, stdin_credit, cgroup: text(cgroup) }
            }
            FromGuardian::StartError { step, errno, detail } => {
                Said::StartError { step, errno, detail: text(detail) }
            }
            FromGuardian::Output { stream, bytes } => Said::Output(stream, bytes.to_vec()),
            FromGuardian::StdinCredit { bytes } => Said::StdinCredit(bytes),
            FromGuardian::StdinGone => Said::StdinGone,
            FromGuardian::Reaped => Said::Reaped,
            FromGuardian::EndOfOutput(stream) => Said::EndOfOutput(stream),
            FromGuardian::Exit(exit) => Said::Exit(exit),
            FromGuardian::Error { code, message } => Said::Error { code, message: text(message) },
            FromGuardian::Stats(gauges) => Said::Stats(gauges),
            FromGuardian::Done => Said::Done,
            FromGuardian::Refused { errno, detail } => {
                Said::Refused { errno, detail: text(detail) }
            }
        }
    }
}

/// A guardian and its controller's end.
pub struct Guardian {
    /// Where it is a child of the test.
    child: Option<Child>,
    stdin: Option<Box<dyn Write>>,
    frames: Receiver<Said>,
    /// Held while the guardian is not listened to.
    deafness: Option<Sender<()>>,
}

impl Guardian {
    /// Starts one that has not been told anything.
    pub fn new() -> Self {
        let mut guardian = Self::deaf_after_started();
        guardian.listen();
        guardian
    }

    /// One that is not root; its executable is copied to where that user can reach it.
    pub fn of_nobody(directory: &Path) -> Self {
        let executable = directory.join("guardian");
        std::fs::copy(env!("CARGO_BIN_EXE_proton-guardian"), &executable).expect("a copy");
        let mut guardian = Self::deaf(Command::new(executable).uid(65534).gid(65534));
        guardian.listen();
        guardian
    }

    /// What follows STARTED is left in the pipe until [`listen`](Self::listen).
    fn deaf_after_started() -> Self {
        Self::deaf(&mut Command::new(env!("CARGO_BIN_EXE_proton-guardian")))
    }

    fn deaf(command: &mut Command) -> Self {
        let mut child = command
            .arg("session")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the guardian starts");
        let stdin = child.stdin.take().expect("piped");
        let stdout = child.stdout.take().expect("piped");
        Self::between(Some(child), stdin, stdout)
    }

    /// One whose stdin and stdout are one socket, and its other end.
    pub fn on_a_socket() -> (Child, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let theirs = OwnedFd::from(theirs);
        let child = Command::new(env!("CARGO_BIN_EXE_proton-guardian"))
            .arg("session")
            .stdin(Stdio::from(theirs.try_clone().expect("a copy")))
            .stdout(Stdio::from(theirs))
            .spawn()
            .expect("the guardian starts");
        (child, ours)
    }

    /// One that is at the other end of a socket.
    pub fn over(socket: UnixStream) -> Self {
        Self::at(None, socket)
    }

    /// The same, of a child of the test.
    pub fn at(child: Option<Child>, socket: UnixStream) -> Self {
        let output = socket.try_clone().expect("a copy");
        let mut guardian = Self::between(child, Connected(socket), output);
        guardian.listen();
        guardian
    }

    fn between(
        child: Option<Child>,
        stdin: impl Write + 'static,
        mut stdout: impl Read + Send + 'static,
    ) -> Self {
        let (sender, frames) = channel();
        let (deafness, hearing) = channel();
        std::thread::spawn(move || {
            let mut head = [0; HEADER_LENGTH];
            while stdout.read_exact(&mut head).is_ok() {
                let header = Header::from_guardian(head).expect("a well-formed header");
                let mut body = vec![0; header.body_length];
                stdout.read_exact(&mut body).expect("a whole body");
                let frame = FromGuardian::decode(header.kind, &body).expect("a well-formed frame");
                let said = Said::from(frame);
                let started = matches!(said, Said::Started { .. });
                if sender.send(said).is_err() {
                    return;
                }
                if started {
                    // Until the other end is dropped: nothing is ever sent.
                    let _: Result<(), _> = hearing.recv();
                }
            }
        });
        Guardian { child, stdin: Some(Box::new(stdin)), frames, deafness: Some(deafness) }
    }

    /// The guardian's own process.
    pub fn child(&mut self) -> &mut Child {
        self.child.as_mut().expect("a child of the test")
    }

    /// Reads on.
    pub fn listen(&mut self) {
        self.deafness = None;
    }

    /// Starts a program without reading what follows STARTED.
    pub fn run_unheard(program: &[&str], fields: &[Field<'_>]) -> (Self, u32) {
        let mut guardian = Self::deaf_after_started();
        guardian.open(program, fields);
        let pid = guardian.started(program);
        (guardian, pid)
    }

    /// Starts one and tells it to run `program` with great credit and whatever `fields` say.
    pub fn open_with(program: &[&str], fields: &[Field<'_>]) -> Self {
        let mut guardian = Self::new();
        guardian.open(program, fields);
        guardian
    }

    pub fn open(&mut self, program: &[&str], fields: &[Field<'_>]) {
        self.say_bytes(&Self::opening(program, fields));
    }

    /// The same on a connection whose last run is over.
    pub fn again(&mut self, run: u64, program: &[&str], fields: &[Field<'_>]) {
        let opening = Self::opening(program, fields);
        match ToGuardian::decode(opening[HEADER_LENGTH - 1], &opening[HEADER_LENGTH..]) {
            Ok(ToGuardian::Open(open)) => self.say(&ToGuardian::Again { run, open }),
            other => panic!("no OPEN: {other:?}"),
        }
    }

    /// OPEN as [`open`](Self::open) says it.
    pub fn opening(program: &[&str], fields: &[Field<'_>]) -> Vec<u8> {
        let mut all = vec![Field::Program(program[0].as_bytes())];
        all.extend(program[1..].iter().map(|argument| Field::Argument(argument.as_bytes())));
        all.push(Field::Inherited(b"PATH=/usr/local/bin:/usr/bin:/bin"));
        if !fields.iter().any(|field| matches!(field, Field::Credit { .. })) {
            all.push(Field::Credit { stdout: 1 << 30, stderr: 1 << 30 });
        }
        all.extend_from_slice(fields);
        let mut wire = Vec::new();
        ToGuardian::Open(Open { package: b"test", fields: all }).encode(&mut wire);
        wire
    }

    pub fn started(&mut self, program: &[&str]) -> u32 {
        assert_eq!(self.hear(), Said::Hello);
        match self.hear() {
            Said::Started { pid, .. } => pid,
            other => panic!("{program:?} did not start: {other:?}"),
        }
    }

    /// The same, and waits until the program runs.
    pub fn run_with(program: &[&str], fields: &[Field<'_>]) -> (Self, u32) {
        let mut guardian = Self::open_with(program, fields);
        let pid = guardian.started(program);
        (guardian, pid)
    }

    pub fn run(program: &[&str]) -> (Self, u32) {
        Self::run_with(program, &[])
    }

    /// The same by pipes and by a socket.
    pub fn both(program: &[&str]) -> [(Self, u32); 2] {
        let (child, socket) = Self::on_a_socket();
        let mut on_a_socket = Self::at(Some(child), socket);
        on_a_socket.open(program, &[]);
        let pid = on_a_socket.started(program);
        [Self::run(program), (on_a_socket, pid)]
    }

    /// A shell that runs `script`.
    pub fn sh(script: &str) -> (Self, u32) {
        Self::run(&["sh", "-c", script])
    }

    pub fn say(&mut self, frame: &ToGuardian<'_>) {
        let mut wire = Vec::new();
        frame.encode(&mut wire);
        self.say_bytes(&wire);
    }

    /// A guardian that is gone does not hear; the test finds out by what it waits for.
    pub fn say_bytes(&mut self, bytes: &[u8]) {
        if let Some(stdin) = &mut self.stdin {
            let _ = stdin.write_all(bytes);
        }
    }

    /// Closes the controller's end, as its death would.
    pub fn vanish(&mut self) {
        self.stdin = None;
    }

    /// The next frame.
    pub fn hear(&mut self) -> Said {
        self.hear_or_lose().expect("the guardian is there")
    }

    /// The next frame, or `None` when the guardian is gone.
    pub fn hear_or_lose(&mut self) -> Option<Said> {
        match self.frames.recv_timeout(DEADLINE) {
            Ok(said) => Some(said),
            Err(RecvTimeoutError::Timeout) => panic!("the guardian says nothing"),
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    /// Whatever it has said already.
    pub fn heard(&mut self) -> Option<Said> {
        self.frames.try_recv().ok()
    }

    /// All that follows, up to EXIT.
    pub fn hear_out(&mut self) -> Outcome {
        let mut outcome = Outcome::default();
        loop {
            match self.hear() {
                Said::Output(Stream::Stdout, bytes) => outcome.stdout.extend(bytes),
                Said::Output(Stream::Stderr, bytes) => outcome.stderr.extend(bytes),
                Said::EndOfOutput(stream) => outcome.ended.push(stream),
                Said::StdinCredit(bytes) => outcome.stdin_credit += u64::from(bytes),
                Said::StdinGone => outcome.stdin_gone = true,
                Said::Reaped => outcome.reaped = true,
                Said::Exit(exit) => {
                    outcome.exit = Some(exit);
                    return outcome;
                }
                other => panic!("unexpected: {other:?}"),
            }
        }
    }

    /// Waits for output until it ends with `what`.
    pub fn hear_until(&mut self, what: &str) -> String {
        let mut all = Vec::new();
        while !all.ends_with(what.as_bytes()) {
            match self.hear() {
                Said::Output(_, bytes) => all.extend(bytes),
                // A program that is quick may be dead before its output is passed on, and each of
                // its streams ends by itself.
                Said::EndOfOutput(Stream::Stderr)
                | Said::StdinCredit(_)
                | Said::StdinGone
                | Said::Reaped => {}
                other => panic!("waiting for {what:?}, got {other:?}"),
            }
        }
        String::from_utf8(all).expect("text")
    }

    /// Waits for the guardian's own end.
    pub fn wait(&mut self) -> ExitStatus {
        let child = self.child();
        let mut status = None;
        eventually("the guardian is gone", || {
            status = child.try_wait().expect("our child");
            status.is_some()
        });
        status.expect("it was waited for")
    }

    /// Nothing follows and it is gone, once the controller has closed.
    pub fn part(mut self) {
        self.vanish();
        let status = self.wait();
        assert!(status.success(), "the guardian ended with {status}");
        let rest: Vec<Said> = self.frames.iter().collect();
        assert!(rest.is_empty(), "said after its last frame: {rest:?}");
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        self.stdin = None;
        let Some(child) = &mut self.child else { return };
        // Its own end is what tests are about; this is for one that failed.
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::yield_now();
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// A socket that ends when it is dropped, also where a reader has a copy of it.
struct Connected(UnixStream);

impl Write for Connected {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// All that a program did.
#[derive(Debug, Default)]
pub struct Outcome {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub ended: Vec<Stream>,
    pub stdin_credit: u64,
    pub stdin_gone: bool,
    pub reaped: bool,
    pub exit: Option<Exit>,
}

/// `size` bytes, each eight of which tell their place.
pub fn numbered(size: usize) -> Vec<u8> {
    (0..).flat_map(|n| format!("{n:07}\n").into_bytes()).take(size).collect()
}

/// Python that prints its pid and, at the signal, runs `then`. Not a shell, which loses signals:
/// what dash has just forked takes one for its parent's trap and forgets it, and so does dash
/// itself while it clears its mark of a vfork.
pub fn at_signal(number: i32, then: &str) -> String {
    format!(
        "import os, signal
def say(text): os.write(1, text.encode())
def handle(*_):
    {then}
signal.signal({number}, handle)
say(f'{{os.getpid()}}\\n')
while True: signal.pause()"
    )
}

/// Whether this test can change users. Without, it says what is missing; in CI that is a failure.
pub fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    assert!(root || std::env::var_os("CI").is_none(), "this test needs root");
    if !root {
        eprintln!("not run, it needs root: sudo ./check rust");
    }
    root
}

/// Waits for a condition.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < until, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until a pipe's other end is closed. What another test starts at this moment has a copy of
/// it until its exec.
pub fn nobody_has_the_other_end(pipe: &impl AsFd) {
    eventually("nobody has the other end", || {
        let mut fds = [PollFd::new(pipe, PollFlags::empty())];
        poll(&mut fds, Some(&Timespec::default())).expect("it can be asked") == 1
    });
}

/// The state letter of a process (proc(5)), or nothing once it is gone. A zombie is gone as far as running goes, and counts so.
pub fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    let state = stat.ok()?.rsplit_once(") ")?.1.chars().next()?;
    (state != 'Z' && state != 'X').then_some(state)
}

/// How often a process has gone to sleep and was put there.
pub fn switches(pid: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    status.lines().filter(|line| line.contains("ctxt_switches")).collect()
}

pub fn is_alive(pid: u32) -> bool {
    state(pid).is_some()
}

pub fn await_death(pid: u32) {
    eventually(&format!("process {pid} is dead"), || !is_alive(pid));
}

/// A pid that a program printed.
pub fn pid_in(text: &str) -> u32 {
    text.trim().parse().unwrap_or_else(|_| panic!("{text:?} is no pid"))
}

/// A new one, below the temporary ones.
pub fn directory(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("proton-{name}-{}", std::process::id()));
    std::fs::create_dir(&path).expect("a new directory");
    path
}
