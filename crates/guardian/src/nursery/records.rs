// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! The guardians that live. A child that is in no record is an orphan.

use std::time::{Duration, Instant};

/// A guardian that is stopped twice within this time is killed.
const AGAIN: Duration = Duration::from_secs(1);

/// One guardian. Its pid is its own for as long as it is here: only this process waits for it.
pub(crate) struct Record {
    pid: u32,
    pub(crate) run: u64,
    /// Its program's cgroup, if it has one.
    pub(crate) group: Option<Box<[u8]>>,
    stopped: Option<Instant>,
}

#[derive(Default)]
pub(crate) struct Records(Vec<Record>);

impl Records {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn add(&mut self, pid: u32, run: u64) {
        self.0.push(Record { pid, run, group: None, stopped: None });
    }

    pub(crate) fn knows(&self, pid: u32) -> bool {
        self.0.iter().any(|record| record.pid == pid)
    }

    pub(crate) fn pid_of(&self, run: u64) -> Option<u32> {
        self.0.iter().find(|record| record.run == run).map(|record| record.pid)
    }

    pub(crate) fn set_group(&mut self, run: u64, path: Box<[u8]>) {
        if let Some(record) = self.0.iter_mut().find(|record| record.run == run) {
            record.group = Some(path);
        }
    }

    /// Whether it was stopped before, not long ago; `None` where it is no guardian.
    pub(crate) fn was_stopped(&mut self, pid: u32, now: Instant) -> Option<bool> {
        let record = self.0.iter_mut().find(|record| record.pid == pid)?;
        let before = record.stopped.replace(now);
        Some(before.is_some_and(|before| now.saturating_duration_since(before) < AGAIN))
    }

    pub(crate) fn remove(&mut self, pid: u32) -> Option<Record> {
        let index = self.0.iter().position(|record| record.pid == pid)?;
        Some(self.0.swap_remove(index))
    }
}
