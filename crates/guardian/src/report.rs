// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! What containment knows, in the protocol's words.

use std::time::Duration;

use proton_stream_containment::cgroup::Stats;
use proton_stream_containment::{Error, Level, Status, Step};
use proton_stream_protocol::{Exit, ExitKind, FromGuardian, Gauge};
use rustix::io::Errno;

use crate::run::Run;

/// A longer detail of START_ERROR is cut.
const DETAIL: usize = 4096;

/// START_ERROR's step for a start that CLOSE cancelled (PROTOCOL §4).
const CANCELLED: u8 = 11;

pub(crate) fn start_error(error: &Error) -> FromGuardian<'_> {
    // The controller hung up, or closed, while a name was looked up.
    if error.errno == Errno::CANCELED.raw_os_error() {
        return cancelled();
    }
    FromGuardian::StartError {
        step: step(error.step),
        errno: error.errno.unsigned_abs(),
        detail: &error.detail[..error.detail.len().min(DETAIL)],
    }
}

pub(crate) fn cancelled() -> FromGuardian<'static> {
    FromGuardian::StartError { step: CANCELLED, errno: 0, detail: b"" }
}

pub(crate) fn exit(run: &Run) -> Exit {
    let ended = run.program.ended();
    Exit {
        kind: match ended.map(|ended| ended.status) {
            Some(Status::Exited(status)) => ExitKind::Exited(status),
            Some(Status::Signalled { signal, core }) => ExitKind::Signalled { signal, core },
            None => ExitKind::Unknown,
        },
        oom_killed: run.oom_killed(),
        cause: run.cause(),
        user_time: ended.map_or(0, |ended| micros(ended.user)),
        system_time: ended.map_or(0, |ended| micros(ended.system)),
        max_rss: ended.map_or(0, |ended| ended.max_rss_kib),
        survivors: run.survivors(),
    }
}

/// Why a request was refused.
pub(crate) fn refused(error: &Error) -> FromGuardian<'_> {
    FromGuardian::Refused {
        errno: error.errno.unsigned_abs(),
        detail: &error.detail[..error.detail.len().min(DETAIL)],
    }
}

pub(crate) fn stats(stats: &Stats) -> FromGuardian<'static> {
    let micros = |time: Option<Duration>| time.map(micros);
    let known = [
        (Gauge::Memory, stats.memory),
        (Gauge::MemoryPeak, stats.memory_peak),
        (Gauge::MemoryLimit, stats.memory_limit),
        (Gauge::Cpu, micros(stats.cpu)),
        (Gauge::CpuUser, micros(stats.cpu_user)),
        (Gauge::CpuSystem, micros(stats.cpu_system)),
        (Gauge::CpuThrottled, micros(stats.cpu_throttled)),
        (Gauge::Pids, stats.pids),
        (Gauge::PidsLimit, stats.pids_limit),
        (Gauge::OomKills, stats.oom_kills),
        (Gauge::CpuSome, micros(stats.cpu_some)),
        (Gauge::MemorySome, micros(stats.memory_some)),
        (Gauge::MemoryFull, micros(stats.memory_full)),
        (Gauge::IoSome, micros(stats.io_some)),
        (Gauge::IoFull, micros(stats.io_full)),
    ];
    let known = known.into_iter().filter_map(|(gauge, value)| Some((gauge, value?)));
    FromGuardian::Stats(known.collect())
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

pub(crate) fn level(level: Level) -> u8 {
    match level {
        Level::Tree => 0,
        Level::Cgroup => 1,
        // Level is non-exhaustive; there is one more.
        _ => 2,
    }
}

/// START_ERROR's steps (PROTOCOL §4).
fn step(step: Step) -> u8 {
    match step {
        Step::Specification => 1,
        Step::Exec => 2,
        Step::Directory => 3,
        Step::User => 4,
        Step::Group => 5,
        Step::Groups => 6,
        Step::Cgroup => 7,
        Step::Fork => 8,
        Step::Stdio => 9,
        Step::Namespace => 12,
        // Step is non-exhaustive; whatever comes is about the process.
        _ => 10,
    }
}
