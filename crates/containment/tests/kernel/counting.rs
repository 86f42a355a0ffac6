// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! What a group counts, and what can be changed while its program runs. On either version.

use std::time::Duration;

use proton_stream_containment::cgroup::{Limit, Request, Stats};
use proton_stream_containment::{Level, Specification, Status, Step};

use crate::bases::{inside, Bases};
use crate::host::{cases, eventually, sh, Host, Running};

cases! {
    Root limits_hold_under_their_portable_names;
    Root a_hog_is_killed_at_its_portable_limit;
    Root a_group_tells_what_its_program_uses;
    Root limits_change_while_the_program_runs;
    Root a_limit_without_its_controller_is_refused_and_changes_nothing;
    Root a_frozen_program_stands_still_and_goes_on;
    Root without_a_group_nothing_is_counted_and_nothing_changed;
}

pub(crate) fn limit(name: &str, value: &str) -> Limit {
    Limit { name: name.into(), value: value.into() }
}

/// The same program with limits below a base.
pub(crate) fn limited(
    spec: Specification,
    bases: &Bases,
    limits: &[(&str, &str)],
) -> Specification {
    let limits = limits.iter().map(|(name, value)| limit(name, value)).collect();
    Specification {
        cgroup: Request { place: Some(bases.place()), limits, ..Request::default() },
        ..spec
    }
}

const ALL: [&str; 5] = ["memory", "cpu", "cpuacct", "freezer", "pids"];

fn stats(running: &Running) -> Stats {
    running.program.stats().expect("a group")
}

fn limits_hold_under_their_portable_names() {
    let bases = Bases::new(&["memory", "cpu", "pids"]);
    let mut host = Host::new();
    let limits = [("memory", "64M"), ("cpu", "0.5"), ("pids", "20"), ("cpu_weight", "50")];
    // As many as it may have, and one more.
    let script = "n=0; while [ $n -lt 30 ]; do sleep 60 & n=$((n+1)); done 2>/dev/null; echo all";
    let mut running = host.start(&limited(sh(script), &bases, &limits));
    assert_eq!(running.program.level(), Level::Cgroup);
    eventually("its forks fail", || stats(&running).pids == Some(20));
    let found = stats(&running);
    assert_eq!((found.memory_limit, found.pids_limit), (Some(64 << 20), Some(20)));
    host.end(&mut running.program);
    assert_eq!(bases.groups(), Vec::<String>::new());
}

fn a_hog_is_killed_at_its_portable_limit() {
    let bases = Bases::new(&["memory"]);
    let mut host = Host::new();
    let hog = "dd if=/dev/zero of=/dev/null bs=64M count=1 2>/dev/null; echo $?; read x";
    let mut running = host.start(&limited(sh(hog), &bases, &[("memory", "32M")]));
    assert_eq!(running.lines(1), ["137"]);
    assert_eq!(stats(&running).oom_kills, Some(1));
    assert!(running.program.oom_killed());
    host.end(&mut running.program);
    assert_eq!(bases.groups(), Vec::<String>::new());
}

fn a_group_tells_what_its_program_uses() {
    let bases = Bases::new(&ALL);
    let mut host = Host::new();
    let script = "sleep 60 & n=0; while [ $n -lt 50000 ]; do n=$((n+1)); done; echo; read x";
    let limits = [("memory", "max"), ("cpu", "max"), ("pids", "max")];
    let mut running = host.start(&limited(sh(script), &bases, &limits));
    running.lines(1);
    let found = stats(&running);
    assert_eq!(found.pids, Some(2));
    assert_eq!((found.memory_limit, found.pids_limit), (None, None));
    assert_eq!(found.oom_kills, Some(0));
    assert!(found.memory.is_some_and(|bytes| bytes > 4096), "{found:?}");
    if let Some(peak) = found.memory_peak {
        assert!(peak >= found.memory.expect("memory"), "{found:?}");
    }
    assert!(found.cpu.is_some_and(|time| time > Duration::from_millis(1)), "{found:?}");
    assert!(found.cpu_user.is_some() && found.cpu_system.is_some(), "{found:?}");
    assert!(found.cpu_throttled.is_some(), "{found:?}");
    host.end(&mut running.program);
    assert_eq!(bases.groups(), Vec::<String>::new());
}

fn limits_change_while_the_program_runs() {
    let bases = Bases::new(&["memory", "cpu", "pids"]);
    let mut host = Host::new();
    let limits = [("memory", "64M"), ("cpu", "0.5"), ("pids", "20")];
    let mut running = host.start(&limited(sh("read x"), &bases, &limits));
    let change = |list: &[(&str, &str)]| {
        let limits: Vec<Limit> = list.iter().map(|(name, value)| limit(name, value)).collect();
        running.program.update_limits(&limits)
    };
    assert_eq!(change(&[("memory", "128M"), ("pids", "30"), ("cpu", "0.25")]), Ok(()));
    let found = stats(&running);
    assert_eq!((found.memory_limit, found.pids_limit), (Some(128 << 20), Some(30)));
    assert_eq!(change(&[("pids", "max")]), Ok(()));
    assert_eq!(stats(&running).pids_limit, None);
    let error = change(&[("pids", "0"), ("memory", "a lot")]).expect_err("refused");
    assert_eq!(error.step, Step::Specification);
    assert_eq!(stats(&running).pids_limit, None, "all are judged before one is written");
    host.end(&mut running.program);
    assert_eq!(bases.groups(), Vec::<String>::new());
}

fn a_limit_without_its_controller_is_refused_and_changes_nothing() {
    let bases = Bases::new(&["pids"]);
    let mut host = Host::new();
    let mut running = host.start(&limited(sh("read x"), &bases, &[("pids", "20")]));
    let limits = [limit("pids", "10"), limit("cpu", "1")];
    let error = running.program.update_limits(&limits).expect_err("refused");
    assert_eq!((error.step, error.errno), (Step::Cgroup, libc::EOPNOTSUPP));
    assert!(error.to_string().contains("cpu: the run was started without"), "{error}");
    assert_eq!(stats(&running).pids_limit, Some(20));
    host.end(&mut running.program);
}

fn a_frozen_program_stands_still_and_goes_on() {
    let bases = Bases::new(&ALL);
    let mut host = Host::new();
    let controllers: &[&str] = if crate::mount_of("cpu") == crate::mount_of("freezer") {
        &["cpu"]
    } else {
        &["cpu", "freezer"]
    };
    let script = "sh -c 'while :; do echo; done' & while :; do echo; done";
    let spec = inside(sh(script), controllers, bases.place(), vec![]);
    let mut running = host.start(&spec);
    assert!(!running.program.is_frozen());
    running.lines(10);
    running.program.freeze(true).expect("frozen");
    eventually("all are stopped", || running.program.is_frozen());
    let cpu = stats(&running).cpu;
    // What was in the pipe before can still be read; then nothing more comes.
    running.drain();
    for _ in 0..100 {
        assert_eq!(running.drain(), 0);
        assert_eq!(stats(&running).cpu, cpu);
    }
    running.program.freeze(false).expect("thawed");
    running.lines(10);
    assert!(!running.program.is_frozen());
    running.program.freeze(true).expect("frozen");
    host.end(&mut running.program);
    assert_eq!(bases.groups(), Vec::<String>::new());
}

fn without_a_group_nothing_is_counted_and_nothing_changed() {
    let mut host = Host::new();
    let mut running = host.start(&sh("read x"));
    assert_eq!(running.program.stats(), None);
    for error in [
        running.program.freeze(true).expect_err("refused"),
        running.program.update_limits(&[limit("pids", "1")]).expect_err("refused"),
    ] {
        assert_eq!((error.step, error.errno), (Step::Cgroup, libc::EOPNOTSUPP));
    }
    host.end(&mut running.program);
    assert!(matches!(
        running.program.ended().map(|ended| ended.status),
        Some(Status::Signalled { signal: 9, .. })
    ));
}
