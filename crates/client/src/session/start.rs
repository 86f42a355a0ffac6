// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! From what was asked for to a program that runs.

use std::ffi::OsString;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use proton_stream_protocol::Stdio;
use rustix::net::Shutdown;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::{patience, Lease, Phase, Shared};
use crate::guardian::{exec, fork, locate, nursery, Executable};
use crate::options::{Options, Transport};
use crate::{specification, trace, Error, GuardianEnd};

/// How long a forked guardian may take to say that it is there.
const HELLO: Duration = Duration::from_secs(2);

/// How long a guardian may take to see that nobody waits for it any more.
const LAST_WORD: Duration = Duration::from_secs(1);

/// How long a nursery may take to say that what it was told to kill is dead.
const DEATH: Duration = Duration::from_secs(1);

/// What is to be started.
pub(crate) struct Specification<'a> {
    pub(crate) program: &'a std::ffi::OsStr,
    pub(crate) arguments: &'a [OsString],
    pub(crate) stdio: [Stdio; 3],
    /// Those that are passed, in order.
    pub(crate) descriptors: Vec<BorrowedFd<'a>>,
    pub(crate) options: &'a Options,
}

/// Starts a program. Dropped before it is done, nothing is left.
pub(crate) async fn start(specification: Specification<'_>) -> Result<Lease, Error> {
    let options = specification.options;
    let open = specification::open(
        specification.program,
        specification.arguments,
        specification.stdio,
        options,
    )?;
    let executable = locate(options.guardian.as_deref())?;
    Handle::try_current().map_err(|_| Error::NoRuntime)?;
    let starting = begin(&executable, &open, &specification);
    let started = match timeout(options.start_timeout, starting).await {
        Ok(started) => started,
        Err(_) => Err(Error::StartTimeout(options.start_timeout)),
    };
    started.inspect_err(|error| trace::not_started(specification.program, error))
}

async fn begin(
    executable: &Executable,
    open: &[u8],
    specification: &Specification<'_>,
) -> Result<Lease, Error> {
    let Specification { program, options, ref descriptors, .. } = *specification;
    if options.transport == Transport::Nursery {
        if let Some(nursery) = nursery(executable).await {
            if let Ok(link) = fork(&nursery, executable, open, descriptors).await {
                let lease = Shared::begin(link, program, options);
                match timeout(HELLO, lease.greeting()).await {
                    Ok(true) => return lease.started().await,
                    // It was not our process that the nursery knows, or it is about to end.
                    Ok(false) => {}
                    Err(_) => match timeout(LAST_WORD, lease.last_word()).await {
                        // It has started the program, which it ends, and none runs twice.
                        Ok(true) => return Err(Error::StartTimeout(HELLO)),
                        Ok(false) => {}
                        // A nursery that is stopped takes connections and does nothing.
                        Err(_) => {
                            nursery.suspect();
                            trace::passed_over();
                            lease.hang_up();
                            let _ = timeout(DEATH, lease.way.fate(b"")).await;
                        }
                    },
                }
            }
        }
    }
    let link = exec(executable, open, descriptors, patience(options.kill_delay))
        .map_err(|source| Error::Guardian { path: executable.path().to_owned(), source })?;
    Shared::begin(link, program, options).started().await
}

impl Shared {
    /// Says nothing more. A guardian that finds that before it has started anything starts nothing;
    /// one that has says HELLO (PROTOCOL §10).
    async fn last_word(&self) -> bool {
        let _ = rustix::net::shutdown(&self.socket, Shutdown::Write);
        self.greeting().await
    }

    /// Whether the guardian has said anything, before it was gone.
    async fn greeting(&self) -> bool {
        self.until(|state| match &state.phase {
            Phase::Silent => None,
            Phase::Failed(Some(Error::GuardianEnded(GuardianEnd::Lost))) => Some(false),
            _ => Some(true),
        })
        .await
    }
}

impl Lease {
    async fn started(self) -> Result<Self, Error> {
        let failure = self
            .until(|state| match &mut state.phase {
                Phase::Silent | Phase::Greeted => None,
                Phase::Failed(error) => Some(Some(error.take().unwrap_or(Error::NoRuntime))),
                Phase::LetGo => Some(Some(Error::NoRuntime)),
                Phase::Running | Phase::Ended(_) => Some(None),
            })
            .await;
        match failure {
            Some(error) => Err(error),
            None => Ok(self),
        }
    }
}
