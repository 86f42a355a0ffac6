// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! What can be asked about a run.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use proton_stream_protocol::Gauge;

use crate::session::State;

/// What is known of a run, without asking anybody.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Info {
    /// The program's pid; `None` once it was reaped, since it may be another's then.
    pub os_pid: Option<u32>,
    /// What holds the program's descendants.
    pub level: Level,
    /// The run's cgroup, below the controllers' mounts, if it has one.
    pub cgroup: Option<PathBuf>,
    /// Whether the guardian was forked by the nursery; otherwise it is a process of its own.
    pub is_nursed: bool,
    /// Bytes that have come from stdout so far.
    pub stdout_bytes: u64,
    /// Bytes that have come from stderr so far.
    pub stderr_bytes: u64,
    /// Bytes that the program has read, or can read from its pipe.
    pub stdin_bytes: u64,
    /// Bytes that wait for the program's stdin.
    pub queued: usize,
    /// Bytes of stdout and stderr that wait to be read here.
    pub held: usize,
}

/// What holds a program's descendants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Level {
    /// The process tree: orphans are adopted by the guardian, and by the nursery after it.
    Tree,
    /// The process tree and a control group.
    Cgroup,
    /// A PID namespace, which the kernel kills as a whole.
    PidNamespace,
}

impl Info {
    pub(crate) fn new(state: &State, is_nursed: bool) -> Self {
        let [stdout, stderr] = &state.outputs;
        Self {
            os_pid: state.pid,
            level: match state.level {
                1 => Level::Cgroup,
                2 => Level::PidNamespace,
                _ => Level::Tree,
            },
            cgroup: (!state.cgroup.is_empty())
                .then(|| OsString::from_vec(state.cgroup.clone()).into()),
            is_nursed,
            stdout_bytes: stdout.total,
            stderr_bytes: stderr.total,
            stdin_bytes: state.stdin.written(),
            queued: state.stdin.queued(),
            held: stdout.held() + stderr.held(),
        }
    }
}

/// What the run's cgroup counts. What its controllers don't count is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Bytes of memory in use.
    pub memory: Option<u64>,
    /// The most that it has been.
    pub memory_peak: Option<u64>,
    /// Its limit.
    pub memory_limit: Option<u64>,
    /// Time on a CPU.
    pub cpu: Option<Duration>,
    /// That in user mode.
    pub cpu_user: Option<Duration>,
    /// That in the kernel.
    pub cpu_system: Option<Duration>,
    /// Time for which its processes had to wait because the quota was used up.
    pub cpu_throttled: Option<Duration>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Their limit.
    pub pids_limit: Option<u64>,
    /// Processes that the OOM killer took since the run began.
    pub oom_kills: Option<u64>,
    /// How long tasks have waited for what they lacked.
    pub pressure: Pressure,
}

/// How long tasks of a group have waited for what they lacked: some of them, or all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pressure {
    /// Some waited for a CPU.
    pub cpu_some: Option<Duration>,
    /// Some waited for memory.
    pub memory_some: Option<Duration>,
    /// All waited for memory.
    pub memory_full: Option<Duration>,
    /// Some waited for a disk.
    pub io_some: Option<Duration>,
    /// All waited for a disk.
    pub io_full: Option<Duration>,
}

impl Stats {
    pub(crate) fn new(gauges: &[(Gauge, u64)]) -> Self {
        let count = |wanted: Gauge| {
            gauges.iter().find(|(gauge, _)| *gauge == wanted).map(|(_, value)| *value)
        };
        let time = |wanted: Gauge| count(wanted).map(Duration::from_micros);
        Self {
            memory: count(Gauge::Memory),
            memory_peak: count(Gauge::MemoryPeak),
            memory_limit: count(Gauge::MemoryLimit),
            cpu: time(Gauge::Cpu),
            cpu_user: time(Gauge::CpuUser),
            cpu_system: time(Gauge::CpuSystem),
            cpu_throttled: time(Gauge::CpuThrottled),
            pids: count(Gauge::Pids),
            pids_limit: count(Gauge::PidsLimit),
            oom_kills: count(Gauge::OomKills),
            pressure: Pressure {
                cpu_some: time(Gauge::CpuSome),
                memory_some: time(Gauge::MemorySome),
                memory_full: time(Gauge::MemoryFull),
                io_some: time(Gauge::IoSome),
                io_full: time(Gauge::IoFull),
            },
        }
    }
}
