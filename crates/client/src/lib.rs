// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Runs programs with their streams as messages or pipes, and leaves nothing of them behind.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

#[cfg(not(target_os = "linux"))]
compile_error!("proton-stream runs on Linux only (5.4 or newer)");

#[cfg(feature = "blocking")]
pub mod blocking;
mod child;
mod command;
mod error;
mod exit;
mod guardian;
mod info;
mod messages;
mod options;
mod session;
mod signal;
mod specification;
mod stdio;
pub mod worker;

pub use child::{Child, ChildStderr, ChildStdin, ChildStdout, Output};
pub use command::Command;
pub use error::{Error, GuardianEnd, Step};
pub use exit::{Exit, Reason, Usage};
pub use info::{Info, Level, Pressure, Stats};
pub use messages::{Message, Messages, ProtonStream};
pub use options::{Containment, OnExit, Options, Stderr, Transport};
#[cfg(feature = "embed")]
pub use proton_stream_guardian::maybe_run;
pub use signal::Signal;
pub use stdio::Stdio;
pub use worker::{run, Worker};
