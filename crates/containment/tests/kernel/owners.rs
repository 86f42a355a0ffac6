// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Whose a group is: what a crash leaves, and who waits for whom. On either version.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use proton_stream_containment::cgroup::clean_after;
use proton_stream_containment::{start, Around, Step};

use crate::bases::{inside, Bases};
use crate::host::{cases, eventually, is_alive, sh, Host};
use crate::mount_of;

cases! {
    Root what_a_killed_guardian_left_below_a_base_is_swept_by_the_next_start;
    Root what_a_killed_guardian_left_on_a_path_is_cleaned_by_the_next_start;
    Root what_a_killed_guardian_left_can_be_cleaned_without_a_start;
    Root a_run_that_lives_is_not_swept;
    Root a_group_of_somebody_else_is_not_swept;
    Root two_runs_on_one_path_do_not_share_it;
    Root a_path_with_a_stranger_in_it_is_refused;
    Root a_start_waits_for_a_run_that_is_ending_on_its_path;
    Root many_starts_on_one_path_never_share_it;
}

/// A program that leaves somebody behind who ignores what can be ignored; prints both pids.
const LEAVES_SOMEBODY: &str = "trap '' TERM HUP; sleep 300 & echo $$ $!; wait";

fn helper(arguments: &[&str]) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("this executable"));
    let command = command.arg("--helper").args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("a helper")
}

/// A guardian in a process of its own, with the program's pids.
fn guardian(place: &str, path: &str) -> (Child, Vec<u32>) {
    let mut guardian = helper(&["hold", LEAVES_SOMEBODY, place, path]);
    let mut line = String::new();
    let output = guardian.stdout.as_mut().expect("its output");
    BufReader::new(output).read_line(&mut line).expect("a line");
    let pids = line.split_whitespace().map(|pid| pid.parse().expect("a pid")).collect();
    (guardian, pids)
}

fn kill(mut guardian: Child) {
    guardian.kill().expect("our own child");
    guardian.wait().expect("our own child");
}

fn what_a_killed_guardian_left_below_a_base_is_swept_by_the_next_start() {
    let bases = Bases::new(&["cpu", "pids"]);
    let (first, pids) = guardian("base", bases.name());
    kill(first);
    assert!(is_alive(pids[1]), "the one who was left behind");
    // A guardian only now: what was left behind is not its child.
    let mut host = Host::new();
    let mut next = host.start(&inside(sh("read x"), &["cpu", "pids"], bases.place(), vec![]));
    assert!(pids.iter().all(|pid| !is_alive(*pid)));
    host.end(&mut next.program);
    assert_eq!(bases.groups(), Vec::<String>::new());
}

fn what_a_killed_guardian_left_on_a_path_is_cleaned_by_the_next_start() {
    let bases = Bases::new(&["cpu", "pids"]);
    let (first, pids) = guardian("path", &format!("{}/fixed", bases.name()));
    kill(first);
    assert!(is_alive(pids[1]), "the one who was left behind");
    let mut host = Host::new();
    let spec = inside(sh("read x"), &["cpu", "pids"], bases.path("fixed"), vec![]);
    let mut next = host.start(&spec);
    assert!(pids.iter().all(|pid| !is_alive(*pid)));
    host.end(&mut next.program);
    // The killed one made the path itself, too.
    assert_eq!(bases.groups(), Vec::<String>::new());
}

fn what_a_killed_guardian_left_can_be_cleaned_without_a_start() {
    for kind in ["base", "path"] {
        let bases = Bases::new(&["cpu", "pids"]);
        let place = if kind == "base" { String::new() } else { "/fixed".into() };
        let place = format!("{}{place}", bases.name());
        let (first, pids) = guardian(kind, &place);
        let groups = fs::read_dir(mount_of("cpu").join(&place)).expect("the group").flatten();
        let leaf = groups.map(|entry| entry.file_name().into_string().expect("text"));
        let leaf = leaf.into_iter().find(|name| name.starts_with("proton-")).expect("a leaf");
        let path = format!("{place}/{leaf}");
        let clean = || clean_after(path.as_bytes(), Duration::from_secs(20));
        let error = clean().expect_err("its guardian lives");
        assert_eq!(error.raw_os_error(), Some(libc::EBUSY));
        assert!(pids.iter().all(|pid| is_alive(*pid)));
        kill(first);
        assert_eq!(clean().expect("cleaned"), []);
        eventually("they are gone", || pids.iter().all(|pid| !is_alive(*pid)));
        assert_eq!(bases.groups(), Vec::<String>::new());
    }
}

fn a_run_that_lives_is_not_swept() {
    let bases = Bases::new(&["cpu", "pids"]);
    let (first, pids) = guardian("base", bases.name());
    let mut host = Host::new();
    let mut next = host.start(&inside(sh("read x"), &["cpu", "pids"], bases.place(), vec![]));
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    kill(first);
    host.end(&mut next.program);
    // Now it has crashed.
    let mut next = host.start(&inside(sh("read x"), &["cpu", "pids"], bases.place(), vec![]));
    host.end(&mut next.program);
    assert_eq!(bases.groups(), Vec::<String>::new());
}

fn a_group_of_somebody_else_is_not_swept() {
    let bases = Bases::new(&["cpu", "pids"]);
    let group = bases.directory().join("proton-somebody");
    fs::create_dir(&group).expect("a group");
    let mut stranger = Command::new("sleep").arg("60").spawn().expect("a stranger");
    fs::write(group.join("cgroup.procs"), stranger.id().to_string()).expect("moved");
    let mut host = Host::new();
    let mut next = host.start(&inside(sh("read x"), &["cpu", "pids"], bases.place(), vec![]));
    let lives = stranger.try_wait().expect("our own child").is_none();
    stranger.kill().expect("our own child");
    stranger.wait().expect("our own child");
    host.end(&mut next.program);
    assert!(lives);
    assert_eq!(bases.groups(), ["proton-somebody"]);
}

fn two_runs_on_one_path_do_not_share_it() {
    let bases = Bases::new(&["cpu"]);
    let mut host = Host::new();
    let mut spec = inside(sh("read line"), &["cpu"], bases.path("fixed"), vec![]);
    // It would be for ever, if a live one were waited for.
    spec.cgroup.wait = Duration::from_secs(3600);
    let mut first = host.start(&spec);
    let error = start(&spec, &Around::default()).expect_err("refused");
    assert_eq!((error.step, error.errno), (Step::Cgroup, libc::EBUSY));
    host.end(&mut first.program);
    let mut second = host.start(&spec);
    host.end(&mut second.program);
    assert_eq!(bases.groups(), Vec::<String>::new());
}

fn a_path_with_a_stranger_in_it_is_refused() {
    let bases = Bases::new(&["cpu"]);
    let mut stranger = Command::new("sleep").arg("60").spawn().expect("a stranger");
    for inside_it in ["fixed", "fixed/inner"] {
        let group = bases.directory().join(inside_it);
        fs::create_dir(&group).expect("a group");
        fs::write(group.join("cgroup.procs"), stranger.id().to_string()).expect("moved");
        let spec = inside(sh("read line"), &["cpu"], bases.path("fixed"), vec![]);
        let error = start(&spec, &Around::default()).expect_err("refused");
        assert_eq!((error.step, error.errno), (Step::Cgroup, libc::EBUSY));
        assert!(stranger.try_wait().expect("our own child").is_none(), "the stranger lives");
    }
    stranger.kill().expect("our own child");
    stranger.wait().expect("our own child");
    eventually("the group inside can be removed", || {
        fs::remove_dir(bases.directory().join("fixed/inner")).is_ok()
    });
}

fn a_start_waits_for_a_run_that_is_ending_on_its_path() {
    let bases = Bases::new(&["cpu", "pids"]);
    let mut first = helper(&["end-slowly", &format!("{}/fixed", bases.name())]);
    let mut line = String::new();
    let output = first.stdout.as_mut().expect("its output");
    BufReader::new(output).read_line(&mut line).expect("a line");
    assert_eq!(line, "ending\n");
    let mut host = Host::new();
    let mut spec = inside(sh("read x"), &["cpu", "pids"], bases.path("fixed"), vec![]);
    spec.cgroup.wait = Duration::from_secs(20);
    let mut second = host.start(&spec);
    assert!(first.wait().expect("our own child").success());
    host.end(&mut second.program);
}

fn many_starts_on_one_path_never_share_it() {
    let bases = Bases::new(&["cpu", "pids"]);
    let path = format!("{}/made/fixed", bases.name());
    let contenders: Vec<Child> = (0..4).map(|_| helper(&["contend", &path, "10"])).collect();
    for contender in contenders {
        assert!(contender.wait_with_output().expect("our own child").status.success());
    }
    assert_eq!(bases.groups(), Vec::<String>::new());
}
