// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! What the kernel counts of a run's group, the same on either version.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::group::number_of;
use super::run::Run;
use super::settings;
use crate::procfs::decimal;

/// What a group has used. `None` is a count that its controllers don't have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Bytes of memory in use, the page cache among them.
    pub memory: Option<u64>,
    /// The most that it has been (version 2: from 5.19).
    pub memory_peak: Option<u64>,
    /// The limit, in bytes, if there is one.
    pub memory_limit: Option<u64>,
    /// Time on CPUs (version 1: with the controller `cpuacct`).
    pub cpu: Option<Duration>,
    /// Of that in user mode.
    pub cpu_user: Option<Duration>,
    /// Of that in the kernel.
    pub cpu_system: Option<Duration>,
    /// Time for which the quota kept it from running.
    pub cpu_throttled: Option<Duration>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Their limit, if there is one.
    pub pids_limit: Option<u64>,
    /// How many processes the OOM killer took since the run began.
    pub oom_kills: Option<u64>,
    /// For how long some of its tasks waited for a CPU (version 2 with PSI, as all that follow).
    pub cpu_some: Option<Duration>,
    /// For how long some waited for memory.
    pub memory_some: Option<Duration>,
    /// For how long all of them did.
    pub memory_full: Option<Duration>,
    /// For how long some waited for a disk.
    pub io_some: Option<Duration>,
    /// For how long all of them did.
    pub io_full: Option<Duration>,
}

/// Where version 1's "no limit" begins, in bytes.
const BOUNDLESS: u64 = 1 << 62;

fn number(fd: &OwnedFd, file: &CStr) -> Option<u64> {
    decimal(settings::read(fd, file).ok()?.trim_ascii())
}

fn lines(fd: &OwnedFd, file: &CStr) -> Option<Vec<u8>> {
    settings::read(fd, file).ok()
}

/// `key number` among the lines.
fn keyed(lines: Option<&Vec<u8>>, key: &str) -> Option<u64> {
    let lines = lines?;
    let has_key = lines
        .split(|&byte| byte == b'\n')
        .any(|line| line.strip_prefix(key.as_bytes()).is_some_and(|rest| rest.starts_with(b" ")));
    has_key.then(|| number_of(lines, key.as_bytes()))
}

/// Microseconds after `total=` in the line that begins with `which`.
fn pressure(fd: &OwnedFd, file: &CStr, which: &str) -> Option<Duration> {
    let text = String::from_utf8(settings::read(fd, file).ok()?).ok()?;
    let line = text.lines().find(|line| line.starts_with(which))?;
    let total = line.split_whitespace().find_map(|word| word.strip_prefix("total="))?;
    total.parse().ok().map(Duration::from_micros)
}

impl Stats {
    /// Takes from one group what is not known yet.
    fn add(&mut self, fd: &OwnedFd) {
        let Self { memory, memory_peak, memory_limit, .. } = self;
        let limited = |limit: Option<u64>| limit.filter(|limit| *limit < BOUNDLESS);
        first(memory, || number(fd, c"memory.current"));
        first(memory, || number(fd, c"memory.usage_in_bytes"));
        first(memory_peak, || number(fd, c"memory.peak"));
        first(memory_peak, || number(fd, c"memory.max_usage_in_bytes"));
        first(memory_limit, || number(fd, c"memory.max"));
        first(memory_limit, || limited(number(fd, c"memory.limit_in_bytes")));
        first(&mut self.pids, || number(fd, c"pids.current"));
        first(&mut self.pids_limit, || number(fd, c"pids.max"));
        self.add_time(fd);
        first(&mut self.cpu_some, || pressure(fd, c"cpu.pressure", "some"));
        first(&mut self.memory_some, || pressure(fd, c"memory.pressure", "some"));
        first(&mut self.memory_full, || pressure(fd, c"memory.pressure", "full"));
        first(&mut self.io_some, || pressure(fd, c"io.pressure", "some"));
        first(&mut self.io_full, || pressure(fd, c"io.pressure", "full"));
    }

    fn add_time(&mut self, fd: &OwnedFd) {
        let stat = lines(fd, c"cpu.stat");
        let micros = |key| keyed(stat.as_ref(), key).map(Duration::from_micros);
        first(&mut self.cpu, || micros("usage_usec"));
        first(&mut self.cpu_user, || micros("user_usec"));
        first(&mut self.cpu_system, || micros("system_usec"));
        first(&mut self.cpu_throttled, || micros("throttled_usec"));
        // Version 1: in nanoseconds.
        first(&mut self.cpu_throttled, || {
            keyed(stat.as_ref(), "throttled_time").map(Duration::from_nanos)
        });
        let nanos = |file| number(fd, file).map(Duration::from_nanos);
        first(&mut self.cpu, || nanos(c"cpuacct.usage"));
        first(&mut self.cpu_user, || nanos(c"cpuacct.usage_user"));
        first(&mut self.cpu_system, || nanos(c"cpuacct.usage_sys"));
    }
}

fn first<T>(slot: &mut Option<T>, value: impl FnOnce() -> Option<T>) {
    if slot.is_none() {
        *slot = value();
    }
}

impl Run {
    /// What the group with the limits counts.
    pub(crate) fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        self.places().iter().for_each(|place| stats.add(place.limits()));
        stats.oom_kills = stats.memory.map(|_| self.ooms());
        stats
    }
}
