// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! A running program with its pipes.

use std::sync::Arc;
use std::task::Poll;

use proton_stream_protocol::{Stdio as Wire, Stream};

use crate::pipes::{gather, ChildStderr, ChildStdin, ChildStdout, Pipe};
use crate::session::{Lease, Phase};
use crate::{Error, Exit, Info, Signal, Stats};

/// A running program, as in `tokio::process`.
///
/// When this is dropped the program and all that it has started is ended, SIGTERM first. To let a
/// program finish, wait for it.
///
/// ```
/// use proton_stream::{Command, Stdio};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let mut command = Command::new("sort");
/// let mut sort = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().await?;
/// let mut stdin = sort.stdin.take().expect("piped");
/// stdin.write_all(b"b\na\n").await?;
/// drop(stdin); // the end of file
/// let mut sorted = String::new();
/// sort.stdout.take().expect("piped").read_to_string(&mut sorted).await?;
/// assert_eq!(sorted, "a\nb\n");
/// assert!(sort.wait().await?.success());
/// # Ok(())
/// # }
/// # fn main() {
/// #     proton_stream::maybe_run();
/// #     tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropped, it ends the program"]
pub struct Child {
    /// What is written here the program reads.
    pub stdin: Option<ChildStdin>,
    /// What the program writes to descriptor 1.
    pub stdout: Option<ChildStdout>,
    /// What the program writes to descriptor 2.
    pub stderr: Option<ChildStderr>,
    lease: Lease,
}

/// All that a program wrote, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Output {
    /// How it ended.
    pub exit: Exit,
    /// What it wrote to descriptor 1, where that was piped.
    pub stdout: Vec<u8>,
    /// What it wrote to descriptor 2, where that was piped.
    pub stderr: Vec<u8>,
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.info().os_pid)
    }
}

impl Child {
    pub(crate) fn new(lease: Lease, stdio: [Wire; 3]) -> Self {
        let pipe = |index: usize| (stdio[index] == Wire::Piped).then(|| Pipe(Arc::clone(&lease)));
        Self {
            stdin: pipe(0).map(ChildStdin),
            stdout: pipe(1).map(ChildStdout),
            stderr: pipe(2).map(ChildStderr),
            lease,
        }
    }

    /// The program's pid; `None` once it was reaped.
    pub fn id(&self) -> Option<u32> {
        self.lease.info().os_pid
    }

    /// What is known of the run.
    pub fn info(&self) -> Info {
        self.lease.info()
    }

    /// Closes stdin, unless it was taken, and waits for the end of the program and its tree.
    ///
    /// It may be called any number of times and dropped at any time: the answer is the same. What
    /// the program writes must be read meanwhile, or it waits when a window is full, and so does
    /// this; see [`wait_with_output`](Self::wait_with_output).
    ///
    /// # Errors
    /// [`Error::NoRuntime`] when the runtime that the program was started on has ended.
    pub async fn wait(&mut self) -> Result<Exit, Error> {
        drop(self.stdin.take());
        self.lease.exit().await
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// As for [`wait`](Self::wait).
    pub fn try_wait(&mut self) -> Result<Option<Exit>, Error> {
        match &self.lease.lock().phase {
            Phase::Ended(exit) => Ok(Some(exit.clone())),
            Phase::LetGo | Phase::Failed(_) => Err(Error::NoRuntime),
            _ => Ok(None),
        }
    }

    /// Closes stdin and gathers what the program writes until its end.
    ///
    /// # Errors
    /// As for [`wait`](Self::wait).
    pub async fn wait_with_output(mut self) -> Result<Output, Error> {
        drop(self.stdin.take());
        let (mut stdout, mut stderr) = (self.stdout.take(), self.stderr.take());
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let both = std::future::poll_fn(|context| {
            let of_stdout =
                gather(stdout.as_mut().map(|pipe| &pipe.0), Stream::Stdout, &mut out, context);
            let of_stderr =
                gather(stderr.as_mut().map(|pipe| &pipe.0), Stream::Stderr, &mut err, context);
            match (of_stdout, of_stderr) {
                (Poll::Ready(()), Poll::Ready(())) => Poll::Ready(()),
                _ => Poll::Pending,
            }
        });
        both.await;
        // Its guardian's death is in the exit: what came before is worth having.
        Ok(Output { exit: self.lease.exit().await?, stdout: out, stderr: err })
    }

    /// Kills the program's whole tree with SIGKILL and waits for its end, also where nobody reads
    /// what it has written: that can still be read afterwards. A program that outlives that by the
    /// kill delay and two seconds is [closed](Self::close), and named if it outlives that, too.
    ///
    /// # Errors
    /// As for [`wait`](Self::wait).
    pub async fn kill(&mut self) -> Result<Exit, Error> {
        self.start_kill();
        self.wait().await
    }

    /// Kills the program's whole tree with SIGKILL. Without effect once it has ended.
    pub fn start_kill(&mut self) {
        self.lease.kill();
    }

    /// Sends a signal to the program. Without effect once it has ended.
    pub fn signal(&self, signal: Signal) {
        self.lease.signal(signal, false);
    }

    /// Ends the program: SIGTERM to the tree, SIGKILL after the kill delay; resolves when the tree
    /// is dead. What was not read is thrown away.
    ///
    /// # Errors
    /// As for [`wait`](Self::wait).
    pub async fn close(&mut self) -> Result<Exit, Error> {
        self.lease.ask_to_close();
        self.lease.exit().await
    }

    /// What the run's cgroup counts.
    ///
    /// # Errors
    /// [`Error::Group`] without a cgroup; [`Error::Closed`] when the program has ended.
    pub async fn stats(&self) -> Result<Stats, Error> {
        self.lease.stats().await
    }
}
