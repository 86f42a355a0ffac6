// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Message mode: a program that is talked to by calls, and that answers by messages.

use std::ffi::OsStr;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use proton_stream_protocol::{Stdio, Stream};

use crate::options::{Options, Stderr};
use crate::session::{self, Lease, Phase, Specification};
use crate::{specification, Error, Exit, Info, Signal, Stats};

/// What a program's owner is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Bytes that the program wrote to stdout.
    Data(Bytes),
    /// Bytes that it wrote to stderr.
    Error(Bytes),
    /// The messages go to another receiver from now on; this one gets no more.
    Connected,
    /// How the program ended. All that it wrote came before, and its tree is dead.
    Exit(Exit),
    /// The answer to a [`close`](ProtonStream::close), after the exit: one for each.
    Closed,
}

/// A running program.
///
/// When this is dropped, the program and all that it has started is ended: SIGTERM first, SIGKILL
/// after [`Options::kill_delay`]. The same happens when the current [`Messages`] is dropped, and
/// when this process ends in whatever way.
///
/// ```
/// use proton_stream::{Message, Options, ProtonStream};
///
/// # async fn example() -> Result<(), proton_stream::Error> {
/// let (bc, mut messages) = ProtonStream::open("bc", ["-q"], Options::new()).await?;
/// bc.command("2 + 2\n")?;
/// assert_eq!(messages.recv().await, Some(Message::Data("4\n".into())));
/// bc.close().await?;
/// # Ok(())
/// # }
/// # fn main() {
/// #     proton_stream::maybe_run();
/// #     tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
/// # }
/// ```
#[must_use = "dropped, it ends the program"]
pub struct ProtonStream {
    lease: Arc<Lease>,
}

/// The messages of a program, for one receiver at a time.
///
/// What is not received is not read from the program either: it waits, and memory does not grow.
#[must_use = "dropped, they end the program"]
pub struct Messages {
    lease: Arc<Lease>,
    /// Another receiver has another one.
    number: u64,
    is_connected_told: bool,
}

impl ProtonStream {
    /// Starts a program.
    ///
    /// A program with a `/` is a path, any other a name that is looked up in the `PATH` that the
    /// program itself will see. It runs when this returns; where it could not be started, the
    /// error tells the step and the errno, and nothing is left. Dropped before, it leaves nothing
    /// either.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what can't be; [`Error::Start`] for what the system refuses;
    /// [`Error::StartTimeout`]; [`Error::NoGuardian`], [`Error::Guardian`] and
    /// [`Error::GuardianEnded`]; [`Error::NoRuntime`] outside of a tokio runtime.
    ///
    /// # Panics
    /// On a tokio runtime without I/O or time, as tokio's own sockets and timers do.
    pub async fn open(
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        options: Options,
    ) -> Result<(Self, Messages), Error> {
        let arguments: Vec<_> =
            arguments.into_iter().map(|argument| argument.as_ref().to_owned()).collect();
        let stdio = match options.stderr {
            Stderr::Separate => [Stdio::Piped; 3],
            Stderr::ToStdout => [Stdio::Piped, Stdio::Piped, Stdio::SameAsStdout],
            Stderr::Only => [Stdio::Piped, Stdio::Null, Stdio::Piped],
        };
        let lease = session::start(Specification {
            program: program.as_ref(),
            arguments: &arguments,
            stdio,
            descriptors: Vec::new(),
            options: &options,
        });
        Ok(Self::new(lease.await?))
    }

    pub(crate) fn new(lease: Lease) -> (Self, Messages) {
        let lease = Arc::new(lease);
        let messages = Messages { lease: Arc::clone(&lease), number: 0, is_connected_told: false };
        (Self { lease }, messages)
    }

    /// Queues bytes for the program's stdin. Never waits.
    ///
    /// # Errors
    /// [`Error::StdinFull`] where [`Options::stdin_limit`] would be passed, and nothing was taken;
    /// [`Error::BrokenPipe`], [`Error::AfterEof`], [`Error::Closed`] where they can go nowhere.
    pub fn command(&self, bytes: impl Into<Bytes>) -> Result<(), Error> {
        self.lease.push(bytes.into())
    }

    /// Waits for room, queues the bytes, and waits until they are in the program's pipe.
    ///
    /// Dropped while it waits for room it has written nothing; dropped later it has handed the
    /// bytes over, all of them.
    ///
    /// # Errors
    /// As for [`command`](Self::command).
    pub async fn write(&self, bytes: impl Into<Bytes>) -> Result<(), Error> {
        self.lease.write(bytes.into()).await
    }

    /// Closes the program's stdin after all that was queued before. Output flows on.
    pub fn eof(&self) {
        self.lease.with(|state| state.stdin.finish());
    }

    /// Sends a signal to the program. Without effect once it has ended.
    pub fn signal(&self, signal: Signal) {
        self.lease.signal(signal, false);
    }

    /// Sends a signal to every process of the program's tree.
    pub fn signal_tree(&self, signal: Signal) {
        self.lease.signal(signal, true);
    }

    /// Ends the program: SIGTERM to the tree, SIGKILL after [`Options::kill_delay`]. Resolves when
    /// the tree is dead, and its cgroup removed. Output that was not received is thrown away.
    ///
    /// It is asked for at the first poll, also if this is dropped afterwards.
    ///
    /// # Errors
    /// [`Error::NoRuntime`] when the runtime that the program was started on has ended.
    pub async fn close(&self) -> Result<Exit, Error> {
        self.lease.with(|state| state.closes += 1);
        self.lease.ask_to_close();
        self.lease.exit().await
    }

    /// Hands the messages to a new receiver, without losing one. The one before gets
    /// [`Message::Connected`], and nothing after that.
    ///
    /// ```
    /// use proton_stream::{Message, Options, ProtonStream};
    ///
    /// # async fn example() -> Result<(), proton_stream::Error> {
    /// let (cat, mut first) = ProtonStream::open("cat", [] as [&str; 0], Options::new()).await?;
    /// let mut second = cat.connect();
    /// assert_eq!(first.recv().await, Some(Message::Connected));
    /// cat.command("hello")?;
    /// assert_eq!(second.recv().await, Some(Message::Data("hello".into())));
    /// # Ok(())
    /// # }
    /// # fn main() {
    /// #     proton_stream::maybe_run();
    /// #     tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// # }
    /// ```
    pub fn connect(&self) -> Messages {
        let number = self.lease.with(|state| {
            state.receiver += 1;
            if let Some(reader) = state.reader.take() {
                reader.wake();
            }
            state.receiver
        });
        Messages { lease: Arc::clone(&self.lease), number, is_connected_told: false }
    }

    /// The program's pid; `None` once it was reaped.
    pub fn os_pid(&self) -> Option<u32> {
        self.info().os_pid
    }

    /// What is known of the run.
    pub fn info(&self) -> Info {
        self.lease.info()
    }

    /// What the run's cgroup counts.
    ///
    /// # Errors
    /// [`Error::Group`] without a cgroup; [`Error::Closed`] when the program has ended.
    pub async fn stats(&self) -> Result<Stats, Error> {
        self.lease.stats().await
    }

    /// Changes limits of the run's cgroup, by the names of [`Options::limit`].
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown name; [`Error::Group`] for a value that the kernel does
    /// not keep: those before it hold. [`Error::Closed`] when the program has ended.
    pub async fn update_limits<N: Into<String>, V: ToString>(
        &self,
        limits: impl IntoIterator<Item = (N, V)>,
    ) -> Result<(), Error> {
        let limits: Vec<(String, String)> =
            limits.into_iter().map(|(name, value)| (name.into(), value.to_string())).collect();
        match specification::limits(&limits)? {
            none if none.is_empty() => Ok(()),
            limits => self.lease.update_limits(limits).await,
        }
    }

    /// Stops every process of the run's cgroup. Resolves when they have stopped.
    ///
    /// # Errors
    /// As for [`stats`](Self::stats).
    pub async fn freeze(&self) -> Result<(), Error> {
        self.lease.freeze(true).await
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// As for [`stats`](Self::stats).
    pub async fn thaw(&self) -> Result<(), Error> {
        self.lease.freeze(false).await
    }
}

impl Drop for ProtonStream {
    fn drop(&mut self) {
        self.lease.ask_to_close();
    }
}

impl std::fmt::Debug for ProtonStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProtonStream").field("os_pid", &self.os_pid()).finish_non_exhaustive()
    }
}

impl Messages {
    /// The next message; `None` when there will be none. Dropping the future loses nothing.
    pub async fn recv(&mut self) -> Option<Message> {
        poll_fn(|context| self.poll_recv(context)).await
    }

    /// The same for who polls by hand.
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<Message>> {
        let (number, is_told) = (self.number, self.is_connected_told);
        let found = self.lease.with(|state| {
            if state.receiver != number {
                return Poll::Ready((!is_told).then_some(Message::Connected));
            }
            if let Some((stream, bytes)) = state.next_output() {
                return Poll::Ready(Some(match stream {
                    Stream::Stdout => Message::Data(bytes),
                    Stream::Stderr => Message::Error(bytes),
                }));
            }
            if let (Phase::Ended(exit), false) = (&state.phase, state.is_exit_told) {
                let exit = exit.clone();
                state.is_exit_told = true;
                return Poll::Ready(Some(Message::Exit(exit)));
            }
            if state.is_exit_told && state.closes > 0 {
                state.closes -= 1;
                return Poll::Ready(Some(Message::Closed));
            }
            if state.is_over() {
                return Poll::Ready(None);
            }
            state.reader = Some(context.waker().clone());
            Poll::Pending
        });
        if found == Poll::Ready(Some(Message::Connected)) {
            self.is_connected_told = true;
        }
        found
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        if self.lease.lock().receiver == self.number {
            self.lease.ask_to_close();
        }
    }
}

impl std::fmt::Debug for Messages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Messages").finish_non_exhaustive()
    }
}
