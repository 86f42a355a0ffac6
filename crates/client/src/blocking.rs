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

use std::ffi::OsStr;
use std::future::{pending, Future};
use std::io::{self, Read, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Handle};

use crate::{Command, Error, Exit, Info, Message, Options, Output, Signal, Stats};

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

/// [`crate::Child`], whose calls wait. Dropped, it ends the program.
#[derive(Debug)]
#[must_use = "dropped, it ends the program"]
pub struct Child {
    /// What is written here the program reads.
    pub stdin: Option<ChildStdin>,
    /// What the program writes to descriptor 1.
    pub stdout: Option<ChildStdout>,
    /// What the program writes to descriptor 2.
    pub stderr: Option<ChildStderr>,
    inner: crate::Child,
}

/// A program's stdin.
#[derive(Debug)]
pub struct ChildStdin(crate::ChildStdin);

/// A program's stdout.
#[derive(Debug)]
pub struct ChildStdout(crate::ChildStdout);

/// A program's stderr.
#[derive(Debug)]
pub struct ChildStderr(crate::ChildStderr);

impl Child {
    /// [`crate::Child::id`].
    pub fn id(&self) -> Option<u32> {
        self.inner.id()
    }

    /// [`crate::Child::wait`].
    ///
    /// # Errors
    /// As there.
    pub fn wait(&mut self) -> Result<Exit, Error> {
        drop(self.stdin.take());
        wait(self.inner.wait())?
    }

    /// [`crate::Child::try_wait`].
    ///
    /// # Errors
    /// As there.
    pub fn try_wait(&mut self) -> Result<Option<Exit>, Error> {
        self.inner.try_wait()
    }

    /// [`crate::Child::wait_with_output`].
    ///
    /// # Errors
    /// As there.
    pub fn wait_with_output(mut self) -> Result<Output, Error> {
        drop(self.stdin.take());
        self.inner.stdout = self.stdout.take().map(|stdout| stdout.0);
        self.inner.stderr = self.stderr.take().map(|stderr| stderr.0);
        wait(self.inner.wait_with_output())?
    }

    /// [`crate::Child::kill`].
    ///
    /// # Errors
    /// As there.
    pub fn kill(&mut self) -> Result<Exit, Error> {
        drop(self.stdin.take());
        wait(self.inner.kill())?
    }

    /// [`crate::Child::close`].
    ///
    /// # Errors
    /// As there.
    pub fn close(&mut self) -> Result<Exit, Error> {
        wait(self.inner.close())?
    }
}

impl Read for ChildStdout {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        wait(self.0.read(buffer))?
    }
}

impl Read for ChildStderr {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        wait(self.0.read(buffer))?
    }
}

impl Write for ChildStdin {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        wait(self.0.write(bytes))?
    }

    fn flush(&mut self) -> io::Result<()> {
        wait(self.0.flush())?
    }
}

/// [`crate::ProtonStream`], whose calls wait. Dropped, it ends the program.
#[derive(Debug)]
#[must_use = "dropped, it ends the program"]
pub struct ProtonStream {
    inner: crate::ProtonStream,
}

/// [`crate::Messages`], as an iterator.
#[derive(Debug)]
#[must_use = "dropped, they end the program"]
pub struct Messages {
    inner: crate::Messages,
}

impl ProtonStream {
    /// [`crate::ProtonStream::command`]: never waits.
    ///
    /// # Errors
    /// As there.
    pub fn command(&self, bytes: impl Into<Bytes>) -> Result<(), Error> {
        self.inner.command(bytes)
    }

    /// [`crate::ProtonStream::write`].
    ///
    /// # Errors
    /// As there.
    pub fn write(&self, bytes: impl Into<Bytes>) -> Result<(), Error> {
        let bytes = bytes.into();
        wait(self.inner.write(bytes))?
    }

    /// [`crate::ProtonStream::eof`].
    pub fn eof(&self) {
        self.inner.eof();
    }

    /// [`crate::ProtonStream::signal`].
    pub fn signal(&self, signal: Signal) {
        self.inner.signal(signal);
    }

    /// [`crate::ProtonStream::close`].
    ///
    /// # Errors
    /// As there.
    pub fn close(&self) -> Result<Exit, Error> {
        wait(self.inner.close())?
    }

    /// [`crate::ProtonStream::connect`].
    pub fn connect(&self) -> Messages {
        Messages { inner: self.inner.connect() }
    }

    /// [`crate::ProtonStream::os_pid`].
    pub fn os_pid(&self) -> Option<u32> {
        self.inner.os_pid()
    }

    /// [`crate::ProtonStream::info`].
    pub fn info(&self) -> Info {
        self.inner.info()
    }

    /// [`crate::ProtonStream::stats`].
    ///
    /// # Errors
    /// As there.
    pub fn stats(&self) -> Result<Stats, Error> {
        wait(self.inner.stats())?
    }

    /// [`crate::ProtonStream::update_limits`].
    ///
    /// # Errors
    /// As there.
    pub fn update_limits(&self, limits: &[(&str, &str)]) -> Result<(), Error> {
        wait(self.inner.update_limits(limits.iter().copied()))?
    }
}

impl Messages {
    /// The next message; `None` when there will be none.
    pub fn recv(&mut self) -> Option<Message> {
        wait(self.inner.recv()).ok().flatten()
    }

    /// The next message, if there is one in time.
    ///
    /// # Errors
    /// `TimedOut` when there was none.
    pub fn recv_timeout(&mut self, time: Duration) -> io::Result<Option<Message>> {
        let received = async { tokio::time::timeout(time, self.inner.recv()).await };
        wait(received)?.map_err(|_| io::ErrorKind::TimedOut.into())
    }
}

impl Iterator for Messages {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        self.recv()
    }
}
