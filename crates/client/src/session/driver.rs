// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! The task between the guardian's socket and a run's state. It reads whatever comes, which the
//! credit bounds, and writes what the calls could not write at once.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::inbox::Inbox;
use super::output::End;
use super::state::{Phase, State};
use super::Shared;
use crate::{Error, Exit, GuardianEnd};

/// Hears the guardian out.
pub(super) async fn drive(shared: Arc<Shared>) {
    let rest = LetGo(&shared);
    let mut inbox = Inbox::new();
    let lost = poll_fn(|context| relay(&shared, &mut inbox, context)).await;
    if let Some(end) = lost {
        lay_out(&shared, end).await;
    }
    drop(rest);
}

/// Whatever ends the task, also the runtime's own end: nobody waits for what will not come.
struct LetGo<'s>(&'s Arc<Shared>);

impl Drop for LetGo<'_> {
    fn drop(&mut self) {
        self.0.let_go();
        // The controller closes first, always: the guardian is free for another run.
        self.0.hang_up();
    }
}

/// Until the guardian's last word, or until it is gone without one: that is told.
fn relay(
    shared: &Shared,
    inbox: &mut Inbox,
    context: &mut Context<'_>,
) -> Poll<Option<GuardianEnd>> {
    loop {
        {
            let mut state = shared.lock();
            if state.is_over() {
                return Poll::Ready(None);
            }
            match &state.driver {
                Some(waker) if waker.will_wake(context.waker()) => {}
                _ => state.driver = Some(context.waker().clone()),
            }
            shared.flush(&mut state);
            // It may have got room, or have ended, which reading tells.
            while !state.out.is_empty() && shared.socket.poll_write_ready(context).is_ready() {
                shared.flush(&mut state);
            }
        }
        match shared.socket.poll_read_ready(context) {
            Poll::Pending => {
                inbox.rest();
                return Poll::Pending;
            }
            Poll::Ready(Err(_)) => return Poll::Ready(Some(GuardianEnd::Lost)),
            Poll::Ready(Ok(())) => {}
        }
        match shared.socket.try_read_buf(inbox.room()) {
            Ok(0) => return Poll::Ready(Some(GuardianEnd::Lost)),
            Ok(length) => inbox.has_read(length),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return Poll::Ready(Some(GuardianEnd::Lost)),
        }
        if let Err(sentence) = hear(shared, inbox) {
            shared.hang_up();
            return Poll::Ready(Some(GuardianEnd::Protocol(sentence)));
        }
    }
}

fn hear(shared: &Shared, inbox: &mut Inbox) -> Result<(), String> {
    let mut state = shared.lock();
    let before = std::mem::discriminant(&state.phase);
    while let Some(event) = inbox.next().map_err(|malformed| malformed.to_string())? {
        state.hear(event).map_err(|malformed| malformed.to_string())?;
    }
    shared.flush(&mut state);
    let is_changed = before != std::mem::discriminant(&state.phase);
    drop(state);
    if is_changed {
        shared.changed.notify_waiters();
    }
    shared.stdin_moved.notify_waiters();
    Ok(())
}

/// The guardian has gone without a last word. What it may have left is ended, and then it is told.
async fn lay_out(shared: &Shared, end: GuardianEnd) {
    let (is_started, cgroup) = {
        let mut state = shared.lock();
        if state.is_over() {
            return;
        }
        if matches!(state.phase, Phase::Silent) {
            // It has started nothing.
            state.phase = Phase::Failed(Some(Error::GuardianEnded(complaint(&mut state, end))));
            return;
        }
        (state.is_running(), state.cgroup.clone())
    };
    let (fate, survivors) = shared.way.fate(&cgroup).await;
    let mut state = shared.lock();
    if state.is_over() {
        return;
    }
    let end = match complaint(&mut state, end) {
        GuardianEnd::Lost => fate,
        said => said,
    };
    if is_started {
        state.finish(Exit::unreported(end, survivors), End::Cut);
    } else {
        state.phase = Phase::Failed(Some(Error::GuardianEnded(end)));
    }
}

/// The guardian's own word counts more than what was seen of it.
fn complaint(state: &mut State, seen: GuardianEnd) -> GuardianEnd {
    state.complaint.take().unwrap_or(seen)
}
