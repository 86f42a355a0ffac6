// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Runs a program and throws away what it writes, unread: the most that anybody could get of it on
//! this machine. Its pipe holds a mebibyte, which `std::io::copy` moves to /dev/null by splice(2).

#![forbid(unsafe_code)]

use std::fs::OpenOptions;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use proton_stream_containment::pipe::set_capacity;

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    let program = arguments.next().expect("usage: drain PROGRAM [ARGUMENT...]");
    let mut child =
        Command::new(program).args(arguments).stdout(Stdio::piped()).spawn().expect("a program");
    let mut pipe = child.stdout.take().expect("piped");
    set_capacity(pipe.as_fd(), 1 << 20).expect("a pipe of a mebibyte");
    let mut nowhere = OpenOptions::new().write(true).open("/dev/null").expect("/dev/null");
    std::io::copy(&mut pipe, &mut nowhere).expect("all of it");
    assert!(child.wait().expect("its end").success(), "the program failed");
}
