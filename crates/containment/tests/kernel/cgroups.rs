// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Real cgroups of version 1, below groups that each case makes and removes.

use std::fs;

use proton_stream_containment::cgroup::{Place, Setting};
use proton_stream_containment::{Around, Level, Released, Specification, Status, Step};

use crate::bases::{inside, setting, Bases};
use crate::guard::{mount_of, Group};
use crate::host::{cases, eventually, is_alive, program, sh, Host};

cases! {
    Root settings_reach_their_own_controllers_and_the_program_runs_under_them;
    Root a_refused_value_starts_nothing_and_leaves_nothing;
    Root a_value_that_the_kernel_does_not_keep_starts_nothing;
    Root paths_and_keys_that_lead_out_start_nothing;
    Root a_path_is_made_and_removed_and_one_that_was_there_stays;
    Root a_cpuset_can_be_entered;
    Root groups_that_the_program_made_are_killed_and_removed;
    Root a_group_is_released_only_when_it_is_empty;
    Root an_oom_kill_is_told;
    Root a_group_too_small_for_a_process_is_never_a_success;
    Root a_frozen_run_is_killed;
    Root a_failed_exec_leaves_no_group;
    Root another_user_is_held_as_well;
    Root with_a_path_the_limits_are_above_and_hold_in_the_leaf;
    Root names_of_version_2_are_translated;
    Root a_name_without_a_counterpart_starts_nothing;
    Root on_a_hybrid_host_the_kill_is_one_write_where_the_base_is_in_the_tree;
}

fn settings_reach_their_own_controllers_and_the_program_runs_under_them() {
    let bases = Bases::new(&["memory", "cpu"]);
    let mut host = Host::new();
    let spec = inside(
        sh("cat /proc/self/cgroup; read line"),
        &["memory", "cpu"],
        bases.place(),
        vec![
            setting("memory", "memory.limit_in_bytes", "64M"),
            setting("cpu", "cpu.cfs_period_us", "100000"),
            setting("cpu", "cpu.cfs_quota_us", "50000"),
        ],
    );
    let mut running = host.start(&spec);
    assert_eq!(running.program.level(), Level::Cgroup);
    let path = String::from_utf8(running.program.cgroup_path().to_vec()).expect("text");
    assert!(path.starts_with(&format!("{}/proton-", bases.name())), "{path}");
    let read = |controller: &str, file: &str| {
        fs::read_to_string(mount_of(controller).join(&path).join(file)).expect("a value")
    };
    assert_eq!(read("memory", "memory.limit_in_bytes"), "67108864\n");
    assert_eq!(read("cpu", "cpu.cfs_quota_us"), "50000\n");
    let lines = running.lines(2).join("\n");
    for controller in [":memory:", ":cpu:"] {
        assert!(lines.contains(&format!("{controller}/{path}")), "{lines}");
    }
    host.end(&mut running.program);
    assert_eq!(bases.groups(), Vec::<String>::new());
}

fn refused(place: &Bases, settings: Vec<Setting>) -> (Step, i32, String) {
    let spec = inside(program("/bin/true", &[]), &["memory", "cpu"], place.place(), settings);
    let error = Host::new().refused(&spec);
    assert_eq!(place.groups(), Vec::<String>::new());
    (error.step, error.errno, String::from_utf8(error.detail).expect("text"))
}

fn a_refused_value_starts_nothing_and_leaves_nothing() {
    let bases = Bases::new(&["memory", "cpu"]);
    let file = "memory.limit_in_bytes";
    assert_eq!(
        refused(&bases, vec![setting("memory", file, "garbage")]),
        (Step::Cgroup, libc::EINVAL, file.into())
    );
    // In the second hierarchy: the first one's group has to go as well.
    assert_eq!(
        refused(&bases, vec![setting("cpu", "cpu.cfs_quota_us", "1")]),
        (Step::Cgroup, libc::EINVAL, "cpu.cfs_quota_us".into())
    );
}

fn a_value_that_the_kernel_does_not_keep_starts_nothing() {
    let bases = Bases::new(&["memory", "cpu"]);
    // The kernel raises it to 2 and says nothing.
    assert_eq!(
        refused(&bases, vec![setting("cpu", "cpu.shares", "1")]),
        (Step::Cgroup, 0, "cpu.shares".into())
    );
}

fn paths_and_keys_that_lead_out_start_nothing() {
    let bases = Bases::new(&["memory", "cpu"]);
    for file in ["../cpu.shares", "..", "/tmp/file", "proton/x"] {
        let (step, errno, _) = refused(&bases, vec![setting("cpu", file, "5")]);
        assert_eq!((step, errno), (Step::Cgroup, libc::EINVAL), "{file}");
    }
    let (step, errno, _) = refused(&bases, vec![setting("cpu", "no.such.file", "5")]);
    assert_eq!((step, errno), (Step::Cgroup, libc::ENOENT));
    for path in [format!("{}/../x", bases.name()), "/tmp".into(), "..".into()] {
        for place in [Place::Base(path.clone().into()), Place::Path(path.clone().into())] {
            let spec = inside(program("/bin/true", &[]), &["cpu"], place, vec![]);
            let error = Host::new().refused(&spec);
            assert_eq!((error.step, error.errno), (Step::Cgroup, libc::EINVAL), "{path}");
        }
    }
}

fn a_path_is_made_and_removed_and_one_that_was_there_stays() {
    let bases = Bases::new(&["cpu"]);
    let mut host = Host::new();
    let spec = inside(sh("read line"), &["cpu"], bases.path("made/deep"), vec![]);
    let mut running = host.start(&spec);
    let path = String::from_utf8(running.program.cgroup_path().to_vec()).expect("text");
    assert!(path.starts_with(&format!("{}/made/deep/proton-", bases.name())), "{path}");
    assert_eq!(bases.groups(), ["made"]);
    host.end(&mut running.program);
    assert_eq!(bases.groups(), Vec::<String>::new());

    fs::create_dir(bases.directory().join("there")).expect("a group");
    let mut running = host.start(&inside(sh("read line"), &["cpu"], bases.path("there"), vec![]));
    host.end(&mut running.program);
    assert_eq!(bases.groups(), ["there"]);
}

fn a_cpuset_can_be_entered() {
    let bases = Bases::new(&["cpuset"]);
    let mut host = Host::new();
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let top = fs::read(mount_of("cpuset").join(file)).expect("the root's");
        fs::write(bases.directory().join(file), top).expect("the base's");
    }
    let spec = inside(
        sh("exit 3"),
        &["cpuset"],
        bases.place(),
        vec![setting("cpuset", "cpuset.cpus", "0")],
    );
    let mut running = host.start(&spec);
    host.end(&mut running.program);
}

fn groups_that_the_program_made_are_killed_and_removed() {
    let bases = Bases::new(&["cpu", "pids"]);
    let mut host = Host::new();
    let cpu = mount_of("cpu");
    let script = format!(
        "own={}$(grep :cpu: /proc/self/cgroup | cut -d: -f3); mkdir -p $own/a/b; \
         setsid sh -c 'echo 0 > '$own'/a/b/cgroup.procs; echo $$; exec sleep 60' & echo $$; wait",
        cpu.display()
    );
    let mut running = host.start(&inside(sh(&script), &["cpu", "pids"], bases.place(), vec![]));
    let pids = running.pids(2);
    host.end(&mut running.program);
    assert!(pids.iter().all(|pid| !is_alive(*pid)));
    assert_eq!(bases.groups(), Vec::<String>::new());
}

fn a_group_is_released_only_when_it_is_empty() {
    let bases = Bases::new(&["cpu"]);
    let mut host = Host::new();
    let mut running = host.start(&inside(sh("read line"), &["cpu"], bases.place(), vec![]));
    assert!(!running.program.reap().alone);
    assert_eq!(running.program.release(), Released::Retry);
    host.end(&mut running.program);
    assert_eq!(running.program.release(), Released::Done);
}

fn an_oom_kill_is_told() {
    let bases = Bases::new(&["memory"]);
    let mut host = Host::new();
    let limit = || vec![setting("memory", "memory.limit_in_bytes", "32M")];
    let spec = inside(program("tail", &["/dev/zero"]), &["memory"], bases.place(), limit());
    let mut running = host.start(&spec);
    host.wait(&mut running.program);
    assert!(running.program.oom_killed());
    host.end(&mut running.program);
    let spec = inside(sh("kill -9 $$"), &["memory"], bases.place(), limit());
    let mut running = host.start(&spec);
    host.wait(&mut running.program);
    assert!(!running.program.oom_killed());
    host.end(&mut running.program);
}

fn a_group_too_small_for_a_process_is_never_a_success() {
    let bases = Bases::new(&["memory"]);
    let mut host = Host::new();
    let settings = vec![setting("memory", "memory.limit_in_bytes", "4096")];
    let spec = inside(program("/bin/true", &[]), &["memory"], bases.place(), settings);
    let mut starting = proton_stream_containment::start(&spec, &Around::default()).expect("forked");
    let mut outcome = None;
    eventually("the outcome is known", || {
        outcome = starting.outcome();
        outcome.is_some()
    });
    let mut program = starting.into_program();
    let ended = host.wait(&mut program);
    let killed = Status::Signalled { signal: 9, core: false };
    match outcome {
        Some(Err(error)) => assert_eq!((error.step, error.errno), (Step::Exec, libc::EINTR)),
        // The kernel let the exec begin.
        _ => assert_eq!(ended.status, killed),
    }
    assert!(program.oom_killed());
    host.end(&mut program);
    assert_eq!(bases.groups(), Vec::<String>::new());
}

fn a_frozen_run_is_killed() {
    let bases = Bases::new(&["freezer"]);
    let mut host = Host::new();
    let mut running = host.start(&inside(sh("read line"), &["freezer"], bases.place(), vec![]));
    let path = String::from_utf8(running.program.cgroup_path().to_vec()).expect("text");
    let state = mount_of("freezer").join(path).join("freezer.state");
    fs::write(&state, "FROZEN").expect("frozen");
    eventually("it is frozen", || fs::read_to_string(&state).is_ok_and(|text| text == "FROZEN\n"));
    host.end(&mut running.program);
    assert_eq!(bases.groups(), Vec::<String>::new());
}

fn a_failed_exec_leaves_no_group() {
    let bases = Bases::new(&["cpu", "memory"]);
    let spec = inside(program("/nonexistent", &[]), &["cpu", "memory"], bases.place(), vec![]);
    assert_eq!(Host::new().refused(&spec).errno, libc::ENOENT);
    assert_eq!(bases.groups(), Vec::<String>::new());
}

fn another_user_is_held_as_well() {
    let group = Group::new("cpu");
    let mut host = Host::new();
    let spec =
        Specification { user: Some(b"nobody".to_vec()), ..sh("id -u; cat /proc/self/cgroup") };
    let spec = inside(spec, &["cpu"], Place::Base(group.name().into()), vec![]);
    let output = host.output(&spec);
    assert!(output.starts_with("65534\n"), "{output}");
    assert!(output.contains(&format!(":cpu:/{}/proton-", group.name())), "{output}");
}

fn with_a_path_the_limits_are_above_and_hold_in_the_leaf() {
    let bases = Bases::new(&["memory"]);
    let mut host = Host::new();
    let limit = vec![setting("memory", "memory.limit_in_bytes", "32M")];
    let hog = sh("tail /dev/zero; exit 7");
    let mut running = host.start(&inside(hog, &["memory"], bases.path("fixed"), limit));
    let limit = bases.directory().join("fixed/memory.limit_in_bytes");
    assert_eq!(fs::read_to_string(limit).expect("a value"), "33554432\n");
    assert_eq!(host.wait(&mut running.program).status, Status::Exited(7));
    assert!(running.program.oom_killed());
    host.end(&mut running.program);
    assert_eq!(bases.groups(), Vec::<String>::new());
}

fn names_of_version_2_are_translated() {
    let bases = Bases::new(&["memory", "cpu"]);
    let mut host = Host::new();
    let settings = vec![
        setting("memory", "memory.max", "64M"),
        setting("cpu", "cpu.max", "50000 200000"),
        setting("cpu", "cpu.weight", "50"),
    ];
    let spec = inside(sh("read x"), &["memory", "cpu"], bases.place(), settings);
    let mut running = host.start(&spec);
    let path = String::from_utf8(running.program.cgroup_path().to_vec()).expect("text");
    for (controller, file, value) in [
        ("memory", "memory.limit_in_bytes", "67108864\n"),
        ("cpu", "cpu.cfs_period_us", "200000\n"),
        ("cpu", "cpu.cfs_quota_us", "50000\n"),
        ("cpu", "cpu.shares", "512\n"),
    ] {
        let kept = fs::read_to_string(mount_of(controller).join(&path).join(file));
        assert_eq!(kept.expect(file), value, "{file}");
    }
    host.end(&mut running.program);
    assert_eq!(bases.groups(), Vec::<String>::new());
}

fn a_name_without_a_counterpart_starts_nothing() {
    let bases = Bases::new(&["memory", "cpu"]);
    let (step, errno, detail) = refused(&bases, vec![setting("memory", "memory.high", "64M")]);
    assert_eq!((step, errno), (Step::Cgroup, libc::EINVAL));
    assert_eq!(detail, "memory.high: no counterpart on cgroup v1");
}

fn on_a_hybrid_host_the_kill_is_one_write_where_the_base_is_in_the_tree() {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let tree = mounts.lines().find(|line| line.contains(" - cgroup2 "));
    let tree = tree.and_then(|line| line.split(' ').nth(4)).expect("a hybrid host");
    let bases = Bases::new(&["cpu"]);
    let base = std::path::Path::new(tree).join(bases.name());
    fs::create_dir(&base).expect("a group of our own");
    let mut host = Host::new();
    let script = "trap '' TERM; setsid sh -c 'echo $$; exec sleep 300' & echo $$; wait";
    let mut running = host.start(&inside(sh(script), &["cpu"], bases.place(), vec![]));
    let pids = running.pids(2);
    let path = String::from_utf8(running.program.cgroup_path().to_vec()).expect("text");
    let group = std::path::Path::new(tree).join(path);
    let inside_it = fs::read_to_string(group.join("cgroup.procs")).expect("processes");
    // No controller freezer was asked for: the tree can do it.
    running.program.freeze(true).expect("frozen");
    eventually("all are stopped", || running.program.is_frozen());
    let events = fs::read_to_string(group.join("cgroup.events")).expect("events");
    assert!(events.contains("frozen 1"), "{events}");
    running.program.freeze(false).expect("thawed");
    // By the kernel alone: nothing is signalled one by one.
    fs::write(group.join("cgroup.kill"), "1").expect("killed");
    eventually("all are dead", || {
        running.program.reap();
        pids.iter().all(|pid| !is_alive(*pid))
    });
    host.end(&mut running.program);
    let is_gone = !group.exists();
    fs::remove_dir(&base).expect("our own, and empty");
    assert!(pids.iter().all(|pid| inside_it.lines().any(|line| line == pid.to_string())));
    assert!(is_gone);
    assert_eq!(bases.groups(), Vec::<String>::new());
}
