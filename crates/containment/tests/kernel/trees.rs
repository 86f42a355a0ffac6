// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Trees, and their end. Those that fork without end are in `guarded.rs`.

use proton_stream_containment::{Level, Status};

use crate::host::{cases, eventually, is_alive, sh, Host};

cases! {
    Plain a_background_grandchild_is_killed;
    Plain a_daemon_with_a_session_of_its_own_is_killed;
    Plain a_grandchild_that_ignores_sigterm_is_killed;
    Plain a_stopped_tree_is_killed;
    Plain descendants_that_outlive_their_program_are_killed;
    Plain a_signal_for_the_tree_reaches_every_generation;
    Plain a_tree_without_descendants_is_alone_after_its_end;
    Plain survivors_are_those_that_live;
    Plain a_wide_tree_is_signalled_whole;
}

fn ends(script: &str, count: usize) {
    let mut host = Host::new();
    let mut running = host.start(&sh(script));
    assert_eq!(running.program.level(), Level::Tree);
    let pids = running.pids(count);
    for pid in &pids {
        assert!(is_alive(*pid), "{pid} lives before the kill");
    }
    host.end(&mut running.program);
    for pid in &pids {
        assert!(!is_alive(*pid), "{pid} is dead after the kill");
    }
}

fn a_background_grandchild_is_killed() {
    ends("sleep 60 & echo $!; echo $$; wait", 2);
}

fn a_daemon_with_a_session_of_its_own_is_killed() {
    ends(
        "(setsid sh -c 'sh -c \"echo \\$\\$; exec sleep 60\" & exit' &) ; echo $$; exec sleep 60",
        2,
    );
}

fn a_grandchild_that_ignores_sigterm_is_killed() {
    ends("(trap '' TERM HUP INT; echo $$; while :; do sleep 1; done) & wait", 1);
}

fn a_stopped_tree_is_killed() {
    let mut host = Host::new();
    let mut running = host.start(&sh("sh -c 'echo $$; kill -STOP $$' & wait"));
    let [pid] = running.pids(1)[..] else { panic!("one pid") };
    eventually("it is stopped", || {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") T "))
    });
    assert!(running.program.signal(libc::SIGSTOP).expect("sent"));
    host.end(&mut running.program);
    assert!(!is_alive(pid));
}

fn descendants_that_outlive_their_program_are_killed() {
    let mut host = Host::new();
    let mut running = host.start(&sh("sleep 60 & echo $!; exit 5"));
    let pids = running.pids(1);
    assert_eq!(host.wait(&mut running.program).status, Status::Exited(5));
    assert!(is_alive(pids[0]));
    assert!(!running.program.reap().alone);
    host.end(&mut running.program);
    assert!(!is_alive(pids[0]));
}

fn a_signal_for_the_tree_reaches_every_generation() {
    let mut host = Host::new();
    // Each generation waits for the one below, and says when the signal came.
    let script = "generation() { trap \"echo got $1; exit\" TERM; \
                  if [ $1 -lt 4 ]; then generation $(($1 + 1)) & fi; \
                  echo ready; while :; do sleep 0.01; done; }; generation 1";
    let mut running = host.start(&sh(script));
    running.lines(4);
    running.program.signal_tree(libc::SIGTERM);
    running.program.signal_tree(libc::SIGCONT);
    let mut got = running.lines(4);
    got.sort();
    assert_eq!(got, ["got 1", "got 2", "got 3", "got 4"]);
    host.end(&mut running.program);
}

fn a_tree_without_descendants_is_alone_after_its_end() {
    let mut host = Host::new();
    let mut running = host.start(&sh("exit 0"));
    host.wait(&mut running.program);
    let reaped = running.program.reap();
    assert_eq!((reaped.deaths, reaped.alone), (0, true));
    assert_eq!(running.program.survivors(), []);
}

fn survivors_are_those_that_live() {
    let mut host = Host::new();
    let mut running = host.start(&sh("sleep 60 & echo $!; echo $$; wait"));
    let mut pids = running.pids(2);
    pids.sort_unstable();
    assert_eq!(running.program.survivors(), pids);
    host.end(&mut running.program);
}

fn a_wide_tree_is_signalled_whole() {
    // More than are held at once; and the shell dies of the signal before they are listed.
    let mut host = Host::new();
    let script = "n=0; while [ $n -lt 200 ]; do sleep 60 & n=$((n+1)); done; echo ready; wait";
    let mut running = host.start(&sh(script));
    running.lines(1);
    assert_eq!(running.program.survivors().len(), 201);
    running.program.signal_tree(libc::SIGTERM);
    eventually("everybody heeded", || running.program.reap().alone);
}
