// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! A guardian that is a child of this process, for where there is no nursery.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::io::retry_on_intr;
use rustix::pipe::{pipe_with, PipeFlags};
use rustix::process::{pidfd_open, pidfd_send_signal, Pid, PidfdFlags, Signal};
use tokio::sync::Notify;

use crate::GuardianEnd;

/// It is waited for by a thread of its own, so that no runtime has to.
pub(crate) struct Process {
    /// `None` where the system has none.
    pidfd: Option<Arc<OwnedFd>>,
    ended: Arc<Ended>,
    /// Closed when it is let go, which the thread sees at the other end.
    held: Mutex<Option<OwnedFd>>,
}

#[derive(Default)]
struct Ended {
    status: Mutex<Option<ExitStatus>>,
    changed: Notify,
}

impl Process {
    /// One that was let go, and has not ended after `patience`, never heard of it, or is stuck.
    pub(super) fn watch(mut child: Child, patience: Duration) -> io::Result<Self> {
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pidfd = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let pidfd = pidfd.map(Arc::new);
        let (letting_go, held) = pipe_with(PipeFlags::CLOEXEC)?;
        let ended = Arc::new(Ended::default());
        let (theirs, attended) = (Arc::clone(&ended), pidfd.clone());
        std::thread::Builder::new().name("proton-guardian".into()).spawn(move || {
            if let Some(pidfd) = attended {
                attend(&pidfd, &letting_go, patience);
            }
            let status = child.wait().ok();
            *theirs.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
            theirs.changed.notify_waiters();
        })?;
        Ok(Self { pidfd, ended, held: Mutex::new(Some(held)) })
    }

    /// Its connection was closed: it ends by itself, or is killed.
    pub(crate) fn let_go(&self) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// A pidfd never means another process.
    pub(crate) fn kill(&self) {
        if let Some(pidfd) = &self.pidfd {
            let _ = pidfd_send_signal(pidfd.as_ref(), Signal::KILL);
        }
    }

    /// How it ended, once it has.
    pub(crate) async fn end(&self) -> GuardianEnd {
        loop {
            let changed = self.ended.changed.notified();
            if let Some(status) = *self.ended.status.lock().unwrap_or_else(PoisonError::into_inner)
            {
                return match (status.code(), status.signal()) {
                    (Some(code), _) => GuardianEnd::Exited(code as u8),
                    (None, Some(signal)) => GuardianEnd::Signalled(signal as u8),
                    (None, None) => GuardianEnd::Lost,
                };
            }
            changed.await;
        }
    }
}

/// Until it has ended, or was killed.
fn attend(pidfd: &OwnedFd, letting_go: &OwnedFd, patience: Duration) {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN), PollFd::new(letting_go, PollFlags::empty())];
    let found = retry_on_intr(|| poll(&mut fds, None));
    if found.is_err() || !fds[0].revents().is_empty() {
        return;
    }
    let patience = Timespec::try_from(patience).ok();
    if retry_on_intr(|| poll(&mut fds[..1], patience.as_ref())) == Ok(0) {
        let _ = pidfd_send_signal(pidfd, Signal::KILL);
    }
}
