// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! A program as a supervised [ractor](https://docs.rs/ractor) actor.
//!
//! [`ProgramActor`] runs a [`Worker`] of `proton-stream`: its callbacks are the actor's. The
//! program's end is the actor's end, and reaches the supervisor with its type: [`exit_of`] tells
//! the [`Exit`] of a supervision event. A program that ended normally (status 0, or a close) is an
//! actor that terminated, any other one that failed, so a supervisor restarts what has to be.
//!
//! When the actor is stopped, its program is ended and the actor is gone when the program's whole
//! tree is; when the actor is killed or panics, the tree is ended as well, SIGTERM first.
//!
//! The actor's mailbox holds at most one message of the program: what follows waits in the
//! program.
//!
//! ```
//! use proton_stream::worker::{Next, Worker};
//! use proton_stream::{Command, ProtonStream};
//! use proton_stream_ractor::{Event, ProgramActor};
//! use ractor::Actor;
//!
//! struct Calculator;
//!
//! impl Worker for Calculator {
//!     type Message = String;
//!
//!     fn command(&self) -> Command {
//!         let mut command = Command::new("bc");
//!         command.arg("-q");
//!         command
//!     }
//!
//!     async fn handle_message(&mut self, term: String, bc: &ProtonStream) -> Next {
//!         let _ = bc.command(term + "\n");
//!         Next::Continue
//!     }
//! }
//!
//! # async fn example() {
//! let (actor, ended) =
//!     Actor::spawn(None, ProgramActor::new(), Calculator).await.expect("bc starts");
//! actor.cast(Event::Message("quit".to_owned())).expect("it lives");
//! ended.await.expect("it has ended");
//! # }
//! # fn main() {
//! #     proton_stream::maybe_run();
//! #     tokio::runtime::Runtime::new().unwrap().block_on(example());
//! # }
//! ```
//!
//! An example with a supervisor that restarts one for one, and gives up when that comes too often,
//! is `examples/one_for_one.rs`. ractor's features `async-trait` and `cluster` change its traits
//! and can't be on beside this crate.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

use std::fmt;
use std::marker::PhantomData;

use proton_stream::worker::{Next, Worker};
use proton_stream::{Exit, Message, Messages, ProtonStream, Reason};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The actor of a worker's program. Its argument is the worker.
pub struct ProgramActor<W>(PhantomData<fn() -> W>);

impl<W> ProgramActor<W> {
    /// For [`Actor::spawn`] and its like.
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

impl<W> Default for ProgramActor<W> {
    fn default() -> Self {
        Self::new()
    }
}

/// What the actor gets.
#[non_exhaustive]
pub enum Event<M> {
    /// For [`Worker::handle_message`].
    Message(M),
    /// Of its own program.
    Said(Said),
}

/// Something that the program said; only this crate makes it.
pub struct Said {
    message: Message,
    /// Sent when the callback has returned.
    done: oneshot::Sender<()>,
}

/// A worker, its program, and how that has ended.
pub struct State<W> {
    worker: W,
    program: ProtonStream,
    reader: JoinHandle<()>,
    exit: Option<Exit>,
}

impl<W> State<W> {
    /// The worker, for a supervisor that starts it anew with what it knows.
    pub fn worker(&self) -> &W {
        &self.worker
    }

    /// How the program has ended.
    pub fn exit(&self) -> Option<&Exit> {
        self.exit.as_ref()
    }
}

impl<W> Drop for State<W> {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// The error of an actor whose program has ended otherwise than normally.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramFailed(pub Exit);

impl fmt::Display for ProgramFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the program {}", self.0)
    }
}

impl std::error::Error for ProgramFailed {}

/// How the program of a [`ProgramActor<W>`] ended, of which `event` tells.
pub fn exit_of<W: Worker>(event: &SupervisionEvent) -> Option<&Exit> {
    match event {
        SupervisionEvent::ActorFailed(_, error) => {
            error.downcast_ref().map(|ProgramFailed(exit)| exit)
        }
        SupervisionEvent::ActorTerminated(_, state, _) => {
            state.as_ref()?.msg.as_ref()?.downcast_ref::<State<W>>()?.exit()
        }
        _ => None,
    }
}

impl<W: Worker + Sync> Actor for ProgramActor<W> {
    type Msg = Event<W::Message>;
    type State = State<W>;
    type Arguments = W;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        mut worker: W,
    ) -> Result<Self::State, ActorProcessingErr> {
        worker.init().await?;
        let (program, messages) = worker.command().open().await?;
        let reader = tokio::spawn(read(messages, myself));
        Ok(State { worker, program, reader, exit: None })
    }

    async fn post_start(
        &self,
        myself: ActorRef<Self::Msg>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let next = state.worker.handle_start(&state.program).await;
        follow(next, &myself);
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        event: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let State { worker, program, .. } = state;
        let next = match event {
            Event::Message(message) => worker.handle_message(message, program).await,
            Event::Said(Said { message, done }) => {
                let next = match message {
                    Message::Data(data) => worker.handle_stdout(data, program).await,
                    Message::Error(data) => worker.handle_stderr(data, program).await,
                    Message::Exit(exit) => return end(&myself, state, exit).await,
                    _ => Next::Continue,
                };
                // The reader may have been told to end.
                let _ = done.send(());
                next
            }
        };
        follow(next, &myself);
        Ok(())
    }

    /// The actor is gone when the program's tree is.
    async fn post_stop(
        &self,
        _myself: ActorRef<Self::Msg>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        if state.exit.is_none() {
            let exit = state.program.close().await?;
            state.worker.handle_exit(&exit).await;
            state.exit = Some(exit);
        }
        Ok(())
    }
}

fn follow<M>(next: Next, myself: &ActorRef<Event<M>>)
where
    M: Send + 'static,
{
    if next == Next::Stop {
        myself.stop(None);
    }
}

async fn end<W: Worker>(
    myself: &ActorRef<Event<W::Message>>,
    state: &mut State<W>,
    exit: Exit,
) -> Result<(), ActorProcessingErr> {
    state.worker.handle_exit(&exit).await;
    state.exit = Some(exit.clone());
    if exit.reason() == &Reason::Normal && exit.survivors().is_empty() {
        myself.stop(Some(exit.to_string()));
        return Ok(());
    }
    Err(Box::new(ProgramFailed(exit)))
}

/// One message at a time: a mailbox has no bound, the program has.
async fn read<M: Send + 'static>(mut messages: Messages, actor: ActorRef<Event<M>>) {
    while let Some(message) = messages.recv().await {
        let (done, is_done) = oneshot::channel();
        if actor.cast(Event::Said(Said { message, done })).is_err() || is_done.await.is_err() {
            return;
        }
    }
}
