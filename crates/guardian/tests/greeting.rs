// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! A controller that has not heard HELLO in time and leaves may start its program elsewhere.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

mod support;

use std::fs::{remove_dir_all, File};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use proton_stream_protocol::ToGuardian;
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::pipe::{pipe_with, PipeFlags};
use support::{eventually, Guardian, Said};

/// A program whose exec takes long: it is leased to somebody who does not give it up, which the
/// kernel waits for 45 seconds (fcntl(2), F_SETLEASE).
struct Leased {
    directory: PathBuf,
    holder: Child,
}

const LEASE: &str = "import fcntl, os, signal, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)
file = os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print('leased', flush=True)
sys.stdin.read()";

impl Leased {
    fn new(name: &str) -> Self {
        let directory = directory(name);
        let path = directory.join("program");
        std::fs::copy("/bin/true", &path).unwrap();
        let mut holder = Command::new("python3");
        holder.args(["-c", LEASE]).arg(&path).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = holder.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "leased\n");
        Leased { directory, holder }
    }

    fn path(&self) -> String {
        self.directory.join("program").to_str().unwrap().to_owned()
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
        let _ = remove_dir_all(&self.directory);
    }
}

fn directory(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("proton-{name}-{}", std::process::id()));
    std::fs::create_dir(&path).unwrap();
    path
}

fn children(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default()
}

#[test]
fn a_start_that_takes_long_is_greeted_meanwhile() {
    let leased = Leased::new("greeted");
    let mut guardian = Guardian::open_with(&[&leased.path()], &[]);
    assert_eq!(guardian.hear(), Said::Hello);
    assert_eq!(guardian.heard(), None, "it has not started");
    guardian.say(&ToGuardian::Close);
    assert!(matches!(guardian.hear(), Said::StartError { step: 11, .. }));
    guardian.part();
}

#[test]
fn who_leaves_while_a_start_is_under_way_hears_hello() {
    let leased = Leased::new("left");
    let mut guardian = Guardian::open_with(&[&leased.path()], &[]);
    let pid = guardian.child().id();
    eventually("the start is under way", || !children(pid).is_empty());
    guardian.vanish();
    assert_eq!(guardian.hear(), Said::Hello);
    assert_eq!(guardian.hear_or_lose(), None);
    assert!(guardian.wait().success());
}

#[test]
fn who_has_left_before_starts_nothing_and_hears_nothing() {
    let directory = directory("unheard");
    let (mark, said) = (directory.join("mark"), directory.join("said"));
    // A guardian is quicker than a program: this one would be seen if it had begun.
    let program = format!("trap '' TERM; : > {}", mark.display());
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    File::from(writer).write_all(&Guardian::opening(&["sh", "-c", &program], &[])).unwrap();
    // What another test starts at this moment has a copy until its exec.
    eventually("nobody has the other end", || {
        let mut fds = [PollFd::new(&reader, PollFlags::empty())];
        poll(&mut fds, Some(&Timespec::default())).unwrap() == 1
    });
    let mut guardian = Command::new(env!("CARGO_BIN_EXE_proton-guardian"));
    guardian.arg("session").stdin(File::from(reader)).stdout(File::create(&said).unwrap());
    assert!(guardian.status().unwrap().success());
    assert_eq!(std::fs::read(&said).unwrap(), b"");
    assert!(!mark.exists());
    remove_dir_all(&directory).unwrap();
}
