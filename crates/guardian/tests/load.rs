// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! A pipe that is under load grows to what may be under way, and gives it back.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

mod support;

use std::fs::OpenOptions;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;

use proton_stream_containment::pipe::capacity;
use proton_stream_protocol::{Field, Stream, ToGuardian};
use support::{eventually, Guardian, Said};

const DEFAULT: usize = 64 * 1024;

/// Writes until its stdin ends, then a last byte, and stays.
const WRITER: &str = "import os, select, time
while not select.select([0], [], [], 0)[0]: os.write(1, b'x' * 65536)
os.write(1, b'.')
time.sleep(1000)";

/// How much the pipe of the program's stdout holds.
fn room(pid: u32) -> usize {
    let mut reading = OpenOptions::new();
    reading.read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32);
    capacity(reading.open(format!("/proc/{pid}/fd/1")).unwrap().as_fd()).unwrap()
}

#[test]
fn a_pipe_under_load_grows_to_the_window_and_is_given_back() {
    for window in [DEFAULT, 4 * DEFAULT, 16 * DEFAULT] {
        let field = Field::Credit { stdout: window as u32, stderr: 0 };
        let (mut guardian, pid) = Guardian::run_with(&["python3", "-c", WRITER], &[field]);
        assert_eq!(room(pid), DEFAULT);
        let mut left: usize = 64 << 20;
        let mut grown = DEFAULT;
        loop {
            let Said::Output(Stream::Stdout, bytes) = guardian.hear() else { panic!("no output") };
            if bytes.ends_with(b".") {
                break;
            }
            let back = bytes.len() as u32;
            guardian.say(&ToGuardian::Credit { stream: Stream::Stdout, bytes: back });
            grown = grown.max(room(pid));
            left = left.saturating_sub(bytes.len());
            if left == 0 || grown > DEFAULT && grown == window {
                guardian.say(&ToGuardian::Eof);
            }
        }
        assert_eq!(grown, window);
        eventually("the room is given back", || room(pid) == DEFAULT);
        guardian.say(&ToGuardian::Close);
        guardian.hear_out();
        guardian.part();
    }
}
