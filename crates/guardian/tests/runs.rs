// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! The guardians of a nursery have one run after the other, and enough of them wait for the next.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

mod support;

use std::collections::HashSet;
use std::fs;

use proton_stream_protocol::{Ending, ExitKind, Field, Stdio, Stream, ToGuardian, ToNursery};
use rustix::process::Signal;
use support::leased::Leased;
use support::nursery::{children, parent, signal, Nursery, Told};
use support::{await_death, eventually, is_alive, state, Guardian, Said};

#[test]
fn runs_follow_each_other_on_a_connection_and_what_was_late_is_nobodys() {
    let mut nursery = Nursery::new();
    let (mut guardian, forked) = nursery.kept(1);
    guardian.again(9, &["/no/such/program"], &[]);
    assert_eq!(guardian.hear(), Said::Hello);
    assert!(matches!(guardian.hear(), Said::StartError { errno: 2, .. }));
    for (run, text) in [(2, "one\n"), (3, "two\n")] {
        // Of the run before, which would be out of place in the next one, or of influence on it.
        guardian.say(&ToGuardian::Stdin(&[b'x'; 100_000]));
        guardian.say(&ToGuardian::Credit { stream: Stream::Stdout, bytes: 1 });
        guardian.say(&ToGuardian::Signal { number: 9, tree: true });
        guardian.say(&ToGuardian::Eof);
        guardian.say(&ToGuardian::Close);
        guardian.again(run, &["cat"], &[Field::Credit { stdout: 4, stderr: 4 }]);
        let pid = guardian.started(&["cat"]);
        assert_eq!(parent(pid), forked);
        guardian.say(&ToGuardian::Stdin(text.as_bytes()));
        guardian.hear_until(text);
        guardian.say(&ToGuardian::Stdin(b"more"));
        guardian.say(&ToGuardian::Eof);
        guardian.say(&ToGuardian::Credit { stream: Stream::Stdout, bytes: 4 });
        let outcome = guardian.hear_out();
        assert_eq!(outcome.stdout, b"more");
        assert_eq!(outcome.exit.unwrap().kind, ExitKind::Exited(0));
    }
    // It is the last run's guardian.
    nursery.say(&ToNursery::Kill { run: 2 });
    assert_eq!(nursery.hear(), Told::Died(2, Ending::Unknown, vec![]));
    assert!(is_alive(forked));
    drop(guardian);
    let mut run = 3;
    eventually("it has one of another connection", || {
        run += 1;
        nursery.kept(run).1 == forked
    });
}

/// A connection ahead of its run that a guardian has: it has taken more than a socket holds.
fn ahead(nursery: &Nursery) -> Guardian {
    let mut guardian = nursery.guardian(0);
    (0..20).for_each(|_| guardian.say(&ToGuardian::Stdin(&[b'x'; 100_000])));
    guardian
}

#[test]
fn a_connection_ahead_of_its_run_is_as_one_whose_run_is_over() {
    let nursery = Nursery::new();
    eventually("two wait, and the nursery too", || {
        children(nursery.pid()).len() == 2 && state(nursery.pid()) == Some('S')
    });
    let mut guardian = ahead(&nursery);
    assert_eq!(children(nursery.pid()).len(), 2, "it waits as well");
    // What is out of place before OPEN, and OPEN itself, which has no run.
    guardian.say(&ToGuardian::Signal { number: 9, tree: true });
    guardian.open(&["sleep", "60"], &[]);
    assert_eq!(guardian.heard(), None);
    guardian.again(7, &["sh", "-c", "echo here; exec sleep 60"], &[]);
    let pid = guardian.started(&["sh"]);
    guardian.hear_until("here\n");
    eventually("two others wait", || children(nursery.pid()).len() == 3);
    signal(parent(pid), Signal::KILL);
    assert_eq!(nursery.hear(), Told::Died(7, Ending::Signalled(9), vec![]));
    assert!(!is_alive(pid));
}

/// How many ends of pipes a process has; 0 when it is gone.
fn pipe_ends(pid: u32) -> usize {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return 0 };
    let links = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    links.filter(|link| link.to_string_lossy().starts_with("pipe:")).count()
}

#[test]
fn of_pipes_that_were_made_ahead_a_program_gets_its_own_and_the_guardian_keeps_no_other() {
    let nursery = Nursery::new();
    let wait = |pids: &[u32]| pids.len() == 2 && pids.iter().all(|pid| state(*pid) == Some('S'));
    eventually("two wait", || wait(&children(nursery.pid())));
    // What every guardian has.
    let ends = pipe_ends(children(nursery.pid())[0]);
    let mut seen = HashSet::new();
    for (run, taken, err) in [(2, 3, Stdio::Piped), (3, 3, Stdio::Piped), (4, 2, Stdio::Null)] {
        let mut guardian = ahead(&nursery);
        eventually("four pipes wait for a run", || {
            let have_been_made = |forked: &u32| pipe_ends(*forked) == ends + 4 * 2;
            children(nursery.pid()).iter().any(have_been_made)
        });
        let stdio = Field::Stdio([Stdio::Piped, Stdio::Piped, err]);
        guardian.again(run, &["sh", "-c", "readlink /proc/$$/fd/*; read -r _"], &[stdio]);
        let pid = guardian.started(&["sh"]);
        // It says that the program runs before it closes what that has.
        eventually("it has its own ends", || pipe_ends(parent(pid)) == ends + taken);
        guardian.say(&ToGuardian::Eof);
        let outcome = guardian.hear_out();
        let links = String::from_utf8(outcome.stdout).unwrap();
        assert_eq!(links.lines().count(), 3, "{links}");
        let pipes = links.lines().filter(|link| link.starts_with("pipe:"));
        seen.extend(pipes.map(str::to_owned));
    }
    assert_eq!(seen.len(), 3 + 3 + 2, "none is had by two programs");
}

/// The process that a guardian has made ahead of its next run.
fn waiting(guardian: u32) -> u32 {
    let waits = |pid: &u32| {
        fs::read(format!("/proc/{pid}/comm")).is_ok_and(|name| name == b"proton-waiting\n")
    };
    let mut found = None;
    eventually("a process waits", || {
        found = children(guardian).into_iter().find(waits);
        found.is_some()
    });
    found.unwrap()
}

#[test]
fn a_process_waits_for_the_run_that_may_follow_and_no_longer() {
    let nursery = Nursery::new();
    let (mut guardian, forked) = nursery.kept(1);
    let process = waiting(forked);
    guardian.again(2, &["cat"], &[]);
    assert_eq!(guardian.started(&["cat"]), process);
    assert_eq!(children(forked), [process]);
    guardian.say(&ToGuardian::Eof);
    assert_eq!(guardian.hear_out().exit.unwrap().kind, ExitKind::Exited(0));
    // Somebody kills it.
    let process = waiting(forked);
    signal(process, Signal::KILL);
    await_death(process);
    guardian.again(3, &["true"], &[]);
    assert_ne!(guardian.started(&["true"]), process);
    guardian.hear_out();
    // Nobody asks for a program, and the connection stays.
    let process = waiting(forked);
    eventually("it goes", || children(forked).is_empty());
    assert!(!is_alive(process));
    guardian.again(4, &["true"], &[]);
    guardian.started(&["true"]);
    guardian.hear_out();
    // Or no connection is left.
    let process = waiting(forked);
    drop(guardian);
    eventually("it goes with the connection", || !is_alive(process));
}

#[test]
fn a_process_that_waits_goes_with_its_guardian() {
    let nursery = Nursery::new();
    let (_guardian, forked) = nursery.kept(1);
    let process = waiting(forked);
    signal(forked, Signal::KILL);
    await_death(process);
    let _ahead = ahead(&nursery);
    eventually("another one's waits", || {
        children(nursery.pid()).into_iter().any(|pid| !children(pid).is_empty())
    });
}

#[test]
fn connections_ahead_of_their_runs_keep_nobody_out_and_leave_nobody() {
    let mut nursery = Nursery::new();
    let ahead: Vec<Guardian> = (0..5).map(|_| ahead(&nursery)).collect();
    let (mut guardian, _) = nursery.kept(1);
    assert!(children(nursery.pid()).len() > 5);
    // They have no run that could be killed.
    nursery.say(&ToNursery::Kill { run: 0 });
    assert_eq!(nursery.hear(), Told::Died(0, Ending::Unknown, vec![]));
    assert!(children(nursery.pid()).len() > 5);
    drop(ahead);
    guardian.again(2, &["true"], &[]);
    guardian.started(&["true"]);
    drop(guardian);
    eventually("two wait", || children(nursery.pid()).len() == 2);
}

#[test]
fn a_run_that_follows_is_killed_with_its_guardian_as_the_first_is() {
    let nursery = Nursery::new();
    let (mut guardian, forked) = nursery.kept(1);
    guardian.again(2, &["sh", "-c", "(setsid sleep 60 &) ; exec sleep 60"], &[]);
    let pid = guardian.started(&["sh"]);
    signal(forked, Signal::KILL);
    assert_eq!(nursery.hear(), Told::Died(2, Ending::Signalled(9), vec![]));
    assert!(!is_alive(pid));
}

#[test]
fn no_run_follows_where_that_would_be_out_of_order() {
    let mut nursery = Nursery::new();
    // While another one runs, it ends that.
    let (mut guardian, pid, _) = nursery.run(1, &["sleep", "60"], &[]);
    guardian.again(2, &["cat"], &[]);
    assert!(matches!(guardian.hear(), Said::Error { code: 2, .. }));
    await_death(pid);
    // Without a number; with nonsense; without a nursery, which would adopt what it leaves.
    let (mut guardian, _) = nursery.kept(3);
    guardian.again(0, &["cat"], &[]);
    assert_eq!(guardian.hear_or_lose(), None);
    let (mut guardian, _) = nursery.kept(4);
    guardian.say_bytes(&[0xff; 8]);
    assert_eq!(guardian.hear_or_lose(), None);
    let (mut guardian, forked) = nursery.kept(5);
    let mut ahead = ahead(&nursery);
    signal(nursery.pid(), Signal::KILL);
    nursery.wait();
    guardian.again(6, &["cat"], &[]);
    assert_eq!(guardian.hear_or_lose(), None);
    ahead.again(7, &["cat"], &[]);
    assert_eq!(ahead.hear_or_lose(), None);
    await_death(forked);
}

#[test]
fn a_guardian_has_a_thousand_runs_and_then_closes() {
    let nursery = Nursery::new();
    let (mut guardian, forked) = nursery.kept(1);
    for run in 2..=1000 {
        guardian.again(run, &["true"], &[]);
        guardian.started(&["true"]);
        assert_eq!(guardian.hear_out().exit.unwrap().kind, ExitKind::Exited(0), "{run}");
    }
    guardian.again(1001, &["true"], &[]);
    assert_eq!(guardian.hear_or_lose(), None);
    await_death(forked);
}

#[test]
fn two_guardians_wait_also_after_there_were_many() {
    let nursery = Nursery::new();
    let wait = || children(nursery.pid()).len() == 2;
    eventually("two wait", wait);
    let runs: Vec<_> = (1..=12).map(|run| nursery.run(run, &["cat"], &[])).collect();
    let busy: Vec<u32> = runs.iter().map(|(_, _, forked)| *forked).collect();
    assert!(busy.iter().all(|pid| children(nursery.pid()).contains(pid)), "{busy:?}");
    drop(runs);
    eventually("two wait again", wait);
}

#[test]
fn guardians_that_are_too_many_leave_also_when_each_has_a_run_now_and_then() {
    let nursery = Nursery::new();
    let runs: Vec<_> = (1..=30).map(|run| nursery.run(run, &["cat"], &[])).collect();
    drop(runs);
    // One at a time, and each guardian long before it would lose patience.
    let mut run = 100;
    eventually("they have left", || {
        run += 1;
        drop(nursery.run(run, &["cat"], &[]));
        children(nursery.pid()).len() <= 4
    });
}

#[test]
fn another_guardian_waits_when_one_has_a_connection_that_asks_for_nothing() {
    let nursery = Nursery::new();
    eventually("two wait", || children(nursery.pid()).len() == 2);
    // It has said the secret, and not what is to be run.
    let _undecided = nursery.guardian(1);
    eventually("two wait again", || children(nursery.pid()).len() == 3);
}

#[test]
fn another_guardian_waits_when_a_start_takes_long() {
    let nursery = Nursery::new();
    eventually("two wait", || children(nursery.pid()).len() == 2);
    let leased = Leased::new("spare");
    let mut slow = nursery.guardian(1);
    slow.open(&[&leased.path()], &[]);
    eventually("two wait again", || children(nursery.pid()).len() == 3);
    assert_eq!(slow.hear(), Said::Hello);
    assert_eq!(slow.heard(), None, "it has not started");
    slow.say(&ToGuardian::Close);
    assert!(matches!(slow.hear(), Said::StartError { step: 11, .. }));
}

#[test]
fn guardians_whose_runs_end_together_wait_for_more() {
    let nursery = Nursery::new();
    let start = |from| (from..from + 60).map(|run| nursery.run(run, &["cat"], &[])).collect();
    let forked = |runs: &[(Guardian, u32, u32)]| runs.iter().map(|(_, _, pid)| *pid).collect();
    let runs: Vec<_> = start(1);
    let first: HashSet<u32> = forked(&runs);
    drop(runs);
    eventually("no program runs", || first.iter().all(|pid| children(*pid).is_empty()));
    let runs: Vec<_> = start(101);
    let again: HashSet<u32> = forked(&runs);
    // Two that waited had no run before.
    let kept = first.intersection(&again).count();
    assert!(kept >= 50, "{kept}");
    drop(runs);
    eventually("two wait in the end", || children(nursery.pid()).len() == 2);
}
