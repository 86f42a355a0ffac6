// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! What is dangerous outside the guard: forks that fail, forks without end, signals for everybody.

use std::fs;
use std::process::Command;

use proton_stream_containment::{start, Around, Step};

use crate::guard;
use crate::host::{cases, eventually, is_alive, program, sh, Host};

cases! {
    Plain the_guard_keeps_a_signal_for_everybody_inside;
    Inside a_signal_for_everybody_kills_those_behind_the_guard;
    RootGuarded a_fork_that_fails_is_an_error_and_signals_nobody;
    Guarded a_chain_that_forks_faster_than_it_is_killed_ends;
    Guarded a_bomb_of_processes_ends;
}

fn the_guard_keeps_a_signal_for_everybody_inside() {
    let mut bystander = Command::new("sleep").arg("60").spawn().expect("a bystander");
    let output = guard::run(&["--guarded", "a_signal_for_everybody_kills_those_behind_the_guard"]);
    // The case is itself among everybody, so it doesn't come to its end.
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("the signal follows"), "{text}");
    assert!(!text.contains("the signal had no effect"), "{text}");
    assert!(bystander.try_wait().expect("our own child").is_none(), "the bystander lives");
    bystander.kill().expect("our own child");
    bystander.wait().expect("our own child");
}

fn a_signal_for_everybody_kills_those_behind_the_guard() {
    guard::confirm();
    println!("the signal follows");
    // The shell's own builtin; it spares the shell and the namespace's first process.
    let _ = Command::new("/bin/sh").args(["-c", "kill -9 -1"]).status();
    println!("the signal had no effect");
}

fn a_fork_that_fails_is_an_error_and_signals_nobody() {
    guard::confirm();
    let mut bystander = Command::new("sleep").arg("60").spawn().expect("a bystander");
    let limit = guard::group().join("pids.max");
    let before = fs::read(&limit).expect("the limit");
    let mut host = Host::new();
    let mut other = host.start(&sh("read line"));
    fs::write(&limit, "1").expect("the limit");
    let error =
        start(&program("/bin/true", &[]), &Around::default()).expect_err("no process can be made");
    assert_eq!((error.step, error.errno), (Step::Fork, libc::EAGAIN));
    fs::write(&limit, before).expect("the limit");
    assert!(is_alive(other.program.pid().expect("it lives")));
    assert!(bystander.try_wait().expect("our own child").is_none());
    bystander.kill().expect("our own child");
    host.end(&mut other.program);
}

/// What each generation checks first, without a fork of its own.
fn check() -> String {
    let end = guard::deadline(15);
    format!("check() {{ read now rest < /proc/uptime; [ ${{now%.*}} -lt {end} ] || exit; }}; ")
}

fn a_chain_that_forks_faster_than_it_is_killed_ends() {
    guard::confirm();
    let mut host = Host::new();
    for _ in 0..20 {
        // A generation per process: it makes the next one, and goes.
        let script = check() + "link() { check; link & exit; }; link";
        let mut running = host.start(&sh(&script));
        let mut deaths = 0;
        eventually("it is many links long", || {
            deaths += running.program.reap().deaths;
            deaths > 30
        });
        host.end(&mut running.program);
    }
}

fn a_bomb_of_processes_ends() {
    guard::confirm();
    let mut host = Host::new();
    let mut ended = 0;
    // On a busy machine most shells may have gone by themselves, since they couldn't fork any more,
    // before they are killed, and perhaps before they are seen: then it is done again.
    for _ in 0..40 {
        let script =
            check() + "bomb() { check; bomb & bomb & wait; }; trap '' TERM; bomb 2>/dev/null";
        let mut running = host.start(&sh(&script));
        let pid = running.program.pid().expect("it runs");
        eventually("it has gone off, or out", || guard::population() > 40 || !is_alive(pid));
        ended += usize::from(host.end(&mut running.program) > 30);
        if ended == 10 {
            return;
        }
    }
    panic!("only {ended} bombs were there to be ended");
}
