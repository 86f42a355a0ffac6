// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! The guardians that live. A child that is in no record is an orphan.

use std::time::{Duration, Instant};

use proton_stream_containment::{Board, Slot};

/// A guardian that is stopped twice within this time is killed.
const AGAIN: Duration = Duration::from_secs(1);

/// Slots of so many guardians are kept.
const FEW: usize = 8;

/// A guardian that has died, and what it was doing.
pub(crate) struct Died {
    /// 0 for one that had no run.
    pub(crate) run: u64,
    /// Its program's cgroup, if it has one.
    pub(crate) group: Option<Vec<u8>>,
}

/// They stand on the board: what a nursery writes down elsewhere costs each guardian that it has
/// forked before a copy of the page.
pub(crate) struct Records {
    board: Board,
    /// How many slots were ever used.
    used: usize,
    /// How many guardians there are, and were at most since slots were last cleared.
    count: usize,
    most: usize,
    /// Guardians that were stopped, and when.
    stopped: Vec<(u32, Instant)>,
}

impl Records {
    pub(crate) fn new(board: Board) -> Self {
        Self { board, used: 0, count: 0, most: 0, stopped: Vec::new() }
    }

    fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        (0..self.used).filter_map(|index| self.board.slot(index))
    }

    /// Those of guardians. A pid is its guardian's own for as long as it is here: only this process
    /// waits for it.
    fn live(&self) -> impl Iterator<Item = Slot> + '_ {
        self.slots().filter(|slot| slot.pid() != 0)
    }

    fn slot_of(&self, pid: u32) -> Option<Slot> {
        self.live().find(|slot| slot.pid() == pid)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.live().next().is_none()
    }

    /// How many guardians wait for a connection, those among them that have yet to begin.
    pub(crate) fn idle(&self) -> u32 {
        self.board.idle()
    }

    /// Nobody is to wait any more.
    pub(crate) fn close(&self) {
        self.board.close();
    }

    /// Forks one more, which is counted among those that wait. `false` when that can't be done.
    pub(crate) fn add(&mut self, fork: impl FnOnce(Slot) -> std::io::Result<u32>) -> bool {
        let free = self.slots().find(|slot| slot.pid() == 0);
        let Some(slot) = free.or_else(|| self.board.slot(self.used)) else { return false };
        if free.is_none() {
            self.used += 1;
        }
        slot.wait();
        let Ok(pid) = fork(slot) else {
            slot.take();
            return false;
        };
        slot.set_pid(pid);
        self.count += 1;
        self.most = self.most.max(self.count);
        true
    }

    pub(crate) fn knows(&self, pid: u32) -> bool {
        self.slot_of(pid).is_some()
    }

    /// The guardian that has a run; none has number 0.
    pub(crate) fn pid_of(&self, run: u64) -> Option<u32> {
        let mut with_run = self.live().filter(|slot| slot.run() != 0);
        with_run.find(|slot| slot.run() == run).map(Slot::pid)
    }

    /// Those that have no run.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = u32> + '_ {
        self.live().filter(|slot| slot.run() == 0).map(Slot::pid)
    }

    /// Whether it was stopped before, not long ago; `None` where it is no guardian.
    pub(crate) fn was_stopped(&mut self, pid: u32, now: Instant) -> Option<bool> {
        self.slot_of(pid)?;
        self.stopped.retain(|(_, before)| now.saturating_duration_since(*before) < AGAIN);
        let is_again = self.stopped.iter().any(|(stopped, _)| *stopped == pid);
        self.stopped.push((pid, now));
        Some(is_again)
    }

    pub(crate) fn remove(&mut self, pid: u32) -> Option<Died> {
        let slot = self.slot_of(pid)?;
        let died = Died { run: slot.run(), group: slot.group() };
        slot.set_run(0);
        slot.take();
        slot.set_pid(0);
        self.stopped.retain(|(stopped, _)| *stopped != pid);
        self.count -= 1;
        self.give_back();
        Some(died)
    }

    /// After many guardians at once their slots hold memory that few will need.
    fn give_back(&mut self) {
        if self.most <= 2 * self.count.max(FEW) {
            return;
        }
        self.most = self.count;
        let mut begin = 0;
        for index in 0..=self.used {
            let is_free = self.board.slot(index).is_some_and(|slot| slot.pid() == 0);
            if !is_free || index == self.used {
                self.board.clear(begin..index);
                begin = index + 1;
            }
        }
    }
}
