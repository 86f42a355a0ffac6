// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! The same for code that has no runtime: every call waits.
//!
//! Programs are started with a [`Command`] or [`Options`] as elsewhere. A thread of this module's
//! own runs what lies behind; it is started by the first call.
//!
//! ```
//! use proton_stream::{blocking, Command};
//!
//! fn main() -> Result<(), proton_stream::Error> {
//!     proton_stream::maybe_run();
//!     let output = blocking::output(Command::new("echo").arg("hello"))?;
//!     assert_eq!(output.stdout, b"hello\n");
//!     Ok(())
//! }
//! ```

mod child;
mod messages;

use std::ffi::OsStr;
use std::future::{pending, Future};
use std::sync::{Mutex, PoisonError};

use tokio::runtime::{Builder, Handle};

use crate::{Command, Error, Exit, Options, Output};

pub use child::{Child, ChildStderr, ChildStdin, ChildStdout};
pub use messages::{Messages, ProtonStream};

/// The runtime of the process with this id: a fork has none of its threads.
static RUNTIME: Mutex<Option<(u32, Handle)>> = Mutex::new(None);

fn runtime() -> Result<Handle, Error> {
    let process = std::process::id();
    let mut known = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((of, handle)) = &*known {
        if *of == process {
            return Ok(handle.clone());
        }
    }
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|_| Error::NoRuntime)?;
    let handle = runtime.handle().clone();
    let thread = std::thread::Builder::new().name("proton-blocking".into());
    thread.spawn(move || runtime.block_on(pending::<()>())).map_err(|_| Error::NoRuntime)?;
    *known = Some((process, handle.clone()));
    Ok(handle)
}

/// Also from a thread that belongs to a runtime, which then stands still meanwhile.
fn wait<F: Future + Send>(future: F) -> Result<F::Output, Error>
where
    F::Output: Send,
{
    let runtime = runtime()?;
    if Handle::try_current().is_err() {
        return Ok(runtime.block_on(future));
    }
    let done = std::thread::scope(|scope| scope.spawn(|| runtime.block_on(future)).join());
    Ok(done.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

/// [`Command::output`].
///
/// # Errors
/// As there.
pub fn output(command: &mut Command) -> Result<Output, Error> {
    wait(command.output())?
}

/// [`Command::status`].
///
/// # Errors
/// As there.
pub fn status(command: &mut Command) -> Result<Exit, Error> {
    wait(command.status())?
}

/// [`Command::spawn`].
///
/// # Errors
/// As there.
pub fn spawn(command: &mut Command) -> Result<Child, Error> {
    let mut inner = wait(command.spawn())??;
    Ok(Child {
        stdin: inner.stdin.take().map(ChildStdin),
        stdout: inner.stdout.take().map(ChildStdout),
        stderr: inner.stderr.take().map(ChildStderr),
        inner,
    })
}

/// [`ProtonStream::open`](crate::ProtonStream::open).
///
/// # Errors
/// As there.
pub fn open(
    program: impl AsRef<OsStr>,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    options: Options,
) -> Result<(ProtonStream, Messages), Error> {
    let arguments: Vec<_> =
        arguments.into_iter().map(|argument| argument.as_ref().to_owned()).collect();
    let program = program.as_ref();
    let (inner, messages) = wait(crate::ProtonStream::open(program, &arguments, options))??;
    Ok((ProtonStream { inner }, Messages { inner: messages }))
}
