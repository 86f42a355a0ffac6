// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Spawns one program, holds its process tree, and ends all of it.
//!
//! The process that uses this crate is the program's *guardian*: it has one thread, calls
//! [`become_guardian`] before anything else, starts one program with [`start()`], and from then on
//! owns every child that the kernel gives it. Nothing here blocks, but for what [`start()`]
//! describes: a start is polled through [`Starting`], deaths come over [`Signals`] and are
//! collected by [`Program::reap`]. [`cgroup::clean_after`] is for others, when a guardian has died.

#![deny(unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!("proton-stream-containment runs on Linux only (5.4 or newer): it is made of pidfds, subreapers and cgroups");

mod ahead;
mod board;
pub mod cgroup;
mod environment;
mod error;
mod namespace;
mod nursery;
pub mod pipe;
mod procfs;
mod program;
mod rlimits;
mod signals;
mod specification;
mod start;
mod stdio;
mod survey;
#[allow(unsafe_code)]
mod sys;
mod tree;
mod users;

pub use ahead::Ahead;
pub use board::{Board, Slot};
pub use error::{Error, Step};
pub use nursery::{collect, fork_guardian, signal_child, Change, Forked, Orphans};
pub use program::{Ended, Level, Pipes, Program, Reaped, Released, Status};
pub use signals::{become_guardian, Received, Signals};
pub use specification::{Rlimit, Specification, Stdio};
pub use start::{start, Announce, Around, Spent, Starting};
pub use survey::{survey, Check};
pub use sys::give_memory_back;
