// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! The end of everything in a group, by each means that a kernel may have.

use std::fs;

use proton_stream_containment::Released;

use crate::bases::{inside, Bases};
use crate::host::{cases, eventually, is_alive, sh, Host};
use crate::mount_of;

cases! {
    Root one_write_kills_all_and_leaves_nothing;
    Root without_the_file_for_it_a_freeze_does_the_same;
    Root a_run_that_somebody_has_frozen_ends;
    Root a_chain_that_forks_faster_than_it_is_killed_ends_by_either_means;
    Root threads_in_a_group_of_their_own_end_by_either_means;
    Root a_group_is_released_only_when_it_is_empty;
}

/// Somebody in the group itself, a daemon in a group inside one inside, with controllers of its
/// own, and one who is stopped. Prints their pids.
const ALL_KINDS: &str = "\
trap '' TERM HUP; own=/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup); mkdir -p $own/a/b; \
setsid sh -c 'echo 0 > '$own'/a/b/cgroup.procs; trap \"\" TERM; echo $$; while :; do sleep 9; done' & \
sh -c 'echo $$; kill -STOP $$' & \
echo $$; wait; while :; do sleep 9; done";

fn leaves_nothing(without_kill_file: bool) {
    let bases = Bases::new(&["pids", "memory"]);
    let mut host = Host::new();
    let mut spec = inside(sh(ALL_KINDS), &["pids", "memory"], bases.place(), vec![]);
    spec.cgroup.without_kill_file = without_kill_file;
    let mut running = host.start(&spec);
    let pids = running.pids(3);
    running.program.signal_tree(libc::SIGTERM);
    host.end(&mut running.program);
    assert!(pids.iter().all(|pid| !is_alive(*pid)));
    assert_eq!(bases.groups(), Vec::<String>::new());
}

fn one_write_kills_all_and_leaves_nothing() {
    leaves_nothing(false);
}

fn without_the_file_for_it_a_freeze_does_the_same() {
    leaves_nothing(true);
}

fn a_run_that_somebody_has_frozen_ends() {
    for without_kill_file in [false, true] {
        let bases = Bases::new(&["pids"]);
        let mut host = Host::new();
        let mut spec = inside(sh("read x"), &["pids"], bases.place(), vec![]);
        spec.cgroup.without_kill_file = without_kill_file;
        let mut running = host.start(&spec);
        let path = String::from_utf8(running.program.cgroup_path().to_vec()).expect("text");
        let group = mount_of("any").join(path);
        fs::write(group.join("cgroup.freeze"), "1").expect("frozen");
        eventually("it is frozen", || {
            let events = fs::read_to_string(group.join("cgroup.events")).expect("events");
            events.contains("frozen 1")
        });
        host.end(&mut running.program);
        assert_eq!(bases.groups(), Vec::<String>::new());
    }
}

fn a_chain_that_forks_faster_than_it_is_killed_ends_by_either_means() {
    for without_kill_file in [false, true] {
        let bases = Bases::new(&["pids"]);
        let mut host = Host::new();
        for _ in 0..3 {
            let script = "link() { link & exit; }; link";
            let mut spec = inside(sh(script), &["pids"], bases.place(), vec![]);
            spec.cgroup.without_kill_file = without_kill_file;
            let mut running = host.start(&spec);
            let mut deaths = 0;
            eventually("it is many links long", || {
                deaths += running.program.reap().deaths;
                deaths > 30
            });
            host.end(&mut running.program);
        }
        assert_eq!(bases.groups(), Vec::<String>::new());
    }
}

fn threads_in_a_group_of_their_own_end_by_either_means() {
    for without_kill_file in [false, true] {
        let bases = Bases::new(&["cpu"]);
        let mut host = Host::new();
        let script = "own=/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup); mkdir $own/a && \
                      echo threaded > $own/a/cgroup.type && echo 0 > $own/a/cgroup.threads && \
                      cut -d: -f3 /proc/self/cgroup; exec sleep 300";
        let mut spec = inside(sh(script), &["cpu"], bases.place(), vec![]);
        spec.cgroup.without_kill_file = without_kill_file;
        let mut running = host.start(&spec);
        let line = running.lines(1).concat();
        assert!(line.ends_with("/a"), "{line}");
        host.end(&mut running.program);
        assert_eq!(bases.groups(), Vec::<String>::new());
    }
}

fn a_group_is_released_only_when_it_is_empty() {
    let bases = Bases::new(&["cpu"]);
    let mut host = Host::new();
    let mut running = host.start(&inside(sh("read x"), &["cpu"], bases.place(), vec![]));
    assert!(!running.program.reap().alone);
    assert_eq!(running.program.release(), Released::Retry);
    host.end(&mut running.program);
    assert_eq!(running.program.release(), Released::Done);
}
