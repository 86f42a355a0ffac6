// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! The process that forks guardians: what it gives them, what it keeps, and how it ends (PROTOCOL
//! §10).

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use proton_stream_protocol::{ExitKind, ToGuardian, ToNursery, HEADER_LENGTH};
use rustix::pipe::{pipe_with, PipeFlags};
use rustix::process::Signal;
use support::nursery::{children, nurse, parent, signal, Nursery};
use support::{await_death, eventually, is_alive, nobody_has_the_other_end, state};

#[test]
fn a_program_runs_as_with_a_guardian_of_its_own() {
    let nursery = Nursery::new();
    let (mut guardian, pid, forked) = nursery.run(1, &["cat"], &[]);
    assert_eq!(parent(forked), nursery.pid());
    guardian.say(&ToGuardian::Stdin(b"hello\n"));
    guardian.hear_until("hello\n");
    guardian.say(&ToGuardian::Eof);
    let exit = guardian.hear_out().exit.unwrap();
    assert_eq!(exit.kind, ExitKind::Exited(0));
    assert!(!is_alive(pid));
    drop(guardian);
    // It serves the next one, or another one does.
    let (_guardian, _, next) = nursery.run(2, &["cat"], &[]);
    assert_eq!(parent(next), nursery.pid());
}

#[test]
fn eight_mebibytes_come_whole_over_a_socket() {
    let nursery = Nursery::new();
    let (mut guardian, _, _) = nursery.sh(1, "head -c 8388608 /dev/zero; exit 4");
    let outcome = guardian.hear_out();
    assert_eq!(outcome.exit.unwrap().kind, ExitKind::Exited(4));
    assert_eq!(outcome.stdout.len(), 8 << 20);
    assert!(outcome.stdout.iter().all(|byte| *byte == 0));
}

#[test]
fn a_program_inherits_nothing_of_the_nursery() {
    let nursery = Nursery::new();
    let others: Vec<_> = (1..=3).map(|run| nursery.run(run, &["sleep", "60"], &[])).collect();
    let script = "ls -l /proc/self/fd | grep -c 'pipe:\\|/dev/null'; ls /proc/self/fd | wc -l; \
                  pwd; ulimit -n; grep SigIgn /proc/self/status";
    let (mut guardian, pid, forked) = nursery.sh(9, &format!("{script}; read x"));
    let output = guardian.hear_until("\n0000000000000000\n".trim_start_matches('\n'));
    let lines: Vec<&str> = output.lines().collect();
    // `ls` has opened the directory that it lists.
    assert_eq!(lines[1], "4", "{output}");
    assert_eq!(lines[2], std::env::current_dir().unwrap().to_str().unwrap());
    // Neither group nor session is the nursery's, its guardian's or another program's.
    let ids = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields = stat.rsplit_once(") ").unwrap().1.to_owned();
        let ids: Vec<u32> =
            fields.split(' ').skip(2).take(2).map(|id| id.parse().unwrap()).collect();
        ids
    };
    assert_eq!(ids(pid), [pid, pid]);
    assert_eq!(ids(forked), [forked, forked]);
    assert_ne!(ids(nursery.pid())[1], forked);
    drop(others);
}

#[test]
fn a_guardian_holds_nothing_of_the_nursery() {
    if !support::is_root() {
        return;
    }
    let nursery = Nursery::new();
    let _others: Vec<_> = (1..=5).map(|run| nursery.run(run, &["sleep", "60"], &[])).collect();
    let (_guardian, _, forked) = nursery.run(9, &["sleep", "60"], &[]);
    let links = std::fs::read_dir(format!("/proc/{forked}/fd")).unwrap().flatten();
    let links: Vec<String> = links
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .map(|link| link.to_string_lossy().into_owned())
        .collect();
    let count = |what: &str| links.iter().filter(|link| link.starts_with(what)).count();
    // Its own connection and the listener, where it will wait again; none of the others', nor the
    // nursery's ways to its controller or its directory.
    assert_eq!(count("socket:"), 2, "{links:?}");
    assert_eq!(count("anon_inode:[signalfd]"), 1, "{links:?}");
    assert!(!links.iter().any(|link| link.contains("/proton-")), "{links:?}");
    let ours = nursery.stdin.as_ref().unwrap().as_raw_fd();
    let pipe = std::fs::read_link(format!("/proc/self/fd/{ours}")).unwrap();
    assert!(!links.iter().any(|link| Path::new(link) == pipe), "{pipe:?} in {links:?}");
}

#[test]
fn a_program_that_signals_groups_reaches_neither_guardian_nor_nursery() {
    let nursery = Nursery::new();
    // Its own group, and its parent's as a group, which no process leads for it.
    let (mut guardian, _, _) = nursery.sh(1, "trap '' TERM; kill -TERM 0; echo alive; read x");
    guardian.hear_until("alive\n");
    assert!(is_alive(nursery.pid()));
    guardian.say(&ToGuardian::Close);
    guardian.hear_out();
}

#[test]
fn programs_go_on_when_the_nursery_is_killed_and_end_with_their_controller() {
    // Where no other test's nursery sweeps.
    let root = std::env::temp_dir().join(format!("proton-dying-{}", std::process::id()));
    std::fs::create_dir(&root).unwrap();
    for ending in [Signal::KILL, Signal::TERM, Signal::HUP] {
        let mut nursery = Nursery::in_directory(Some(&root));
        let (mut guardian, pid, forked) = nursery.run(1, &["cat"], &[]);
        signal(nursery.pid(), ending);
        nursery.wait();
        guardian.say(&ToGuardian::Stdin(b"hello\n"));
        guardian.hear_until("hello\n");
        // Who connects now is not left to wait for this guardian.
        eventually("nobody listens", || UnixStream::connect(&nursery.socket).is_err());
        guardian.vanish();
        drop(guardian);
        await_death(pid);
        await_death(forked);
        // Killed, it leaves its directory to the next one.
        assert_eq!(nursery.socket.exists(), ending == Signal::KILL);
    }
    std::fs::remove_dir_all(&root).unwrap();
}

#[test]
fn with_its_controller_it_stops_to_listen_and_ends_with_its_last_guardian() {
    let mut nursery = Nursery::new();
    let (guardian, pid, _) = nursery.sh(1, "trap '' TERM; while :; do sleep 9; done");
    nursery.stdin = None;
    eventually("it has gone from its directory", || !nursery.socket.parent().unwrap().exists());
    assert!(UnixStream::connect(&nursery.socket).is_err());
    assert!(nursery.child.try_wait().unwrap().is_none());
    assert!(is_alive(pid));
    drop(guardian);
    assert!(nursery.wait().success());
    assert!(!is_alive(pid));
}

#[test]
fn a_directory_that_a_killed_nursery_has_left_is_removed_by_the_next() {
    let root = std::env::temp_dir().join(format!("proton-nurseries-{}", std::process::id()));
    std::fs::create_dir(&root).unwrap();
    let mut killed = Nursery::in_directory(Some(&root));
    signal(killed.pid(), Signal::KILL);
    killed.wait();
    assert!(killed.socket.exists());
    let nursery = Nursery::in_directory(Some(&root));
    assert!(!killed.socket.exists() && nursery.socket.exists());
    drop(nursery);
    assert_eq!(std::fs::read_dir(&root).unwrap().count(), 0);
    std::fs::remove_dir(&root).unwrap();
}

#[test]
fn a_place_with_too_long_a_name_is_passed_over() {
    let root = std::env::temp_dir().join(format!("{}-{}", "p".repeat(100), std::process::id()));
    std::fs::create_dir(&root).unwrap();
    let nursery = Nursery::in_directory(Some(&root));
    assert!(nursery.socket.as_os_str().len() <= 107);
    assert!(!nursery.socket.starts_with(&root));
    let (mut guardian, _, _) = nursery.run(1, &["cat"], &[]);
    guardian.say(&ToGuardian::Eof);
    assert_eq!(guardian.hear_out().exit.unwrap().kind, ExitKind::Exited(0));
    std::fs::remove_dir(&root).unwrap();
}

#[test]
fn a_program_that_runs_on_costs_less_memory_than_its_start() {
    if !support::is_root() {
        return;
    }
    let nursery = Nursery::new();
    let (_guardian, _, forked) = nursery.run(1, &["sleep", "60"], &[]);
    // Also what it still shares with its nursery: that changes with what the nursery does.
    let used = || {
        let rollup = std::fs::read_to_string(format!("/proc/{forked}/smaps_rollup")).unwrap();
        let line = rollup.lines().find(|line| line.starts_with("Anonymous:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u32>().unwrap()
    };
    let before = used();
    eventually("what the start has used is given back", || used() + 8 <= before);
}

#[test]
fn an_idle_nursery_uses_no_time() {
    let nursery = Nursery::new();
    let _programs: Vec<_> = (1..=5).map(|run| nursery.run(run, &["sleep", "60"], &[])).collect();
    eventually("two wait", || children(nursery.pid()).len() == 7);
    let all: Vec<u32> = children(nursery.pid()).into_iter().chain([nursery.pid()]).collect();
    let switches = || all.iter().map(|pid| support::switches(*pid)).collect::<Vec<_>>();
    eventually("they sleep", || all.iter().all(|pid| state(*pid) == Some('S')));
    let mut before = switches();
    // What has just been started may have something to finish.
    eventually("nothing has run for half a second", || {
        std::thread::sleep(Duration::from_millis(500));
        let now = switches();
        std::mem::replace(&mut before, now.clone()) == now
    });
}

#[test]
fn a_controller_that_no_longer_hears_is_one_that_is_gone() {
    let root = std::env::temp_dir().join(format!("proton-unheard-{}", std::process::id()));
    std::fs::create_dir(&root).unwrap();
    let nursery = || {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_proton-guardian"))
            .arg("nursery")
            .env("TMPDIR", &root)
            .stdin(Stdio::piped())
            .stdout(writer.try_clone().unwrap())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        (child, stdin, File::from(reader), writer)
    };
    let is_gone = |mut child: Child| {
        eventually("it is gone", || child.try_wait().unwrap().is_some());
        assert_eq!(std::fs::read_dir(&root).unwrap().count(), 0);
    };

    // It was killed before it heard where to connect.
    let (child, mut stdin, reader, writer) = nursery();
    drop(reader);
    nobody_has_the_other_end(&writer);
    stdin.write_all(&nurse(std::process::id())).unwrap();
    is_gone(child);

    // It was killed before it heard of a death.
    let (child, mut stdin, mut reader, writer) = nursery();
    stdin.write_all(&nurse(std::process::id())).unwrap();
    reader.read_exact(&mut [0; HEADER_LENGTH]).unwrap();
    drop(reader);
    nobody_has_the_other_end(&writer);
    let mut wire = Vec::new();
    ToNursery::Kill { run: 1 }.encode(&mut wire);
    stdin.write_all(&wire).unwrap();
    is_gone(child);
    std::fs::remove_dir(&root).unwrap();
}
