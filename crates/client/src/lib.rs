// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Runs programs with their streams as messages or pipes, and leaves nothing of them behind.
//!
//! Linux 5.4 or newer, on a tokio runtime that has I/O and time enabled, or without one
//! (feature `blocking`).
//!
//! What [`std::process`] and `tokio::process` leave open, this closes:
//!
//! - A program ends when whoever started it is gone: its handle was dropped, the task was
//!   cancelled, the runtime or the whole process ended, also by SIGKILL. With it ends everything
//!   that it has started, daemons too: SIGTERM first, SIGKILL after half a second.
//! - Every byte that it wrote arrives before its exit is told, however slowly it is read; and what
//!   isn't read stops the program, not the memory.
//! - Its exit is told once, as what it was. A program that could not be started is an [`Error`]
//!   that names the step and the errno.
//!
//! # Messages
//!
//! A [`ProtonStream`] is talked to by calls, and answers by [`Messages`]:
//!
//! ```
//! use proton_stream::{Message, Options, ProtonStream};
//!
//! # async fn example() -> Result<(), proton_stream::Error> {
//! let (sort, mut messages) = ProtonStream::open("sort", ["-n"], Options::new()).await?;
//! sort.command("10\n9\n")?;
//! sort.eof();
//! assert_eq!(messages.recv().await, Some(Message::Data("9\n10\n".into())));
//! let Some(Message::Exit(exit)) = messages.recv().await else { panic!() };
//! assert!(exit.success());
//! # Ok(())
//! # }
//! # fn main() {
//! #     proton_stream::maybe_run();
//! #     tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
//! # }
//! ```
//!
//! # Pipes
//!
//! A [`Command`] has std's names, and its [`Child`] tokio's I/O traits:
//!
//! ```
//! use proton_stream::{Command, Stdio};
//! use tokio::io::AsyncReadExt;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let mut child = Command::new("seq").args(["1", "3"]).stdout(Stdio::piped()).spawn().await?;
//! let mut text = String::new();
//! child.stdout.take().expect("piped").read_to_string(&mut text).await?;
//! assert_eq!(text, "1\n2\n3\n");
//! assert!(child.wait().await?.success());
//! # Ok(())
//! # }
//! # fn main() {
//! #     proton_stream::maybe_run();
//! #     tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
//! # }
//! ```
//!
//! # Callbacks
//!
//! A [`Worker`] hears its program by callbacks; [`run`] is a future that a supervisor can repeat.
//! See [`worker`]. For [ractor](https://docs.rs/ractor) there is the crate `proton-stream-ractor`.
//!
//! # The guardian
//!
//! Every program has a small process beside it, the *guardian*, which starts it, relays its streams
//! and ends it. It is forked by this process's *nursery*, which the first start of a program
//! starts. Both are the executable `proton-guardian`, which is looked for in this order:
//!
//! 1. what [`Options::guardian`] names,
//! 2. what the environment variable `PROTON_GUARDIAN` names,
//! 3. with the feature `embed`: this program itself, if it has called `maybe_run`,
//! 4. `proton-guardian` beside this program's executable,
//! 5. `proton-guardian` in `PATH` (`cargo install proton-stream-guardian`).
//!
//! With `embed` one file is all there is to ship. The first line of a plain `fn main`, before any
//! runtime or thread, makes a guardian of a process that was started to be one:
//!
//! ```
//! # #[cfg(feature = "embed")]
//! fn main() {
//!     proton_stream::maybe_run();
//!     // ... the runtime, and everything else
//! }
//! # #[cfg(not(feature = "embed"))]
//! # fn main() {}
//! ```
//!
//! Neither is forked from this process: they are executed. They end with it: the nursery when its
//! pipe to it ends, a guardian when its socket does. A guardian whose version is another one is
//! refused in words.
//!
//! A program's environment and directory are this process's at the start. Its umask, limits and
//! nice value are those of when the nursery was started, where [`Options`] don't say otherwise.
//!
//! # Coming from `tokio::process`
//!
#![doc = include_str!("coming_from_tokio.md")]
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
mod pipes;
mod session;
mod signal;
mod specification;
mod stdio;
mod trace;
pub mod worker;

pub use child::{Child, Output};
pub use command::Command;
pub use error::{Error, GuardianEnd, Step};
pub use exit::{Exit, Reason, Usage};
pub use info::{Info, Level, Pressure, Stats};
pub use messages::{Message, Messages, ProtonStream};
pub use options::{Containment, OnExit, Options, Stderr, Transport};
pub use pipes::{ChildStderr, ChildStdin, ChildStdout};
#[cfg(feature = "embed")]
pub use proton_stream_guardian::maybe_run;
pub use signal::Signal;
pub use stdio::Stdio;
pub use worker::{run, Worker};
