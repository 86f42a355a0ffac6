// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Runs a program and throws away what it writes, unread: the most that anybody could get of it on
//! this machine. Its pipe holds a mebibyte, which is moved to /dev/null by splice(2).

use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};

/// fcntl(2).
const F_SETPIPE_SZ: i32 = 1031;

extern "C" {
    fn fcntl(descriptor: i32, command: i32, ...) -> i32;
}

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    let program = arguments.next().expect("usage: drain PROGRAM [ARGUMENT...]");
    let mut child =
        Command::new(program).args(arguments).stdout(Stdio::piped()).spawn().expect("a program");
    let mut pipe = child.stdout.take().expect("piped");
    // SAFETY: the descriptor is open as long as `pipe` is, and an int is what this command takes.
    let size = unsafe { fcntl(pipe.as_raw_fd(), F_SETPIPE_SZ, 1 << 20) };
    assert_eq!(size, 1 << 20, "the pipe's size");
    let mut nowhere = OpenOptions::new().write(true).open("/dev/null").expect("/dev/null");
    std::io::copy(&mut pipe, &mut nowhere).expect("all of it");
    assert!(child.wait().expect("its end").success(), "the program failed");
}
