// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! One tree for all controllers, and the mixture.

use super::*;

fn v2(name: &str, at_the_base: &str) -> Fake {
    let root = directory(name);
    let mount = Fake::mount(&root, Version::V2, &["cpu", "io", "memory", "pids"]);
    fs::rename(root.join("cpu,io,memory,pids"), root.join("tree")).expect("renamed");
    for group in ["", "base", "base/other"] {
        let group = root.join("tree").join(group);
        for file in ["cgroup.subtree_control", "cgroup.events", "memory.max", "cpu.max"] {
            fs::write(group.join(file), "").expect("a file");
        }
        fs::write(group.join("cgroup.controllers"), at_the_base).expect("a file");
    }
    let point = root.join("tree").into_os_string().into_encoded_bytes();
    Fake { root, hierarchy: Hierarchy::V2(Mount { point, ..mount }) }
}

fn read(host: &Fake, path: &str) -> String {
    fs::read_to_string(host.root.join("tree").join(path)).expect("a file")
}

#[test]
fn controllers_are_enabled_and_old_names_written_under_the_new_ones() {
    let host = v2("v2", "cpu io memory pids");
    let mut wanted = request(&["memory", "cpuacct"], base("base"));
    wanted.settings.push(setting("memory", "memory.limit_in_bytes", "268435456"));
    let mut run = host.made(&wanted).expect("a run");
    assert_eq!(run.places.len(), 1);
    assert_eq!(read(&host, "base/cgroup.subtree_control"), "+memory");
    assert_eq!(read(&host, &format!("{}/memory.max", leaf(&run))), "268435456");
    assert_eq!(run.remove(), Ok(()));
    assert_eq!(host.groups("tree", "base"), ["other"]);
}

#[test]
fn a_controller_that_the_base_was_not_given_is_told_with_the_command_for_it() {
    let host = v2("advice", "pids");
    let (step, errno, detail) = refusal(&host, &request(&["memory"], base("base")));
    assert_eq!((step, errno), (Step::Cgroup, libc::ENOENT));
    let detail = String::from_utf8(detail).expect("text");
    let file = host.root.join("tree/cgroup.subtree_control");
    assert!(detail.contains("controller memory is not enabled for base"), "{detail}");
    assert!(detail.ends_with(&format!("echo +memory > {}", file.display())), "{detail}");
    assert_eq!(host.groups("tree", "base"), ["other"]);
}

#[test]
fn on_a_path_the_controllers_are_enabled_above_the_limits() {
    let host = v2("v2-path", "cpu io memory pids");
    let mut wanted = request(&["cpu"], at("base/new"));
    wanted.settings.push(setting("cpu", "cpu.cfs_quota_us", "50000"));
    let mut run = host.made(&wanted).expect("a run");
    assert_eq!(read(&host, "base/cgroup.subtree_control"), "+cpu");
    assert_eq!(read(&host, "base/new/cgroup.subtree_control"), "");
    assert_eq!(read(&host, "base/new/cpu.max"), "50000 100000");
    assert_eq!(run.remove(), Ok(()));
    assert_eq!(host.groups("tree", "base"), ["other"]);
}

#[test]
fn a_name_without_a_counterpart_makes_nothing() {
    let host = v2("counterpart", "cpu io memory pids");
    let mut wanted = request(&["memory"], base("base"));
    wanted.settings.push(setting("memory", "memory.swappiness", "0"));
    let (step, errno, detail) = refusal(&host, &wanted);
    assert_eq!((step, errno), (Step::Cgroup, libc::EINVAL));
    assert_eq!(detail, b"memory.swappiness: no counterpart on cgroup v2");
    let refused = refusal(&host, &request(&["devices"], base("base")));
    assert!(String::from_utf8_lossy(&refused.2).ends_with("no counterpart on cgroup v2"));
    assert_eq!(read(&host, "base/cgroup.subtree_control"), "");
    assert_eq!(host.groups("tree", "base"), ["other"]);
}

#[test]
fn populated_is_what_the_kernel_says() {
    let host = v2("populated", "memory");
    let run = host.made(&request(&["memory"], base("base"))).expect("a run");
    let events = host.root.join("tree").join(leaf(&run)).join("cgroup.events");
    fs::write(&events, "populated 1\nfrozen 0\n").expect("written");
    assert!(run.is_populated());
    fs::write(&events, "populated 0\nfrozen 0\n").expect("written");
    assert!(!run.is_populated());
}

#[test]
fn the_kill_is_one_write_where_there_is_a_file_for_it_and_a_freeze_where_not() {
    for (with_kill_file, expected) in [(true, ("1", "")), (false, ("", "1"))] {
        let host = v2(&format!("means-{with_kill_file}"), "memory");
        for file in ["cgroup.kill", "cgroup.freeze"] {
            fs::write(host.root.join("tree/base").join(file), "").expect("a file");
        }
        let mut wanted = request(&["memory"], base("base"));
        wanted.without_kill_file = !with_kill_file;
        let run = host.made(&wanted).expect("a run");
        run.press();
        let said = |file: &str| read(&host, &format!("{}/{file}", leaf(&run)));
        assert_eq!((said("cgroup.kill").as_str(), said("cgroup.freeze").as_str()), expected);
    }
}

#[test]
fn an_oom_kill_is_counted_from_the_start_on() {
    let host = v2("ooms", "memory");
    host.group("tree/base/x");
    let events = host.root.join("tree/base/x/memory.events");
    fs::write(host.root.join("tree/base/x/cgroup.controllers"), "memory").expect("a file");
    fs::write(&events, "oom 3\noom_kill 2\noom_group_kill 7\n").expect("a file");
    let run = host.made(&request(&["memory"], at("base/x"))).expect("a run");
    assert_eq!(run.ooms(), 0);
    fs::write(&events, "oom 3\noom_kill 3\noom_group_kill 7\n").expect("a file");
    assert!(run.ooms() > 0);
}

#[test]
fn stall_times_are_counted_where_the_kernel_has_them() {
    let host = v2("pressure", "cpu io memory pids");
    let run = host.made(&request(&["memory"], base("base"))).expect("a run");
    assert_eq!(run.stats(), crate::cgroup::Stats::default());
    let leaf = host.root.join("tree").join(leaf(&run));
    let write = |file: &str, text: &str| fs::write(leaf.join(file), text).expect("a file");
    let line = |which: &str, total: u64| format!("{which} avg10=0.10 avg60=0.02 total={total}\n");
    write("cpu.pressure", &line("some", 7));
    write("memory.pressure", &(line("some", 1_000_000) + &line("full", 12)));
    write("io.pressure", &(line("some", 5) + &line("full", 0)));
    write("memory.current", "4096\n");
    write("memory.peak", "8192\n");
    write("memory.max", "max\n");
    write("pids.max", "20\n");
    write("cpu.stat", "usage_usec 30\nuser_usec 20\nsystem_usec 10\nthrottled_usec 4\n");
    let micros = |count| Some(Duration::from_micros(count));
    let stats = run.stats();
    assert_eq!((stats.cpu_some, stats.io_some, stats.io_full), (micros(7), micros(5), micros(0)));
    assert_eq!((stats.memory_some, stats.memory_full), (micros(1_000_000), micros(12)));
    assert_eq!((stats.memory, stats.memory_peak), (Some(4096), Some(8192)));
    assert_eq!((stats.memory_limit, stats.pids_limit), (None, Some(20)));
    assert_eq!((stats.cpu, stats.cpu_user, stats.cpu_system), (micros(30), micros(20), micros(10)));
    assert_eq!((stats.cpu_throttled, stats.oom_kills), (micros(4), Some(0)));
}

#[test]
fn on_a_hybrid_host_the_tree_is_used_where_the_base_is_in_it() {
    let mut host = v2("hybrid", "");
    let Hierarchy::V2(mut mount) = host.hierarchy.clone() else { panic!("a tree") };
    mount.controllers = Vec::new();
    let v1 = Fake::mount(&host.root, Version::V1, &["memory"]);
    host.hierarchy = Hierarchy::Hybrid(vec![v1], mount);
    let mut run = host.made(&request(&["memory"], base("base"))).expect("a run");
    assert_eq!(run.places.len(), 2);
    assert_eq!(host.groups("tree", "base").len(), 2);
    let wanted = request(&["memory"], base("base"));
    let nobody = super::super::Host { is_root: false, ..host.host() };
    let without_privilege = prepare_at(&wanted, &nobody, &Around::default()).expect("a run");
    assert_eq!(without_privilege.places.len(), 1);
    assert_eq!(run.remove(), Ok(()));
    assert_eq!(host.groups("tree", "base"), ["other"]);

    host.group("memory/only");
    for place in [base("only"), at("new/path")] {
        let mut run = host.made(&request(&["memory"], place)).expect("a run");
        assert_eq!(run.places.len(), 1);
        assert_eq!(run.remove(), Ok(()));
        assert_eq!(host.groups("tree", "."), ["base"]);
    }
}
