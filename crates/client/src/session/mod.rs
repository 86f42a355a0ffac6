// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! One run, from its start to its end: what both ways to have a program, messages and pipes, are
//! made of.

mod driver;
mod inbox;
mod output;
mod start;
mod state;
mod stdin;

use std::ffi::OsStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use proton_stream_protocol::{Limit, ToGuardian};
use rustix::net::{send, SendFlags, Shutdown};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, Notify};

use crate::guardian::{Link, Way};
use crate::options::Options;
use crate::{trace, Error, Exit, GuardianEnd, Info, Signal, Stats};

pub(crate) use output::End;
pub(crate) use start::{start, Specification};
pub(crate) use state::{Phase, State, ROOM};

/// A guardian names what it could not kill, and gives up a busy group, less than two seconds after
/// the kill delay. One that has not is taken to be stuck.
fn patience(kill_delay: Duration) -> Duration {
    kill_delay + Duration::from_secs(2)
}

/// How much is encoded before it is written.
const BATCH: usize = 64 * 1024;

pub(crate) struct Shared {
    socket: UnixStream,
    way: Way,
    /// Where it was started.
    runtime: Handle,
    kill_delay: Duration,
    windows: [u32; 2],
    state: Mutex<State>,
    /// The phase has changed.
    changed: Notify,
    /// Bytes of stdin have left, or will not.
    stdin_moved: Notify,
}

/// Holds a program: when the last of these is dropped, the program is ended.
pub(crate) struct Lease(Arc<Shared>);

impl std::ops::Deref for Lease {
    type Target = Arc<Shared>;

    fn deref(&self) -> &Arc<Shared> {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.let_go();
    }
}

impl Shared {
    /// Begins to hear the guardian, on the runtime of the caller.
    fn begin(link: Link, program: &OsStr, options: &Options) -> Lease {
        let Link { socket, way, unsent } = link;
        let shared = Arc::new(Self {
            socket,
            way,
            runtime: Handle::current(),
            kill_delay: options.kill_delay,
            windows: options.window,
            state: Mutex::new(State::new(options, trace::Run::of(program), unsent)),
            changed: Notify::new(),
            stdin_moved: Notify::new(),
        });
        tokio::spawn(driver::drive(Arc::clone(&shared)));
        Lease(shared)
    }

    /// Never held while something is waited for.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what may be said, as far as the socket takes it: at once, whatever the runtime does.
    pub(crate) fn flush(&self, state: &mut State) {
        loop {
            state.pump(BATCH);
            if state.out.is_empty() {
                return;
            }
            match self.send(&state.out[state.sent..]) {
                Ok(written) => state.sent += written,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                // The end of the other direction tells why.
                Err(_) => state.sent = state.out.len(),
            }
            if state.sent == state.out.len() {
                state.sent = 0;
                if state.out.capacity() > 2 * BATCH {
                    state.out = Vec::new();
                }
                state.out.clear();
            }
        }
    }

    /// Without SIGPIPE where the guardian has died: a host may not ignore that.
    fn send(&self, bytes: &[u8]) -> std::io::Result<usize> {
        self.socket
            .try_io(Interest::WRITABLE, || Ok(send(&self.socket, bytes, SendFlags::NOSIGNAL)?))
    }

    /// Changes something, and says to the guardian what follows from it.
    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let changed = change(&mut state);
        self.flush(&mut state);
        if !state.out.is_empty() {
            if let Some(driver) = &state.driver {
                driver.wake_by_ref();
            }
        }
        changed
    }

    /// The guardian hears the end of its controller, and ends the program: SIGTERM first.
    fn hang_up(&self) {
        let _ = rustix::net::shutdown(&self.socket, Shutdown::Both);
        self.way.let_go();
    }

    fn let_go(&self) {
        let mut state = self.lock();
        if !state.is_over() {
            self.hang_up();
            state.phase = Phase::LetGo;
            state.settle(End::Cut);
            if let Some(driver) = state.driver.take() {
                driver.wake();
            }
        }
        drop(state);
        self.changed.notify_waiters();
        self.stdin_moved.notify_waiters();
    }

    /// Waits until `look` finds something, which it is asked each time that the phase changes.
    async fn until<T>(&self, look: impl FnMut(&mut State) -> Option<T>) -> T {
        self.until_after(&self.changed, look).await
    }

    async fn until_after<T>(
        &self,
        news: &Notify,
        mut look: impl FnMut(&mut State) -> Option<T>,
    ) -> T {
        loop {
            let told = news.notified();
            tokio::pin!(told);
            told.as_mut().enable();
            if let Some(found) = look(&mut self.lock()) {
                return found;
            }
            told.await;
        }
    }

    pub(crate) async fn exit(&self) -> Result<Exit, Error> {
        self.until(|state| match &state.phase {
            Phase::Ended(exit) => Some(Ok(exit.clone())),
            Phase::LetGo | Phase::Failed(_) => Some(Err(Error::NoRuntime)),
            _ => None,
        })
        .await
    }

    /// Asks for the program's end, and sees to it. Without effect when it has ended.
    pub(crate) fn ask_to_close(self: &Arc<Self>) {
        let has_begun = self.with(State::close);
        self.stdin_moved.notify_waiters();
        if has_begun {
            // Where it was started, there is a clock; who has asked may have none.
            self.runtime.spawn(Arc::clone(self).insist());
        }
    }

    /// A guardian that doesn't see to the end in time is killed. The connection ends with it; where
    /// it can't be killed, nobody can do more.
    async fn insist(self: Arc<Self>) {
        let ended = tokio::time::timeout(patience(self.kill_delay), self.exit());
        if ended.await.is_err() {
            self.lock().complaint = Some(GuardianEnd::Stuck);
            self.way.kill();
        }
    }

    pub(crate) fn push(&self, bytes: Bytes) -> Result<(), Error> {
        self.with(|state| match state.is_over() {
            true => Err(Error::Closed),
            false => state.stdin.push(bytes),
        })
    }

    /// Waits for room, hands the bytes over, and waits until they are in the program's pipe.
    pub(crate) async fn write(&self, bytes: Bytes) -> Result<(), Error> {
        let moved = &self.stdin_moved;
        self.until_after(moved, |state| state.stdin.has_room(ROOM).then_some(())).await;
        let offset = self.with(|state| {
            if state.is_over() {
                return Err(Error::Closed);
            }
            state.stdin.push(bytes)?;
            let offset = state.stdin.accepted();
            state.stdin.ask(offset);
            Ok(offset)
        })?;
        self.until_after(moved, |state| match state.stdin.is_written(offset) {
            Ok(false) => None,
            Ok(true) => Some(Ok(())),
            Err(error) => Some(Err(if state.is_running() { error } else { Error::Closed })),
        })
        .await
    }

    pub(crate) fn signal(&self, signal: Signal, is_for_tree: bool) {
        self.with(|state| {
            if state.is_running() {
                let frame = ToGuardian::Signal { number: signal.number(), tree: is_for_tree };
                frame.encode(&mut state.out);
            }
        });
    }

    /// Kills the whole tree. What it has written stays to be read.
    pub(crate) fn kill(self: &Arc<Self>) {
        let is_first = self.with(|state| state.make_room_for_the_rest(self.windows));
        self.signal(Signal::KILL, true);
        if is_first {
            self.runtime.spawn(Arc::clone(self).outlast());
        }
    }

    /// A program that lives on after a kill is closed, which tells who survives, and which a
    /// guardian that is stuck does not.
    async fn outlast(self: Arc<Self>) {
        let ended = tokio::time::timeout(patience(self.kill_delay), self.exit());
        if ended.await.is_err() && self.info().os_pid.is_some() {
            self.ask_to_close();
        }
    }

    async fn ask(&self, frame: &ToGuardian<'_>) -> Result<Stats, Error> {
        let mut encoded = Vec::new();
        frame.encode(&mut encoded);
        let (from, answer) = oneshot::channel();
        self.with(|state| match state.is_running() {
            true => {
                state.ask(state::Question { frame: encoded, from });
                Ok(())
            }
            false => Err(Error::Closed),
        })?;
        answer.await.unwrap_or(Err(Error::Closed))
    }

    pub(crate) async fn stats(&self) -> Result<Stats, Error> {
        self.ask(&ToGuardian::Query).await
    }

    pub(crate) async fn update_limits(&self, limits: Vec<Limit<'_>>) -> Result<(), Error> {
        self.ask(&ToGuardian::Limits(limits)).await.map(drop)
    }

    pub(crate) async fn freeze(&self, is_frozen: bool) -> Result<(), Error> {
        self.ask(&ToGuardian::Freeze(is_frozen)).await.map(drop)
    }

    pub(crate) fn info(&self) -> Info {
        let state = self.lock();
        Info::new(&state, self.way.is_nursery())
    }
}
