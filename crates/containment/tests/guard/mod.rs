// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! The fence around dangerous tests.
//!
//! What makes fork fail, signals by number, or forks without end runs in a PID namespace of its
//! own, in which it can neither see nor signal anybody else; in a group with at most 64 processes;
//! and until a deadline on the monotonic clock, kept from outside by `timeout` (which outlives the
//! test runner) and, by fixtures, from inside. `--kill-child` and the namespace's nature take
//! everything in it when its first process goes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// How many processes there can be inside.
pub(crate) const MOST_PROCESSES: &str = "64";

const SECONDS: &str = "40";
const OUTER_NAMESPACE: &str = "PROTON_GUARD_OUTER_NAMESPACE";
const GROUP: &str = "PROTON_GUARD_GROUP";

/// A group that is removed when the test is over.
pub(crate) struct Group(PathBuf);

impl Group {
    /// Makes a group with a name of its own at a controller's version 1 mount.
    pub(crate) fn new(controller: &str) -> Self {
        let path = mount_of(controller).join(format!(
            "proton_stream_test_{}_{}",
            std::process::id(),
            clock()
        ));
        fs::create_dir(&path).expect("a group of our own (are you root?)");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn name(&self) -> &str {
        self.0.file_name().and_then(|name| name.to_str()).expect("a name")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The last processes leave a group some time after they were killed.
        super::eventually("the test's own group can be removed", || {
            fs::remove_dir(&self.0).is_ok() || !self.0.exists()
        });
    }
}

/// Nanoseconds on the monotonic clock.
fn clock() -> u128 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u128::from(now.tv_sec.unsigned_abs()) * 1_000_000_000 + u128::from(now.tv_nsec.unsigned_abs())
}

/// Where a controller's version 1 hierarchy is mounted.
pub(crate) fn mount_of(controller: &str) -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let line = mounts.lines().find(|line| {
        line.contains(" - cgroup ") && line.rsplit([' ', ',']).any(|word| word == controller)
    });
    let line = line.unwrap_or_else(|| panic!("{controller} is not mounted as cgroup version 1"));
    line.split(' ').nth(4).expect("a mount point").into()
}

fn namespace() -> String {
    let link = fs::read_link("/proc/self/ns/pid").expect("our PID namespace");
    link.to_string_lossy().into_owned()
}

/// Runs this executable behind the guard. Without privilege the namespaces come with one of users,
/// and the number of processes is a resource limit instead of a group's.
pub(crate) fn run(arguments: &[&str]) -> Output {
    let group = rustix::process::geteuid().is_root().then(|| Group::new("pids"));
    let mut command = Command::new("/bin/sh");
    let unshare = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];
    let deadline = ["timeout", "-s", "KILL", SECONDS];
    if let Some(group) = &group {
        fs::write(group.path().join("pids.max"), MOST_PROCESSES).expect("pids.max");
        let enter = "echo 0 > \"$1/cgroup.procs\" && shift && exec \"$@\"";
        command.args(["-c", enter, "sh"]).arg(group.path());
        command.args(deadline).args(unshare);
        command.env(GROUP, group.path());
    } else {
        command.args(["-c", "exec \"$@\"", "sh"]).args(deadline);
        command.arg("prlimit").arg(format!("--nproc={MOST_PROCESSES}"));
        command.args(unshare).args(["--user", "--map-current-user"]);
    }
    command
        .arg(std::env::current_exe().expect("this executable"))
        .args(arguments)
        .env(OUTER_NAMESPACE, namespace())
        .stdin(Stdio::null())
        .output()
        .expect("the guard's shell")
}

/// Ends this process unless it is the first one of a PID namespace that is not the test runner's,
/// or a descendant of it. Everything dangerous calls this first.
pub(crate) fn confirm() {
    let outer = std::env::var(OUTER_NAMESPACE);
    let inside = outer.is_ok_and(|outer| !outer.is_empty() && outer != namespace());
    // With --mount-proc, /proc/1 is the namespace's own first process, which is this executable.
    let first = fs::read_link("/proc/1/exe").ok();
    let first_is_ours = first.is_some() && first == std::env::current_exe().ok();
    if !inside || !first_is_ours {
        eprintln!("not behind the guard: refused");
        std::process::abort();
    }
}

/// How many processes there are behind the guard, as far as this user sees them.
pub(crate) fn population() -> usize {
    confirm();
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    entries
        .filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit))
        .count()
}

/// The group that holds everything behind the guard, for root.
pub(crate) fn group() -> PathBuf {
    confirm();
    std::env::var_os(GROUP).expect("the guard's group").into()
}

/// A second on the clock of `/proc/uptime`, some seconds from now: what fixtures check.
pub(crate) fn deadline(seconds: u64) -> u64 {
    let uptime = fs::read_to_string("/proc/uptime").expect("uptime");
    let now: u64 = uptime.split('.').next().expect("seconds").parse().expect("a number");
    now + seconds
}
