// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! `--report`: how a run was contained and what it used, for people and scripts.

use std::time::Duration;

use proton_stream_containment::cgroup::Stats;
use proton_stream_containment::{Level, Program, Status};

/// `key value`, one a line: asked when the tree is dead and its group still there. What isn't
/// counted has no line.
pub(crate) fn lines(program: &Program) -> Vec<String> {
    let mut lines = vec![format!("level {}", level(program.level()))];
    let path = program.cgroup_path();
    if !path.is_empty() {
        lines.push(format!("cgroup {}", path.escape_ascii()));
    }
    if let Some(ended) = program.ended() {
        lines.push(match ended.status {
            Status::Exited(status) => format!("exit_status {status}"),
            Status::Signalled { signal, .. } => format!("signal {signal}"),
        });
        lines.push(format!("program_user {}", seconds(ended.user)));
        lines.push(format!("program_system {}", seconds(ended.system)));
        lines.push(format!("program_max_rss {}", ended.max_rss_kib * 1024));
    }
    lines.push(format!("oom_killed {}", program.oom_killed()));
    lines.extend(program.stats().iter().flat_map(counted));
    lines
}

/// As the option `--containment` and `ProtonStream.info/1` call it.
fn level(level: Level) -> &'static str {
    match level {
        Level::Tree => "tree",
        Level::Cgroup => "cgroup",
        // Level is non-exhaustive; there is one more.
        _ => "pid_namespace",
    }
}

/// `key value` of each thing that is counted: bytes, seconds, processes.
pub(crate) fn counted(stats: &Stats) -> Vec<String> {
    let plain = |count: Option<u64>| count.map(|count| count.to_string());
    let time = |time: Option<Duration>| time.map(seconds);
    let known = [
        ("memory", plain(stats.memory)),
        ("memory_peak", plain(stats.memory_peak)),
        ("memory_limit", plain(stats.memory_limit)),
        ("cpu", time(stats.cpu)),
        ("cpu_user", time(stats.cpu_user)),
        ("cpu_system", time(stats.cpu_system)),
        ("cpu_throttled", time(stats.cpu_throttled)),
        ("pids", plain(stats.pids)),
        ("pids_limit", plain(stats.pids_limit)),
        ("oom_kills", plain(stats.oom_kills)),
        ("cpu_some", time(stats.cpu_some)),
        ("memory_some", time(stats.memory_some)),
        ("memory_full", time(stats.memory_full)),
        ("io_some", time(stats.io_some)),
        ("io_full", time(stats.io_full)),
    ];
    known.into_iter().filter_map(|(key, value)| Some(format!("{key} {}", value?))).collect()
}

fn seconds(time: Duration) -> String {
    format!("{}.{:06}", time.as_secs(), time.subsec_micros())
}
