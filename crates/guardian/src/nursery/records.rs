// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! The guardians that live. A child that is in no record is an orphan.

use std::time::{Duration, Instant};

use proton_stream_containment::{Board, Slot};

/// A guardian that is stopped twice within this time is killed.
const AGAIN: Duration = Duration::from_secs(1);

/// One guardian. Its pid is its own for as long as it is here: only this process waits for it.
struct Record {
    pid: u32,
    slot: Slot,
    index: usize,
    stopped: Option<Instant>,
}

/// A guardian that has died, and what it was doing.
pub(crate) struct Died {
    /// 0 for one that had no run.
    pub(crate) run: u64,
    /// Its program's cgroup, if it has one.
    pub(crate) group: Option<Vec<u8>>,
}

pub(crate) struct Records {
    board: Board,
    live: Vec<Record>,
    /// Numbers of slots that were used and are free.
    free: Vec<usize>,
    /// How many were ever used.
    used: usize,
}

impl Records {
    pub(crate) fn new(board: Board) -> Self {
        Self { board, live: Vec::new(), free: Vec::new(), used: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.live.is_empty()
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
        let index = self.free.last().copied().unwrap_or(self.used);
        let Some(slot) = self.board.slot(index) else { return false };
        slot.wait();
        let Ok(pid) = fork(slot) else {
            slot.take();
            return false;
        };
        if self.free.pop().is_none() {
            self.used += 1;
        }
        self.live.push(Record { pid, slot, index, stopped: None });
        true
    }

    pub(crate) fn knows(&self, pid: u32) -> bool {
        self.live.iter().any(|record| record.pid == pid)
    }

    /// The guardian that has a run; none has number 0.
    pub(crate) fn pid_of(&self, run: u64) -> Option<u32> {
        let mut with_run = self.live.iter().filter(|record| record.slot.run() != 0);
        with_run.find(|record| record.slot.run() == run).map(|record| record.pid)
    }

    /// Those that have no run.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = u32> + '_ {
        self.live.iter().filter(|record| record.slot.run() == 0).map(|record| record.pid)
    }

    /// Whether it was stopped before, not long ago; `None` where it is no guardian.
    pub(crate) fn was_stopped(&mut self, pid: u32, now: Instant) -> Option<bool> {
        let record = self.live.iter_mut().find(|record| record.pid == pid)?;
        let before = record.stopped.replace(now);
        Some(before.is_some_and(|before| now.saturating_duration_since(before) < AGAIN))
    }

    pub(crate) fn remove(&mut self, pid: u32) -> Option<Died> {
        let place = self.live.iter().position(|record| record.pid == pid)?;
        let record = self.live.swap_remove(place);
        let died = Died { run: record.slot.run(), group: record.slot.group() };
        record.slot.set_run(0);
        record.slot.take();
        self.free.push(record.index);
        Some(died)
    }
}
