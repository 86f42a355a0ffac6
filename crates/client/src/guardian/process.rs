// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! A guardian that is a child of this process, for where there is no nursery.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{pidfd_open, pidfd_send_signal, Pid, PidfdFlags, Signal};
use tokio::sync::Notify;

use crate::GuardianEnd;

/// It is waited for by a thread of its own, so that no runtime has to.
pub(crate) struct Process {
    /// `None` where the system has none.
    pidfd: Option<OwnedFd>,
    ended: Arc<Ended>,
}

#[derive(Default)]
struct Ended {
    status: Mutex<Option<ExitStatus>>,
    changed: Notify,
}

impl Process {
    pub(super) fn watch(mut child: Child) -> io::Result<Self> {
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pidfd = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let ended = Arc::new(Ended::default());
        let theirs = Arc::clone(&ended);
        std::thread::Builder::new().name("proton-guardian".into()).spawn(move || {
            let status = child.wait().ok();
            *theirs.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
            theirs.changed.notify_waiters();
        })?;
        Ok(Self { pidfd, ended })
    }

    /// A pidfd never means another process.
    pub(crate) fn kill(&self) {
        if let Some(pidfd) = &self.pidfd {
            let _ = pidfd_send_signal(pidfd, Signal::KILL);
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
