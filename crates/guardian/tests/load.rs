// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! A pipe that is under load grows to what may be under way, and gives it back.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

mod support;

use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use proton_stream_containment::pipe::capacity;
use proton_stream_protocol::{Field, Stream, ToGuardian};
use rustix::io::ioctl_fionread;
use support::{eventually, state, switches, Guardian, Said};

const DEFAULT: usize = 64 * 1024;

/// Writes until its stdin ends, and stays.
const WRITER: &str = "import os, select, time
while not select.select([0], [], [], 0)[0]: os.write(1, b'x' * 65536)
time.sleep(1000)";

/// The pipe that a stream of the program's is.
fn pipe(pid: u32, descriptor: i32) -> File {
    let mut reading = OpenOptions::new();
    reading.read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32);
    reading.open(format!("/proc/{pid}/fd/{descriptor}")).unwrap()
}

#[test]
fn a_pipe_under_load_grows_to_the_window_and_is_given_back() {
    for window in [DEFAULT, 4 * DEFAULT, 16 * DEFAULT] {
        let field = Field::Credit { stdout: window as u32, stderr: 0 };
        let (mut guardian, pid) = Guardian::run_with(&["python3", "-c", WRITER], &[field]);
        let pipe = pipe(pid, 1);
        let room = || capacity(pipe.as_fd()).unwrap();
        let held = || ioctl_fionread(&pipe).unwrap() as usize;
        let mut unheard = window;
        for _ in 0..8 {
            while unheard > 0 {
                let Said::Output(Stream::Stdout, bytes) = guardian.hear() else { panic!() };
                unheard -= bytes.len();
            }
            eventually("the program waits", || held() == room());
            guardian.say(&ToGuardian::Credit { stream: Stream::Stdout, bytes: DEFAULT as u32 });
            unheard = DEFAULT;
        }
        assert_eq!(room(), window);
        guardian.say(&ToGuardian::Eof);
        let all = ToGuardian::Credit { stream: Stream::Stdout, bytes: 4 << 20 };
        guardian.say(&all);
        eventually("the room is given back", || {
            while let Some(Said::Output(..)) = guardian.heard() {}
            room() == DEFAULT
        });
        guardian.say(&ToGuardian::Close);
        guardian.hear_out();
        guardian.part();
    }
}

/// What `cat` gives back has come back, and its credit.
fn echoed(guardian: &mut Guardian, size: usize) {
    let (mut back, mut credit) = (0, 0);
    while back < size || credit < size {
        match guardian.hear() {
            Said::Output(_, bytes) => back += bytes.len(),
            Said::StdinCredit(bytes) => credit += bytes as usize,
            other => panic!("{other:?}"),
        }
    }
}

fn echo(guardian: &mut Guardian, size: usize) {
    guardian.say(&ToGuardian::Stdin(&vec![b'x'; size]));
    guardian.say(&ToGuardian::Sync);
    echoed(guardian, size);
}

#[test]
fn the_pipe_of_stdin_grows_under_load_and_is_given_back() {
    for frame in [1000, 4 * DEFAULT] {
        for (mut guardian, pid) in Guardian::both(&["cat"]) {
            let pipe = pipe(pid, 0);
            let room = || capacity(pipe.as_fd()).unwrap();
            let mut most = room();
            for _ in 0..(4 << 20) / frame {
                echo(&mut guardian, frame);
                most = most.max(room());
            }
            assert_eq!(most, if frame > DEFAULT { 4 * DEFAULT } else { DEFAULT });
            eventually("the room is given back", || room() == DEFAULT);
            guardian.say(&ToGuardian::Eof);
            assert!(guardian.hear_out().exit.is_some());
            guardian.part();
        }
    }
}

#[test]
fn the_pipe_of_a_program_that_is_slow_grows_too() {
    let slow = "import os, time
while os.read(0, 30000): time.sleep(0.001)";
    for (mut guardian, pid) in Guardian::both(&["python3", "-c", slow]) {
        let pipe = pipe(pid, 0);
        let mut credit = 4 * DEFAULT;
        eventually("it has grown", || {
            while credit >= DEFAULT {
                guardian.say(&ToGuardian::Stdin(&[b'x'; DEFAULT]));
                credit -= DEFAULT;
            }
            guardian.say(&ToGuardian::Sync);
            while let Some(Said::StdinCredit(bytes)) = guardian.heard() {
                credit += bytes as usize;
            }
            capacity(pipe.as_fd()).unwrap() == 4 * DEFAULT
        });
        guardian.say(&ToGuardian::Close);
        guardian.hear_out();
        guardian.part();
    }
}

#[test]
fn what_comes_large_now_and_then_is_no_load() {
    let (mut guardian, pid) = Guardian::run(&["cat"]);
    let pipe = pipe(pid, 0);
    for _ in 0..8 {
        echo(&mut guardian, 40_000);
        echo(&mut guardian, 6);
        assert_eq!(capacity(pipe.as_fd()).unwrap(), DEFAULT);
        // It is the time between them that makes the difference.
        std::thread::sleep(Duration::from_millis(120));
    }
    guardian.say(&ToGuardian::Close);
    guardian.hear_out();
    guardian.part();
}

#[test]
fn the_pipe_of_stdin_is_given_back_with_its_end() {
    let reads =
        "import sys, time; sys.stdin.buffer.read(); print('read', flush=True); time.sleep(1000)";
    for (mut guardian, pid) in Guardian::both(&["python3", "-c", reads]) {
        let pipe = pipe(pid, 0);
        for _ in 0..10 {
            guardian.say(&ToGuardian::Stdin(&[b'x'; 4 * DEFAULT]));
            guardian.say(&ToGuardian::Sync);
            let mut credit = 0;
            while credit < 4 * DEFAULT {
                let Said::StdinCredit(bytes) = guardian.hear() else { panic!() };
                credit += bytes as usize;
            }
        }
        eventually("all is read", || ioctl_fionread(&pipe).unwrap() == 0);
        guardian.say(&ToGuardian::Eof);
        guardian.hear_until("read\n");
        assert_eq!(capacity(pipe.as_fd()).unwrap(), DEFAULT);
        guardian.say(&ToGuardian::Close);
        guardian.hear_out();
        guardian.part();
    }
}

#[test]
fn what_a_program_does_not_read_keeps_the_guardian_from_nothing() {
    let (mut guardian, pid) = Guardian::run(&["cat"]);
    let pipe = pipe(pid, 0);
    let (room, held) =
        (|| capacity(pipe.as_fd()).unwrap(), || ioctl_fionread(&pipe).unwrap() as usize);
    let all = vec![b'x'; 4 * DEFAULT];
    for _ in 0..8 {
        echo(&mut guardian, all.len());
    }
    assert!(room() > DEFAULT);
    guardian.say(&ToGuardian::Signal { number: 19, tree: false });
    eventually("it has stopped", || state(pid) == Some('T'));
    guardian.say(&ToGuardian::Stdin(&all));
    guardian.say(&ToGuardian::Sync);
    eventually("its pipe is full", || held() > DEFAULT);
    // Once it has tried to give the room back it has nothing to do but wait.
    let nurse = guardian.child().id();
    let mut before = switches(nurse);
    eventually("the guardian sleeps", || {
        std::thread::sleep(Duration::from_millis(250));
        std::mem::replace(&mut before, switches(nurse)) == switches(nurse)
    });
    guardian.say(&ToGuardian::Signal { number: 18, tree: false });
    echoed(&mut guardian, all.len());
    guardian.say(&ToGuardian::Stdin(b"little"));
    eventually("the room is given back", || room() == DEFAULT);
    guardian.say(&ToGuardian::Close);
    guardian.hear_out();
    guardian.part();
}
