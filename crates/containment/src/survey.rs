// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! What this host offers, and for each thing that is missing the command to get it.

use std::time::Duration;

use rustix::process::{geteuid, getpid, set_child_subreaper};
use rustix::thread::{capabilities, CapabilitySet};

use crate::tree::{hold, Tree};
use crate::{cgroup, start, sys, Around, Error, Signals, Specification, Status, Stdio};

/// One thing that a host has or has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What it is.
    pub name: &'static str,
    /// Whether it is there.
    pub is_there: bool,
    /// What was found.
    pub found: String,
    /// How it can be had, where that is possible: a command, or a sentence with one.
    pub remedy: Option<String>,
}

impl Check {
    pub(crate) fn there(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, is_there: true, found: found.into(), remedy: None }
    }

    pub(crate) fn missing(
        name: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { name, is_there: false, found: found.into(), remedy: Some(remedy.into()) }
    }
}

/// Looks at this host as the calling process sees it: its user, its cgroup, its namespaces. It
/// makes a namespace and runs `executable` with `--version` in it to see whether that is possible;
/// nothing else is changed. For a process that has become a guardian, and has no program.
pub fn survey(executable: &str, signals: &mut Signals) -> Vec<Check> {
    let mut checks = vec![kernel(), pidfd(), subreaper(), processes(), descriptors(), users()];
    checks.push(namespace(executable, signals));
    checks.extend(cgroup::survey());
    checks
}

fn kernel() -> Check {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse().unwrap_or(0_u32));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= (5, 4) {
        Check::there("kernel", format!("Linux {release}"))
    } else {
        Check::missing("kernel", format!("Linux {release}"), "use Linux 5.4 or newer")
    }
}

fn pidfd() -> Check {
    let me = getpid().as_raw_nonzero().get().unsigned_abs();
    match hold(me) {
        Ok(Some(_)) => Check::there("pidfd", "processes are held while they are signalled"),
        _ => Check::missing(
            "pidfd",
            "descendants are signalled only when they have become children",
            "let the container's seccomp filter pass pidfd_open and pidfd_send_signal",
        ),
    }
}

fn subreaper() -> Check {
    match set_child_subreaper(Some(getpid())) {
        Ok(()) => Check::there("subreaper", "orphans are adopted"),
        Err(error) => Check::missing(
            "subreaper",
            format!("daemons can't be found: {error}"),
            "let the container's seccomp filter pass prctl(PR_SET_CHILD_SUBREAPER)",
        ),
    }
}

fn processes() -> Check {
    match Tree::new().how() {
        Some(how) => Check::there("/proc", how),
        None => Check::missing(
            "/proc",
            "descendants can't be seen: only the program, its process group and adopted orphans \
             are ended",
            "mount -t proc proc /proc, or mount -o remount,hidepid=0 /proc",
        ),
    }
}

fn descriptors() -> Check {
    if sys::close_range_works() {
        Check::there("close_range", "a program inherits no descriptor, at one call")
    } else {
        Check::there("close_range", "not there: the descriptors are closed one by one")
    }
}

fn users() -> Check {
    let needed = CapabilitySet::SETUID | CapabilitySet::SETGID;
    if capabilities(None).is_ok_and(|own| own.effective.contains(needed)) {
        Check::there("other users", "a program can be started as another user")
    } else {
        Check::missing(
            "other users",
            format!("programs run as user {}", geteuid().as_raw()),
            "start as root, or with the capabilities setuid and setgid",
        )
    }
}

fn namespace(executable: &str, signals: &mut Signals) -> Check {
    let name = "pid_namespace";
    match try_namespace(executable, signals) {
        Ok(()) => Check::there(name, "the kernel can kill a program and all that it started"),
        Err(error) => Check::missing(name, error.to_string(), namespace_remedy(error.errno)),
    }
}

fn try_namespace(executable: &str, signals: &mut Signals) -> Result<(), Error> {
    let spec = Specification {
        program: executable.into(),
        arguments: vec![b"--version".to_vec()],
        stdio: [Stdio::Null, Stdio::Null, Stdio::Null],
        pid_namespace: true,
        ..Specification::default()
    };
    let mut starting = start(&spec, &Around::default())?;
    let outcome = loop {
        if let Some(outcome) = starting.outcome() {
            break outcome;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let mut program = starting.into_program();
    while !program.reap().alone {
        // It ends by itself, unless it was not started.
        if outcome.is_err() {
            program.kill_tree();
        }
        std::thread::sleep(Duration::from_millis(1));
        while signals.next().is_some() {}
    }
    outcome?;
    match program.ended().map(|ended| ended.status) {
        Some(Status::Exited(0)) => Ok(()),
        other => Err(Error::specification(format!("the trial ended with {other:?}"))),
    }
}

/// What stands in the way of a namespace, as far as it can be read.
fn namespace_remedy(errno: i32) -> String {
    let says = |path: &str, value: &str| {
        std::fs::read_to_string(path).is_ok_and(|text| text.trim() == value)
    };
    let blocks = [
        ("/proc/sys/user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=10000"),
        ("/proc/sys/user/max_pid_namespaces", "0", "sysctl -w user.max_pid_namespaces=10000"),
        (
            "/proc/sys/kernel/unprivileged_userns_clone",
            "0",
            "sysctl -w kernel.unprivileged_userns_clone=1",
        ),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ];
    let block = blocks.into_iter().find(|(path, value, _)| says(path, value));
    match block {
        Some((_, _, command)) => command.into(),
        None if errno == libc::EINVAL => {
            "use a kernel with CONFIG_PID_NS and CONFIG_USER_NS".into()
        }
        None => "start as root, or in a container with --cap-add SYS_ADMIN and a seccomp filter \
                 that passes clone"
            .into(),
    }
}
