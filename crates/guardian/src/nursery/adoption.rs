// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! What guardians leave that die: their descendants are the nursery's by then, and are killed;
//! their cgroups are removed; then it is told.
//!
//! Whose descendant an orphan was can't be seen any more. So of guardians that die at the same
//! time each is told of when there is no orphan at all.

use std::time::{Duration, Instant};

use proton_stream_containment::cgroup::Cleaning;
use proton_stream_containment::Orphans;
use proton_stream_protocol::{Ending, FromNursery};

use super::records::{Died, Records};

/// A round of SIGKILL follows each death; this is for when nobody dies.
const ROUND: Duration = Duration::from_millis(5);

/// How long killed processes may take to disappear before they are named.
const GIVE_UP: Duration = Duration::from_secs(2);

/// A guardian that has died, and what is still to be done for it.
struct Dead {
    run: u64,
    ending: Ending,
    group: Option<Cleaning>,
    give_up: Instant,
}

pub(crate) struct Adoption {
    orphans: Orphans,
    dead: Vec<Dead>,
    /// When there is something to do.
    next: Option<Instant>,
}

impl Adoption {
    pub(crate) fn new() -> Self {
        Self { orphans: Orphans::of_this_process(), dead: Vec::new(), next: None }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.dead.is_empty()
    }

    /// Whether what a run's guardian has left is being ended.
    pub(crate) fn is_of(&self, run: u64) -> bool {
        self.dead.iter().any(|dead| dead.run == run)
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.next
    }

    /// A guardian has died.
    pub(crate) fn begin(&mut self, died: Died, ending: Ending, now: Instant) {
        // A group that was announced and never made is clean; so is one that can't be looked for.
        let group = died.group.and_then(|path| Cleaning::begin(&path).ok());
        self.dead.push(Dead { run: died.run, ending, group, give_up: now + GIVE_UP });
        self.look(now);
    }

    /// There may be orphans.
    pub(crate) fn look(&mut self, now: Instant) {
        self.next = Some(now);
    }

    /// Goes on with what is due, and answers what there is to tell.
    pub(crate) fn advance(
        &mut self,
        guardians: &Records,
        now: Instant,
    ) -> Vec<FromNursery<'static>> {
        if self.next.is_none_or(|next| now < next) {
            return Vec::new();
        }
        let orphans = self.orphans.kill(&|pid| guardians.knows(pid));
        let mut told = Vec::new();
        self.dead.retain_mut(|dead| {
            let is_clean = dead.group.as_mut().is_none_or(Cleaning::step);
            if !(is_clean && orphans.is_none()) && now < dead.give_up {
                return true;
            }
            let mut survivors = orphans.clone().unwrap_or_default();
            if let Some(group) = &dead.group {
                // A group that is busy without anybody in it stays for the next start.
                survivors.extend(group.left().unwrap_or_default());
            }
            survivors.sort_unstable();
            survivors.dedup();
            // Of one that had no run nobody wants to hear.
            if dead.run != 0 {
                told.push(FromNursery::Died { run: dead.run, ending: dead.ending, survivors });
            }
            false
        });
        // Who can't be killed is looked at again when somebody dies.
        self.next = (!self.dead.is_empty()).then(|| now + ROUND);
        told
    }
}
