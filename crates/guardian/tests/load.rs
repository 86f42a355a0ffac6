// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! A pipe that is under load grows to what may be under way, and gives it back.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

mod support;

use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;

use proton_stream_containment::pipe::capacity;
use proton_stream_protocol::{Field, Stream, ToGuardian};
use rustix::io::ioctl_fionread;
use support::{eventually, Guardian, Said};

const DEFAULT: usize = 64 * 1024;

/// Writes until its stdin ends, and stays.
const WRITER: &str = "import os, select, time
while not select.select([0], [], [], 0)[0]: os.write(1, b'x' * 65536)
time.sleep(1000)";

/// The pipe of the program's stdout.
fn pipe(pid: u32) -> File {
    let mut reading = OpenOptions::new();
    reading.read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32);
    reading.open(format!("/proc/{pid}/fd/1")).unwrap()
}

#[test]
fn a_pipe_under_load_grows_to_the_window_and_is_given_back() {
    for window in [DEFAULT, 4 * DEFAULT, 16 * DEFAULT] {
        let field = Field::Credit { stdout: window as u32, stderr: 0 };
        let (mut guardian, pid) = Guardian::run_with(&["python3", "-c", WRITER], &[field]);
        let pipe = pipe(pid);
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
