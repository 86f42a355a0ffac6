// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! The end of a process tree: a request, a delay, then SIGKILL until nothing is left.

use std::time::{Duration, Instant};

use proton_stream_containment::Program;

// The numbers are the same on every architecture that Linux has but MIPS, Alpha and SPARC (signal(7)).
pub(crate) const SIGHUP: i32 = 1;
pub(crate) const SIGINT: i32 = 2;
pub(crate) const SIGQUIT: i32 = 3;
pub(crate) const SIGKILL: i32 = 9;
pub(crate) const SIGUSR1: i32 = 10;
pub(crate) const SIGUSR2: i32 = 12;
pub(crate) const SIGTERM: i32 = 15;
pub(crate) const SIGCHLD: i32 = 17;
pub(crate) const SIGCONT: i32 = 18;
pub(crate) const SIGSTOP: i32 = 19;
pub(crate) const SIGTSTP: i32 = 20;
pub(crate) const SIGURG: i32 = 23;
pub(crate) const SIGWINCH: i32 = 28;

/// Whether a signal to a guardian or a nursery ends it, in order.
pub(crate) fn ends_a_guardian(signal: i32) -> bool {
    matches!(signal, SIGHUP | SIGINT | SIGQUIT | SIGTERM | SIGUSR1 | SIGUSR2)
}

/// How long killed processes may take to disappear before they are given up as survivors. With
/// what a cgroup may take then it stays below the two seconds that a controller waits.
const GIVE_UP: Duration = Duration::from_millis(1500);

/// A round of SIGKILL follows each death; this is for a tree in which nobody dies.
const ROUND: Duration = Duration::from_millis(10);

pub(crate) struct Ending {
    stage: Stage,
}

enum Stage {
    /// Asked to end; SIGKILL comes at the instant.
    Asked(Instant),
    /// Being killed.
    Killing { next_round: Instant, give_up: Instant },
    /// Something could not be killed.
    GivenUp,
}

impl Ending {
    /// Sends `first`, and SIGCONT so that stopped processes hear it, to the whole tree.
    pub(crate) fn begin(program: &mut Program, first: i32, delay: Duration, now: Instant) -> Self {
        if delay.is_zero() {
            return Self::kill(program, now);
        }
        // Who is frozen hears nothing. Where there is no group, or no freezer, nobody is.
        let _ = program.freeze(false);
        program.signal_tree(first);
        program.signal_tree(SIGCONT);
        Ending { stage: Stage::Asked(now + delay) }
    }

    /// Starts with SIGKILL.
    pub(crate) fn kill(program: &mut Program, now: Instant) -> Self {
        program.kill_tree();
        Ending { stage: Stage::Killing { next_round: now + ROUND, give_up: now + GIVE_UP } }
    }

    /// When [`advance`](Self::advance) has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::Asked(kill_at) => Some(kill_at),
            Stage::Killing { next_round, give_up } => Some(next_round.min(give_up)),
            Stage::GivenUp => None,
        }
    }

    /// Goes on, after `deaths` in the tree. Not to be called once the tree is empty.
    pub(crate) fn advance(&mut self, program: &mut Program, deaths: usize, now: Instant) {
        match self.stage {
            Stage::Asked(kill_at) if now >= kill_at => *self = Self::kill(program, now),
            Stage::Killing { give_up, .. } if now >= give_up => self.stage = Stage::GivenUp,
            Stage::Killing { next_round, give_up } if deaths > 0 || now >= next_round => {
                program.kill_tree();
                self.stage = Stage::Killing { next_round: now + ROUND, give_up };
            }
            Stage::Asked(_) | Stage::Killing { .. } | Stage::GivenUp => {}
        }
    }

    pub(crate) fn has_given_up(&self) -> bool {
        matches!(self.stage, Stage::GivenUp)
    }
}
