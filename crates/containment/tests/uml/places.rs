// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Bases and paths, and the rules of version 2 for them.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use proton_stream_containment::cgroup::Place;
use proton_stream_containment::{Around, Specification, Status, Step};

use crate::bases::{inside, setting, Bases};
use crate::host::{cases, eventually, program, sh, Host};
use crate::mount_of;

cases! {
    Root with_a_path_the_limits_are_above_and_the_program_is_in_a_leaf;
    Root a_path_is_made_and_removed_and_one_that_was_there_stays;
    Root a_base_that_has_processes_is_refused_with_the_file;
    Root a_controller_that_is_not_enabled_is_refused_with_the_command;
    Root a_failed_exec_leaves_no_group;
    Root another_user_is_held_as_well;
    Root a_user_without_privilege_has_all_of_it_in_a_delegated_group;
    Root a_user_without_privilege_outside_of_its_group_is_refused;
    Root limits_need_no_base_where_the_own_group_is_delegated;
    Root a_users_own_group_is_delegated_to_that_user;
    Root an_own_group_that_is_somebody_elses_is_refused_in_words;
}

fn with_a_path_the_limits_are_above_and_the_program_is_in_a_leaf() {
    let bases = Bases::new(&["memory"]);
    let mut host = Host::new();
    let limits = vec![
        setting("memory", "memory.limit_in_bytes", "33554432"),
        setting("cpu", "cpu.cfs_quota_us", "50000"),
    ];
    let script = "cat /proc/self/cgroup; dd if=/dev/zero of=/dev/null bs=64M count=1; exit 7";
    let spec = inside(sh(script), &["memory", "cpu"], bases.path("fixed"), limits);
    let mut running = host.start(&spec);
    let line = running.lines(1).concat();
    assert!(line.starts_with(&format!("0::/{}/fixed/proton-", bases.name())), "{line}");
    let read = |file: &str| fs::read_to_string(bases.directory().join("fixed").join(file));
    assert_eq!(read("memory.max").expect("a value"), "33554432\n");
    assert_eq!(read("cpu.max").expect("a value"), "50000 100000\n");
    assert_eq!(host.wait(&mut running.program).status, Status::Exited(7));
    assert!(running.program.oom_killed());
    host.end(&mut running.program);
    assert_eq!(bases.groups(), Vec::<String>::new());
}

fn a_path_is_made_and_removed_and_one_that_was_there_stays() {
    let bases = Bases::new(&["cpu"]);
    let mut host = Host::new();
    fs::create_dir(bases.directory().join("there")).expect("a group");
    for path in ["made/deep", "there", "there"] {
        let spec = inside(sh("read x"), &["cpu"], bases.path(path), vec![]);
        let mut running = host.start(&spec);
        host.end(&mut running.program);
        assert_eq!(bases.groups(), ["there"]);
    }
}

fn a_base_that_has_processes_is_refused_with_the_file() {
    let bases = Bases::new(&["cpu"]);
    let mut stranger = Command::new("sleep").arg("60").spawn().expect("a stranger");
    let procs = bases.directory().join("cgroup.procs");
    fs::write(procs, stranger.id().to_string()).expect("moved");
    let spec = inside(program("/bin/true", &[]), &["cpu"], bases.place(), vec![]);
    let error = proton_stream_containment::start(&spec, &Around::default()).expect_err("refused");
    let enabled = fs::read(bases.directory().join("cgroup.subtree_control"));
    assert_eq!(enabled.expect("what is enabled"), b"");
    assert!(stranger.try_wait().expect("our own child").is_none(), "the stranger lives");
    stranger.kill().expect("our own child");
    stranger.wait().expect("our own child");
    assert_eq!((error.step, error.errno), (Step::Cgroup, libc::EBUSY));
    let file = format!("{}/cgroup.procs", bases.name());
    assert_eq!(String::from_utf8(error.detail).expect("text"), file);
    assert_eq!(bases.groups(), Vec::<String>::new());
}

fn a_controller_that_is_not_enabled_is_refused_with_the_command() {
    let bases = Bases::new(&["cpu"]);
    fs::create_dir(bases.directory().join("inner")).expect("a group");
    let place = Place::Base(format!("{}/inner", bases.name()).into());
    let spec = inside(program("/bin/true", &[]), &["memory"], place, vec![]);
    let error = proton_stream_containment::start(&spec, &Around::default()).expect_err("refused");
    assert_eq!((error.step, error.errno), (Step::Cgroup, libc::ENOENT));
    let detail = String::from_utf8(error.detail).expect("text");
    let (_, command) = detail.split_once("as its owner: ").expect("a command");
    assert!(Command::new("/bin/sh").args(["-c", command]).status().expect("run").success());
    let mut host = Host::new();
    let mut running = host.start(&spec);
    host.end(&mut running.program);
    eventually("the base within can be removed", || {
        fs::remove_dir(bases.directory().join("inner")).is_ok()
    });
}

fn a_failed_exec_leaves_no_group() {
    let bases = Bases::new(&["cpu"]);
    for place in [bases.place(), bases.path("made")] {
        let spec = inside(program("/nonexistent", &[]), &["cpu", "memory"], place, vec![]);
        assert_eq!(Host::new().refused(&spec).errno, libc::ENOENT);
        assert_eq!(bases.groups(), Vec::<String>::new());
    }
}

fn another_user_is_held_as_well() {
    let bases = Bases::new(&["cpu"]);
    let mut host = Host::new();
    let spec =
        Specification { user: Some(b"nobody".to_vec()), ..sh("id -u; cat /proc/self/cgroup") };
    let output = host.output(&inside(spec, &["cpu"], bases.place(), vec![]));
    assert!(output.starts_with("65534\n0::/"), "{output}");
    assert!(output.contains(&format!("/{}/proton-", bases.name())), "{output}");
}

/// A group that belongs to nobody (who has no privileges), with a group inside for its processes.
fn delegated(bases: &Bases) {
    let base = bases.directory();
    for controller in ["cpu", "memory", "pids"] {
        fs::write(base.join("cgroup.subtree_control"), format!("+{controller}")).expect("enabled");
    }
    fs::create_dir(base.join("own")).expect("a group");
    for file in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
        chown(base.join("own").join(file), Some(65534), Some(65534)).expect("chown");
    }
}

/// What a guardian prints that nobody runs, started from a group below the delegated one or not.
fn as_nobody(bases: &Bases, session: Option<&str>, place: &str) -> (bool, String) {
    let own = bases.directory().join("own");
    if let Some(session) = session {
        fs::create_dir(own.join(session)).expect("a group");
        fs::write(own.join(session).join("cgroup.procs"), "0").expect("entered");
    }
    let path = format!("{}/own", bases.name());
    let output = Command::new(std::env::current_exe().expect("this executable"))
        .args(["--helper", "run-in", place, &path, "cat /proc/self/cgroup; id -u"])
        .uid(65534)
        .gid(65534)
        .output()
        .expect("a helper");
    if let Some(session) = session {
        fs::write(mount_of("any").join("cgroup.procs"), "0").expect("left");
        eventually("the group can be removed", || fs::remove_dir(own.join(session)).is_ok());
    }
    let text = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
    let own = fs::read_dir(&own).expect("the delegated group").flatten();
    assert_eq!(own.filter(|entry| entry.path().is_dir()).count(), 0, "{text}");
    (output.status.success(), text)
}

fn a_user_without_privilege_has_all_of_it_in_a_delegated_group() {
    let bases = Bases::new(&["memory"]);
    delegated(&bases);
    let (succeeded, text) = as_nobody(&bases, Some("session"), "base");
    assert!(succeeded, "{text}");
    assert!(text.starts_with(&format!("0::/{}/own/proton-", bases.name())), "{text}");
    assert!(text.ends_with("\n65534\n"), "{text}");
}

fn a_user_without_privilege_outside_of_its_group_is_refused() {
    let bases = Bases::new(&["memory"]);
    delegated(&bases);
    let (succeeded, text) = as_nobody(&bases, None, "base");
    assert!(!succeeded);
    assert!(text.contains("the cgroup can't be set up: memory"), "{text}");
    assert!(text.contains("Permission denied"), "{text}");
}

/// What a guardian prints that is started in a group, and may make groups in there.
fn started_in(group: &Path, user: u32) -> (bool, String) {
    fs::write(group.join("cgroup.procs"), "0").expect("entered");
    let output = Command::new(std::env::current_exe().expect("this executable"))
        .args(["--helper", "run-limited", "cat /proc/self/cgroup"])
        .uid(user)
        .gid(user)
        .output()
        .expect("a helper");
    let where_we_are = fs::read_to_string("/proc/self/cgroup").expect("our own group");
    fs::write(mount_of("any").join("cgroup.procs"), "0").expect("left");
    let text = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
    (output.status.success(), format!("{text}then {where_we_are}"))
}

/// A program ran beside whoever was there before, under the limit that it was given.
fn ran_beside(bases: &Bases, group: &str, text: &str) {
    let path = format!("0::/{}/{group}", bases.name());
    assert!(text.starts_with(&format!("{path}/proton-")), "{text}");
    assert!(text.contains("\nlimit Some(20)\n"), "{text}");
    assert!(text.ends_with(&format!("then {path}/proton-host\n")), "{text}");
    let group = bases.directory().join(group);
    let inside = fs::read_dir(&group).expect("the group").flatten();
    let inside: Vec<_> = inside.filter(|entry| entry.path().is_dir()).collect();
    assert_eq!(inside.len(), 1, "the run's group is gone");
    fs::remove_dir(group.join("proton-host")).expect("nobody is left in it");
    fs::remove_dir(&group).expect("nor in the other");
}

fn limits_need_no_base_where_the_own_group_is_delegated() {
    let bases = Bases::new(&["pids"]);
    fs::write(bases.directory().join("cgroup.subtree_control"), "+pids").expect("enabled");
    let group = bases.directory().join("service");
    fs::create_dir(&group).expect("a group");
    let marked = fs::File::open(&group).expect("the group");
    rustix::fs::fsetxattr(&marked, c"trusted.delegate", b"1", rustix::fs::XattrFlags::empty())
        .expect("as systemd does");
    let (succeeded, text) = started_in(&group, 0);
    assert!(succeeded, "{text}");
    ran_beside(&bases, "service", &text);
}

fn a_users_own_group_is_delegated_to_that_user() {
    let bases = Bases::new(&["pids"]);
    delegated(&bases);
    let (succeeded, text) = started_in(&bases.directory().join("own"), 65534);
    assert!(succeeded, "{text}");
    ran_beside(&bases, "own", &text);
}

fn an_own_group_that_is_somebody_elses_is_refused_in_words() {
    let bases = Bases::new(&["pids"]);
    fs::write(bases.directory().join("cgroup.subtree_control"), "+pids").expect("enabled");
    let group = bases.directory().join("session");
    fs::create_dir(&group).expect("a group");
    for user in [0, 65534] {
        let (succeeded, text) = started_in(&group, user);
        assert!(!succeeded);
        let sentence = format!("the own group /{}/session is not delegated", bases.name());
        assert!(text.contains(&sentence), "{text}");
        assert!(text.contains("systemd-run --scope -p Delegate=yes"), "{text}");
    }
    eventually("the group can be removed", || fs::remove_dir(&group).is_ok());
}
