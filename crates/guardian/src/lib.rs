// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! The guardian: runs one program for a controller, relays its streams under
//! credit, and ends its whole process tree.
//!
//! The executable `proton-guardian` is [`main`] and nothing else. It has two
//! front doors: `proton-guardian session` speaks the protocol of
//! `docs/PROTOCOL.md` on its stdin and stdout, and
//! `proton-guardian [options] [--] program [argument...]` is for people in a shell.
//! `proton-guardian nursery` forks guardians for a controller that runs many programs;
//! `proton-guardian doctor` tells what the host offers, `proton-guardian group` what a run uses.

#![forbid(unsafe_code)]

mod account;
mod arguments;
mod chatter;
mod doctor;
mod embed;
mod ending;
mod group;
mod inbox;
mod input;
mod load;
mod nursery;
mod outbox;
mod output;
mod passing;
mod polling;
mod report;
mod requests;
mod room;
mod run;
mod session;
mod shell;
mod specification;
mod sweep;

pub use embed::{came_too_late, is_embedded, maybe_run, EMBEDDED};

use std::ffi::OsString;
use std::process::ExitCode;

use proton_stream_containment::become_guardian;
use rustix::fs::{fcntl_getfl, fcntl_setfl, OFlags};
use rustix::stdio::{stdin, stdout};

use crate::room::Buffers;

/// The executable: reads the arguments of the process and does what they say.
pub fn main() -> ExitCode {
    run(std::env::args_os().skip(1).collect())
}

fn run(arguments: Vec<OsString>) -> ExitCode {
    match arguments.split_first() {
        Some((first, [])) if first == "session" => match serve_on_stdio() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => shell::fail(&format!("the session can't go on: {error}")),
        },
        Some((first, [])) if first == "nursery" => nursery::main(),
        Some((first, [])) if first == "doctor" => doctor::main(),
        Some((first, rest)) if first == "group" => group::main(rest),
        Some((first, rest)) if first == "sweep" => sweep::main(rest),
        _ => shell::main(arguments),
    }
}

fn serve_on_stdio() -> std::io::Result<()> {
    let mut signals = become_guardian()?;
    for fd in [stdin(), stdout()] {
        fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)?;
    }
    session::serve(stdin(), stdout(), &mut signals, &mut Buffers::new()?, None)?;
    Ok(())
}
