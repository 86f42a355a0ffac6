// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! A running program with its pipes.

use std::io::{self, Read, Write};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::wait;
use crate::{Error, Exit, Info, Output, Signal, Stats};

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
    pub(super) inner: crate::Child,
}

/// A program's stdin.
#[derive(Debug)]
pub struct ChildStdin(pub(super) crate::ChildStdin);

/// A program's stdout.
#[derive(Debug)]
pub struct ChildStdout(pub(super) crate::ChildStdout);

/// A program's stderr.
#[derive(Debug)]
pub struct ChildStderr(pub(super) crate::ChildStderr);

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

    /// [`crate::Child::start_kill`].
    pub fn start_kill(&mut self) {
        self.inner.start_kill();
    }

    /// [`crate::Child::signal`].
    pub fn signal(&self, signal: Signal) {
        self.inner.signal(signal);
    }

    /// [`crate::Child::info`].
    pub fn info(&self) -> Info {
        self.inner.info()
    }

    /// [`crate::Child::stats`].
    ///
    /// # Errors
    /// As there.
    pub fn stats(&self) -> Result<Stats, Error> {
        wait(self.inner.stats())?
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
