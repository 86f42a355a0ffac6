// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Limits that hold, under the names of either version.

use std::fs;

use proton_stream_containment::{Level, Status, Step};

use crate::bases::{inside, setting, Bases};
use crate::host::{cases, eventually, program, sh, Host, Running};
use crate::mount_of;

cases! {
    Root the_memory_limit_of_version_1_is_translated_and_an_oom_kill_is_told;
    Root an_oom_kill_in_a_group_of_the_program_is_told;
    Root the_quota_of_version_1_is_translated_and_a_hog_is_throttled;
    Root shares_become_a_weight;
    Root memory_and_swap_become_their_difference;
    Root names_of_version_2_are_written_as_they_are;
    Root a_bomb_stops_at_its_number_of_processes_and_ends;
    Root a_value_that_is_refused_starts_nothing;
    Root a_name_without_a_counterpart_starts_nothing;
    Root a_file_that_this_kernel_does_not_have_starts_nothing;
}

const KILLED: Status = Status::Signalled { signal: 9, core: false };

/// What is in a file of the run's own group.
fn read(running: &Running, file: &str) -> String {
    let path = String::from_utf8(running.program.cgroup_path().to_vec()).expect("text");
    fs::read_to_string(mount_of("any").join(path).join(file)).expect(file)
}

fn number(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    line.expect(key).parse().expect("a number")
}

/// Fills twice the limit of the tests.
const HOG: &str = "dd if=/dev/zero of=/dev/null bs=64M count=1";

fn the_memory_limit_of_version_1_is_translated_and_an_oom_kill_is_told() {
    let bases = Bases::new(&["memory"]);
    let mut host = Host::new();
    let limit = || vec![setting("memory", "memory.limit_in_bytes", "33554432")];
    let hog = program("/bin/dd", &["if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"]);
    let mut running = host.start(&inside(hog, &["memory"], bases.place(), limit()));
    assert_eq!(running.program.level(), Level::Cgroup);
    assert_eq!(read(&running, "memory.max"), "33554432\n");
    let ended = host.wait(&mut running.program);
    assert_eq!(ended.status, KILLED);
    assert!(running.program.oom_killed());
    host.end(&mut running.program);

    let killed = sh("kill -9 $$");
    let mut running = host.start(&inside(killed, &["memory"], bases.place(), limit()));
    assert_eq!(host.wait(&mut running.program).status, KILLED);
    assert!(!running.program.oom_killed());
    host.end(&mut running.program);
    assert_eq!(bases.groups(), Vec::<String>::new());
}

fn an_oom_kill_in_a_group_of_the_program_is_told() {
    let bases = Bases::new(&["memory"]);
    let mut host = Host::new();
    let script = format!(
        "own=/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup); mkdir $own/a; \
         (echo 0 > $own/a/cgroup.procs; exec {HOG}); rmdir $own/a; exit 7"
    );
    let limit = vec![setting("memory", "memory.limit_in_bytes", "33554432")];
    let mut running = host.start(&inside(sh(&script), &["memory"], bases.place(), limit));
    assert_eq!(host.wait(&mut running.program).status, Status::Exited(7));
    assert!(running.program.oom_killed());
    host.end(&mut running.program);
    assert_eq!(bases.groups(), Vec::<String>::new());
}

fn the_quota_of_version_1_is_translated_and_a_hog_is_throttled() {
    let bases = Bases::new(&["cpu"]);
    let mut host = Host::new();
    let quota = vec![
        setting("cpu", "cpu.cfs_period_us", "100000"),
        setting("cpu", "cpu.cfs_quota_us", "20000"),
    ];
    let spec = inside(sh("while :; do :; done"), &["cpu"], bases.place(), quota);
    let mut running = host.start(&spec);
    assert_eq!(read(&running, "cpu.max"), "20000 100000\n");
    // The guest's own clock and account: how much time the host gives it doesn't matter.
    let periods = |running: &Running| number(&read(running, "cpu.stat"), "nr_periods");
    let before = (periods(&running), number(&read(&running, "cpu.stat"), "usage_usec"));
    eventually("it has run for three seconds", || periods(&running) >= before.0 + 30);
    let stat = read(&running, "cpu.stat");
    assert!(number(&stat, "nr_throttled") >= 20, "{stat}");
    let usage = number(&stat, "usage_usec") - before.1;
    let allowed = (number(&stat, "nr_periods") - before.0) * 20_000;
    assert!(usage > allowed / 4 && usage < allowed * 2, "{usage} of {allowed}");
    host.end(&mut running.program);
    assert_eq!(bases.groups(), Vec::<String>::new());
}

/// The values that a program's group has.
fn values(controllers: &[&str], settings: &[(&str, &str, &str)], files: &[&str]) -> Vec<String> {
    let bases = Bases::new(controllers);
    let mut host = Host::new();
    let settings =
        settings.iter().map(|(controller, file, value)| setting(controller, file, value));
    let spec = inside(sh("read x"), controllers, bases.place(), settings.collect());
    let mut running = host.start(&spec);
    let values = files.iter().map(|file| read(&running, file).trim_end().to_owned()).collect();
    host.end(&mut running.program);
    assert_eq!(bases.groups(), Vec::<String>::new());
    values
}

fn shares_become_a_weight() {
    assert_eq!(values(&["cpu"], &[("cpu", "cpu.shares", "512")], &["cpu.weight"]), ["50"]);
}

fn memory_and_swap_become_their_difference() {
    let settings = [
        ("memory", "memory.limit_in_bytes", "64M"),
        ("memory", "memory.memsw.limit_in_bytes", "96M"),
        ("memory", "memory.soft_limit_in_bytes", "32M"),
    ];
    let files = ["memory.max", "memory.swap.max", "memory.high"];
    assert_eq!(values(&["memory"], &settings, &files), ["67108864", "33554432", "33554432"]);
}

fn names_of_version_2_are_written_as_they_are() {
    let settings = [
        ("memory", "memory.max", "64M"),
        ("memory", "memory.low", "16M"),
        ("cpu", "cpu.max", "50000"),
        ("cpu", "cpu.weight", "200"),
        ("pids", "pids.max", "max"),
    ];
    let files = ["memory.max", "memory.low", "cpu.max", "cpu.weight", "pids.max"];
    assert_eq!(
        values(&["memory", "cpu", "pids", "freezer", "cpuacct"], &settings, &files),
        ["67108864", "16777216", "50000 100000", "200", "max"]
    );
}

fn a_bomb_stops_at_its_number_of_processes_and_ends() {
    let bases = Bases::new(&["pids"]);
    let mut host = Host::new();
    // In the guest, and in a group that it can't get out of.
    let bomb = "trap '' TERM; bomb() { bomb & bomb & wait; }; bomb 2>/dev/null";
    let limit = vec![setting("pids", "pids.max", "40")];
    let mut running = host.start(&inside(sh(bomb), &["pids"], bases.place(), limit));
    eventually("forks fail", || number(&read(&running, "pids.events"), "max") > 0);
    let current: u64 = read(&running, "pids.current").trim().parse().expect("a number");
    assert!(current <= 40, "{current}");
    host.end(&mut running.program);
    assert_eq!(bases.groups(), Vec::<String>::new());
}

fn refused(controller: &str, file: &str, value: &str) -> (Step, i32, String) {
    let bases = Bases::new(&[controller]);
    let settings = vec![setting(controller, file, value)];
    let spec = inside(program("/bin/true", &[]), &[controller], bases.place(), settings);
    let error = Host::new().refused(&spec);
    assert_eq!(bases.groups(), Vec::<String>::new());
    (error.step, error.errno, String::from_utf8(error.detail).expect("text"))
}

fn a_value_that_is_refused_starts_nothing() {
    for file in ["memory.limit_in_bytes", "memory.max"] {
        let refused = refused("memory", file, "garbage");
        assert_eq!(refused, (Step::Cgroup, libc::EINVAL, file.into()));
    }
}

fn a_name_without_a_counterpart_starts_nothing() {
    let (step, errno, detail) = refused("memory", "memory.swappiness", "0");
    assert_eq!((step, errno), (Step::Cgroup, libc::EINVAL));
    assert_eq!(detail, "memory.swappiness: no counterpart on cgroup v2");
}

fn a_file_that_this_kernel_does_not_have_starts_nothing() {
    // It was built without the scheduler for it.
    let refused = refused("blkio", "blkio.weight", "500");
    assert_eq!(refused, (Step::Cgroup, libc::ENOENT, "blkio.weight".into()));
}
