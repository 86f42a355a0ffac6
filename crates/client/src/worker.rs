// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Callback mode: a program with a state beside it, whose callbacks hear what it says.
//!
//! [`run`] is all there is to it: a future that starts the program, calls the callbacks one after
//! the other, and resolves to the exit. Any supervisor can run it again; for ractor's there is the
//! crate `proton-stream-ractor`. [`spawn`] makes a task of it that can be sent messages.
//!
//! Nothing is read from the program while a callback runs, beyond a window: a slow callback makes
//! the program wait.
//!
//! ```
//! use bytes::Bytes;
//! use proton_stream::worker::{self, Next, Reply, Worker};
//! use proton_stream::{Command, ProtonStream};
//!
//! /// Adds up what `bc` answers.
//! struct Sum(i64);
//!
//! enum Ask {
//!     Calculate(&'static str),
//!     Sum(Reply<i64>),
//! }
//!
//! impl Worker for Sum {
//!     type Message = Ask;
//!
//!     fn command(&self) -> Command {
//!         let mut command = Command::new("bc");
//!         command.arg("-q");
//!         command
//!     }
//!
//!     async fn handle_stdout(&mut self, data: Bytes, _bc: &ProtonStream) -> Next {
//!         for line in String::from_utf8_lossy(&data).lines() {
//!             self.0 += line.parse::<i64>().unwrap_or(0);
//!         }
//!         Next::Continue
//!     }
//!
//!     async fn handle_message(&mut self, message: Ask, bc: &ProtonStream) -> Next {
//!         match message {
//!             Ask::Calculate(what) => match bc.command(format!("{what}\n")) {
//!                 Ok(()) => Next::Continue,
//!                 Err(_) => Next::Stop,
//!             },
//!             Ask::Sum(reply) => {
//!                 reply.send(self.0);
//!                 Next::Continue
//!             }
//!         }
//!     }
//! }
//!
//! # async fn example() -> Result<(), proton_stream::Error> {
//! let sum = worker::spawn(Sum(0));
//! let address = sum.address();
//! address.cast(Ask::Calculate("2 + 2")).await?;
//! address.cast(Ask::Calculate("3 * 3")).await?;
//! while address.call(Ask::Sum).await? < 13 {
//!     tokio::task::yield_now().await;
//! }
//! sum.stop().await?;
//! # Ok(())
//! # }
//! # fn main() {
//! #     proton_stream::maybe_run();
//! #     tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
//! # }
//! ```

use std::future::{poll_fn, ready, Future};
use std::task::Poll;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::{Command, Error, Exit, Message, Messages, ProtonStream};

/// Messages that wait for a worker whose callback runs.
const MAILBOX: usize = 64;

/// What happens after a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The program goes on.
    Continue,
    /// The program is ended, SIGTERM first, and [`run`] resolves when its tree is dead.
    Stop,
}

/// A program and what is done with what it says. All but [`command`](Self::command) may be left
/// out.
pub trait Worker: Send + 'static {
    /// What it is sent by [`Address`]; `()` where that is nothing. A call is a message with a
    /// [`Reply`] in it.
    type Message: Send + 'static;

    /// The program. Streams that the command doesn't name are piped.
    fn command(&self) -> Command;

    /// Comes first; an error means that no program is started, and is what [`run`] resolves to.
    fn init(&mut self) -> impl Future<Output = Result<(), Error>> + Send {
        ready(Ok(()))
    }

    /// The program runs.
    fn handle_start(&mut self, program: &ProtonStream) -> impl Future<Output = Next> + Send {
        let _ = program;
        ready(Next::Continue)
    }

    /// Bytes that the program wrote to stdout.
    fn handle_stdout(
        &mut self,
        data: Bytes,
        program: &ProtonStream,
    ) -> impl Future<Output = Next> + Send {
        let _ = (data, program);
        ready(Next::Continue)
    }

    /// Bytes that the program wrote to stderr.
    fn handle_stderr(
        &mut self,
        data: Bytes,
        program: &ProtonStream,
    ) -> impl Future<Output = Next> + Send {
        let _ = (data, program);
        ready(Next::Continue)
    }

    /// A message, or a call.
    fn handle_message(
        &mut self,
        message: Self::Message,
        program: &ProtonStream,
    ) -> impl Future<Output = Next> + Send {
        let _ = (message, program);
        ready(Next::Continue)
    }

    /// The program has ended, and its tree is dead. Comes last, once, and not when the start
    /// failed.
    fn handle_exit(&mut self, exit: &Exit) -> impl Future<Output = ()> + Send {
        let _ = exit;
        ready(())
    }
}

/// Runs a worker's program to its end. Dropped before, it ends the program.
///
/// # Errors
/// What [`Worker::init`] refused, or why the program could not be started; a program that ended
/// badly is an [`Exit`].
pub async fn run<W: Worker>(worker: &mut W) -> Result<Exit, Error> {
    serve(worker, None).await
}

/// Runs a worker as a task of its own, which can be sent messages.
///
/// # Panics
/// Outside of a tokio runtime, as [`tokio::spawn`].
pub fn spawn<W: Worker>(mut worker: W) -> Running<W::Message> {
    let (sender, mailbox) = mpsc::channel(MAILBOX);
    let task = tokio::spawn(async move { serve(&mut worker, Some(mailbox)).await });
    Running { address: Address { sender }, task }
}

type Mailbox<M> = mpsc::Receiver<Letter<M>>;

enum Letter<M> {
    Message(M),
    Stop,
}

async fn serve<W: Worker>(
    worker: &mut W,
    mut mailbox: Option<Mailbox<W::Message>>,
) -> Result<Exit, Error> {
    worker.init().await?;
    let (program, mut messages) = worker.command().open().await?;
    let mut next = worker.handle_start(&program).await;
    let mut is_letters_turn = false;
    while next == Next::Continue {
        next = match receive(&mut messages, &mut mailbox, &mut is_letters_turn).await {
            Received::Message(Message::Data(data)) => worker.handle_stdout(data, &program).await,
            Received::Message(Message::Error(data)) => worker.handle_stderr(data, &program).await,
            Received::Message(Message::Exit(exit)) => {
                worker.handle_exit(&exit).await;
                return Ok(exit);
            }
            Received::Message(Message::Connected | Message::Closed) => Next::Continue,
            Received::Letter(Letter::Message(message)) => {
                worker.handle_message(message, &program).await
            }
            Received::Letter(Letter::Stop) | Received::End => Next::Stop,
        };
    }
    let exit = program.close().await?;
    worker.handle_exit(&exit).await;
    Ok(exit)
}

enum Received<M> {
    Message(Message),
    Letter(Letter<M>),
    End,
}

/// The program and the mailbox take turns: neither has to wait for the other's end.
async fn receive<M>(
    messages: &mut Messages,
    mailbox: &mut Option<Mailbox<M>>,
    is_letters_turn: &mut bool,
) -> Received<M> {
    poll_fn(|context| {
        for _ in 0..2 {
            *is_letters_turn = !*is_letters_turn;
            if !*is_letters_turn {
                if let Poll::Ready(message) = messages.poll_recv(context) {
                    return Poll::Ready(message.map_or(Received::End, Received::Message));
                }
            } else if let Some(open) = mailbox {
                match open.poll_recv(context) {
                    Poll::Ready(Some(letter)) => return Poll::Ready(Received::Letter(letter)),
                    // Nobody is left who could write.
                    Poll::Ready(None) => *mailbox = None,
                    Poll::Pending => {}
                }
            }
        }
        Poll::Pending
    })
    .await
}

/// A worker that runs as a task. When this is dropped its program is ended.
#[derive(Debug)]
#[must_use = "dropped, it ends the program"]
pub struct Running<M> {
    address: Address<M>,
    task: JoinHandle<Result<Exit, Error>>,
}

/// Where a worker gets messages.
#[derive(Debug)]
pub struct Address<M> {
    sender: mpsc::Sender<Letter<M>>,
}

impl<M> Clone for Address<M> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone() }
    }
}

impl<M> std::fmt::Debug for Letter<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Letter")
    }
}

/// The way back to who has called.
#[derive(Debug)]
pub struct Reply<T>(oneshot::Sender<T>);

impl<T> Reply<T> {
    /// Answers. Who has called may have given up.
    pub fn send(self, answer: T) {
        let _ = self.0.send(answer);
    }
}

impl<M: Send> Address<M> {
    /// Sends a message. Waits while too many wait for the worker.
    ///
    /// # Errors
    /// [`Error::Closed`] when the worker has ended.
    pub async fn cast(&self, message: M) -> Result<(), Error> {
        self.sender.send(Letter::Message(message)).await.map_err(|_| Error::Closed)
    }

    /// Sends a message with a [`Reply`] in it, and waits for the answer.
    ///
    /// # Errors
    /// [`Error::Closed`] when the worker has ended; [`Error::NoReply`] when it ends before it
    /// replies, or drops the reply.
    pub async fn call<T>(&self, message: impl FnOnce(Reply<T>) -> M) -> Result<T, Error> {
        let (sender, answer) = oneshot::channel();
        self.cast(message(Reply(sender))).await?;
        answer.await.map_err(|_| Error::NoReply)
    }
}

impl<M: Send> Running<M> {
    /// Where it gets messages.
    pub fn address(&self) -> Address<M> {
        self.address.clone()
    }

    /// Ends its program after the callback that runs, and waits.
    ///
    /// # Errors
    /// As for [`join`](Self::join).
    pub async fn stop(self) -> Result<Exit, Error> {
        // One that has ended by itself says how.
        let _ = self.address.sender.send(Letter::Stop).await;
        self.join().await
    }

    /// Waits for its end. Dropped before, it ends the program.
    ///
    /// # Errors
    /// As for [`run`]; [`Error::NoRuntime`] when the runtime has ended.
    ///
    /// # Panics
    /// When a callback has panicked: with what that said.
    pub async fn join(mut self) -> Result<Exit, Error> {
        match (&mut self.task).await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(Error::NoRuntime),
            },
        }
    }
}

impl<M> Drop for Running<M> {
    fn drop(&mut self) {
        self.task.abort();
    }
}
