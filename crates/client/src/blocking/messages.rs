// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! A running program with its messages.

use std::io;
use std::time::Duration;

use bytes::Bytes;

use super::wait;
use crate::{Error, Exit, Info, Message, Signal, Stats};

/// [`crate::ProtonStream`], whose calls wait. Dropped, it ends the program.
#[derive(Debug)]
#[must_use = "dropped, it ends the program"]
pub struct ProtonStream {
    pub(super) inner: crate::ProtonStream,
}

/// [`crate::Messages`], as an iterator.
#[derive(Debug)]
#[must_use = "dropped, they end the program"]
pub struct Messages {
    pub(super) inner: crate::Messages,
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

    /// [`crate::ProtonStream::signal_tree`].
    pub fn signal_tree(&self, signal: Signal) {
        self.inner.signal_tree(signal);
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

    /// [`crate::ProtonStream::freeze`].
    ///
    /// # Errors
    /// As there.
    pub fn freeze(&self) -> Result<(), Error> {
        wait(self.inner.freeze())?
    }

    /// [`crate::ProtonStream::thaw`].
    ///
    /// # Errors
    /// As there.
    pub fn thaw(&self) -> Result<(), Error> {
        wait(self.inner.thaw())?
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
