// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! What cases share: programs that can be found again, and waiting for conditions.

use std::future::Future;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proton_stream::{Exit, Message, Messages, Options, ProtonStream};

use crate::guarded;

/// How long a condition may take to come true.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// One case, in a process of its own.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) run: fn(),
}

/// A list of asynchronous cases. One that is forgotten is dead code, of which the compiler tells.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        &[$(crate::support::Case {
            name: stringify!($name),
            run: || crate::support::run($name()),
        }),*]
    };
}
pub(crate) use cases;

/// On a runtime with two threads.
pub(crate) fn run(case: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(case);
}

/// Waits no longer than a condition may take.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(done) => done,
        Err(_) => panic!("not in time: {what}"),
    }
}

pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < until, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

pub(crate) fn eventually_without_runtime(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < until, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A mark in the environment of a program, by which it and its descendants are found.
pub(crate) struct Tag(String);

const KEY: &str = "PROTON_CLIENT_TEST";

impl Tag {
    pub(crate) fn new() -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        guarded::await_calm();
        Self::named(&format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    pub(crate) fn named(name: &str) -> Self {
        Self(name.to_owned())
    }

    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    pub(crate) fn options(&self) -> Options {
        Options::new().env(KEY, &self.0)
    }

    /// The processes that have it and live.
    pub(crate) fn alive(&self) -> Vec<u32> {
        loop {
            let before = guarded::newest();
            let alive = self.seen_alive();
            // A chain is where nobody looks: nobody is there if none was made meanwhile.
            if !alive.is_empty() || before == guarded::newest() {
                return alive;
            }
        }
    }

    fn seen_alive(&self) -> Vec<u32> {
        let mark = format!("{KEY}={}", self.0);
        let is_marked = |pid: &u32| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes())
        };
        let numbers = std::fs::read_dir("/proc").expect("/proc").flatten().filter_map(|entry| {
            std::str::from_utf8(entry.file_name().as_bytes()).ok()?.parse().ok()
        });
        numbers.filter(|pid| is_alive(*pid) && is_marked(pid)).collect()
    }

    pub(crate) async fn await_nobody(&self, when: &str) {
        let until = Instant::now() + DEADLINE;
        loop {
            let alive = self.alive();
            if alive.is_empty() {
                return;
            }
            assert!(Instant::now() < until, "{when}: these live on: {alive:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// A process's state letter (proc(5)) and its parent. A zombie is gone as far as running goes.
pub(crate) fn stat(pid: u32) -> Option<(char, u32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    (state != 'Z' && state != 'X').then_some((state, parent))
}

pub(crate) fn is_alive(pid: u32) -> bool {
    stat(pid).is_some()
}

pub(crate) fn is_stopped(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state == 'T')
}

pub(crate) fn parent(pid: u32) -> u32 {
    stat(pid).expect("it lives").1
}

/// Signals a process that this test has started.
pub(crate) fn kill(pid: u32, signal: rustix::process::Signal) {
    assert!(pid > 1);
    let pid = rustix::process::Pid::from_raw(pid.try_into().expect("a pid")).expect("a pid");
    rustix::process::kill_process(pid, signal).expect("it is alive");
}

/// How many descriptors this process has.
pub(crate) fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("/proc").count()
}

/// A program that misbehaves.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/children").join(name)
}

/// What it is told: until when it may live. Those that fork without end look at it.
pub(crate) fn end() -> String {
    crate::guard::deadline(30).to_string()
}

pub(crate) async fn sh(script: &str, options: Options) -> (ProtonStream, Messages) {
    ProtonStream::open("sh", ["-c", script], options).await.expect("sh starts")
}

/// All that a program says.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) exit: Option<Exit>,
    pub(crate) closed: usize,
    pub(crate) connected: bool,
}

/// To the end of the messages.
pub(crate) async fn hear_out(messages: &mut Messages) -> Said {
    let mut said = Said::default();
    while let Some(message) = soon("a message", messages.recv()).await {
        assert!(said.exit.is_none() || message == Message::Closed, "after the exit: {message:?}");
        match message {
            Message::Data(bytes) => said.stdout.extend_from_slice(&bytes),
            Message::Error(bytes) => said.stderr.extend_from_slice(&bytes),
            Message::Exit(exit) => said.exit = Some(exit),
            Message::Closed => said.closed += 1,
            Message::Connected => said.connected = true,
        }
    }
    said
}

/// Until stdout ends with `what`.
pub(crate) async fn hear_until(messages: &mut Messages, what: &str) -> String {
    let mut all = Vec::new();
    while !all.ends_with(what.as_bytes()) {
        match soon("a message", messages.recv()).await {
            Some(Message::Data(bytes)) => all.extend_from_slice(&bytes),
            other => panic!("waiting for {what:?} after {:?}: {other:?}", all.escape_ascii()),
        }
    }
    String::from_utf8(all).expect("text")
}

/// A guardian that is a shell's script.
pub(crate) struct Fake(pub(crate) std::path::PathBuf);

impl Fake {
    pub(crate) fn new(script: &str) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::temp_dir().join(format!("proton-fake-{}", std::process::id()));
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        Self(path)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A directory that is removed with the test.
pub(crate) struct Directory(pub(crate) PathBuf);

impl Directory {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("proton-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Whether this test can change users. Without, it says what is missing; in CI that is a failure.
pub(crate) fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    assert!(is_root || std::env::var_os("CI").is_none(), "this test needs root");
    if !is_root {
        eprintln!("not run, it needs root: sudo ./check rust");
    }
    is_root
}
