// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! What a controller may ask of the program's cgroup (PROTOCOL §9).

use std::time::{Duration, Instant};

use proton_stream_containment::cgroup::{Limit, Stats};
use proton_stream_containment::{Error, Program, Step};
use proton_stream_protocol::FromGuardian;
use rustix::io::Errno;

use crate::outbox::Outbox;
use crate::report;

/// How often it is looked whether all processes have stopped.
pub(crate) const LOOK: Duration = Duration::from_millis(1);

/// For how long. One in state D stops when the kernel lets go of it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// The answer to a request.
pub(crate) enum Answer {
    Stats(Box<Stats>),
    Done,
    Refused(Error),
    /// It is not known yet.
    Later,
}

impl Answer {
    pub(crate) fn say(&self, outbox: &mut Outbox<'_>) {
        match self {
            Answer::Stats(stats) => outbox.answer(&report::stats(stats)),
            Answer::Done => outbox.answer(&FromGuardian::Done),
            Answer::Refused(error) => outbox.answer(&report::refused(error)),
            Answer::Later => {}
        }
    }
}

impl From<Result<(), Error>> for Answer {
    fn from(result: Result<(), Error>) -> Self {
        match result {
            Ok(()) => Answer::Done,
            Err(error) => Answer::Refused(error),
        }
    }
}

pub(crate) fn stats(program: &Program) -> Answer {
    match program.stats() {
        Some(stats) => Answer::Stats(Box::new(stats)),
        // Says why there are none.
        None => program.update_limits(&[]).into(),
    }
}

pub(crate) fn update_limits(program: &Program, limits: &[Limit]) -> Answer {
    program.update_limits(limits).into()
}

/// Processes that are about to stop.
pub(crate) struct Freezing {
    next: Instant,
    give_up: Instant,
}

impl Freezing {
    /// Freezes, or thaws; the first takes its time.
    pub(crate) fn begin(program: &Program, frozen: bool, now: Instant) -> (Answer, Option<Self>) {
        match program.freeze(frozen) {
            Ok(()) if frozen && !program.is_frozen() => {
                (Answer::Later, Some(Freezing { next: now + LOOK, give_up: now + PATIENCE }))
            }
            result => (result.into(), None),
        }
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.next
    }

    /// The answer, once there is one. `is_over` when the program is to end, and was thawed for it.
    pub(crate) fn look(&mut self, program: &Program, is_over: bool, now: Instant) -> Answer {
        if is_over {
            return refused(Errno::CANCELED);
        }
        if now < self.next {
            return Answer::Later;
        }
        if program.is_frozen() {
            return Answer::Done;
        }
        if now >= self.give_up {
            // Nobody is left half frozen by a request that failed.
            let _ = program.freeze(false);
            return refused(Errno::TIMEDOUT);
        }
        self.next = now + LOOK;
        Answer::Later
    }
}

fn refused(errno: Errno) -> Answer {
    let detail = b"freeze".to_vec();
    Answer::Refused(Error { step: Step::Cgroup, errno: errno.raw_os_error(), detail })
}
