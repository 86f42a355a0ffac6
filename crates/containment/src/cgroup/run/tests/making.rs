// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! What is made, what is refused, and what is left.

use super::*;

#[test]
fn a_path_that_leads_out_is_refused_and_makes_nothing() {
    let host = Fake::new("traversal");
    for path in ["..", "../x", "base/../../x", "/base", "base/", "base//x", "./base", "", "a\0b"] {
        for place in [base(path), at(path)] {
            let refused = refusal(&host, &request(&["memory"], place));
            assert_eq!(refused, (Step::Cgroup, libc::EINVAL, path.into()), "{path:?}");
        }
    }
    assert_eq!(host.groups("memory", "."), ["base"]);
    assert_eq!(host.groups("memory", "base"), ["other"]);
}

#[test]
fn a_link_in_a_path_is_refused() {
    let host = Fake::new("link");
    std::os::unix::fs::symlink("/tmp", host.root.join("memory/link")).expect("a link");
    for place in [base("link"), at("link"), at("link/x")] {
        let (step, errno, _) = refusal(&host, &request(&["memory"], place));
        assert_eq!(step, Step::Cgroup);
        assert!([libc::ELOOP, libc::ENOTDIR].contains(&errno), "{errno}");
    }
}

/// As `base` is this process's own group.
fn own() -> Request {
    let limit = super::super::Limit { name: b"cpu".to_vec(), value: b"0.5".to_vec() };
    Request { limits: vec![limit], ..Request::default() }
}

#[test]
fn without_a_place_the_own_group_is_taken_where_it_is_delegated() {
    let host = Fake::new("delegated");
    for file in ["cpu.cfs_period_us", "cpu.cfs_quota_us"] {
        fs::write(host.group("cpu,cpuacct/base").join(file), "").expect("a file");
    }
    let group = std::fs::File::open(host.group("cpu,cpuacct/base")).expect("the group");
    let is_marked = |value: &[u8]| {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::fsetxattr(&group, c"user.delegate", value, flags).is_ok()
    };
    let is_root = rustix::process::geteuid().is_root();
    if is_root && is_marked(b"0") {
        let (step, errno, advice) = refusal(&host, &own());
        assert_eq!((step, errno), (Step::Cgroup, libc::EPERM));
        let advice = String::from_utf8(advice).expect("text");
        assert!(advice.contains("the own group /base is not delegated"), "{advice}");
        assert!(advice.contains("-p Delegate=yes"), "{advice}");
    }
    // A user's own directory is that user's.
    if !is_root || is_marked(b"1") {
        let mut run = host.made(&own()).expect("a run");
        assert!(leaf(&run).starts_with("base/proton-"));
        assert_eq!(host.groups("memory", "base"), ["other"]);
        assert_eq!(host.groups("cpu,cpuacct", "base").len(), 2);
        assert_eq!(run.remove(), Ok(()));
        assert_eq!(host.groups("cpu,cpuacct", "base"), ["other"]);
    }
}

#[test]
fn a_mounts_own_root_is_delegated_to_who_has_it() {
    let fake = Fake::new("root");
    for file in ["cpu.cfs_period_us", "cpu.cfs_quota_us"] {
        fs::write(fake.root.join("cpu,cpuacct").join(file), "").expect("a file");
    }
    let host = super::super::Host { memberships: b"1:cpu,cpuacct:/\n".to_vec(), ..fake.host() };
    let mut run = prepare_at(&own(), &host, &Around::default()).expect("a run");
    assert!(leaf(&run).starts_with("proton-"));
    assert_eq!(run.remove(), Ok(()));
    assert_eq!(fake.groups("cpu,cpuacct", "."), ["base"]);
}

#[test]
fn what_is_useful_is_taken_along_where_its_base_is_there() {
    let mut host = Fake::new("extras");
    let mut add = |controllers: &[&str]| {
        let mount = Fake::mount(&host.root, Version::V1, controllers);
        let Hierarchy::V1(mounts) = &mut host.hierarchy else { panic!("version 1") };
        mounts.push(mount);
    };
    add(&["freezer"]);
    add(&["pids"]);
    fs::remove_dir_all(host.root.join("pids/base")).expect("removed");
    let mut run = host.made(&request(&["memory"], base("base"))).expect("a run");
    assert_eq!(host.groups("freezer", "base").len(), 2);
    assert_eq!(host.groups("cpu,cpuacct", "base").len(), 2);
    assert_eq!(run.remove(), Ok(()));
    for mount in ["freezer", "cpu,cpuacct", "memory"] {
        assert_eq!(host.groups(mount, "base"), ["other"], "{mount}");
    }
}

#[test]
fn a_base_that_is_missing_is_not_made() {
    let host = Fake::new("missing");
    let refused = refusal(&host, &request(&["memory"], base("nobase")));
    assert_eq!((refused.0, refused.1), (Step::Cgroup, libc::ENOENT));
    assert_eq!(host.groups("memory", "."), ["base"]);
}

#[test]
fn each_run_gets_a_group_of_its_own_and_takes_it_with_it() {
    let host = Fake::new("own");
    let wanted = request(&["memory", "cpu"], base("base"));
    let mut first = host.made(&wanted).expect("a run");
    let mut second = host.made(&wanted).expect("a run");
    assert_ne!(first.path(), second.path());
    assert_eq!(host.groups("memory", "base").len(), 3);
    assert_eq!(host.groups("cpu,cpuacct", "base").len(), 3);
    assert_eq!((first.remove(), second.remove()), (Ok(()), Ok(())));
    assert_eq!(host.groups("memory", "base"), ["other"]);
    assert_eq!(host.groups("cpu,cpuacct", "base"), ["other"]);
}

#[test]
fn with_a_path_the_limits_are_above_and_the_program_is_in_a_leaf() {
    let host = Fake::new("leaf");
    let mut wanted = request(&["cpu"], at("new/x"));
    wanted.settings.push(setting("cpu", "limit", "5"));
    let mut run = host.made(&wanted).expect("a run");
    let leaf = leaf(&run);
    assert!(leaf.starts_with("new/x/proton-"), "{leaf}");
    let read = |path: &str| {
        fs::read_to_string(host.root.join("cpu,cpuacct").join(path).join("limit")).expect("read")
    };
    assert_eq!((read("new/x"), read(&leaf)), ("5".into(), "".into()));
    assert_eq!(run.remove(), Ok(()));
    assert_eq!(host.groups("cpu,cpuacct", "."), ["base"]);
}

#[test]
fn a_start_that_fails_removes_what_it_made_and_nothing_else() {
    let host = Fake::new("undo");
    for place in [base("base"), at("base/x/y"), at("new/x"), at("base")] {
        let mut wanted = request(&["memory", "cpu"], place);
        wanted.settings.push(setting("memory", "nosuch", "1"));
        let refused = refusal(&host, &wanted);
        assert_eq!(refused, (Step::Cgroup, libc::ENOENT, b"nosuch".to_vec()));
    }
    for mount in ["memory", "cpu,cpuacct"] {
        assert_eq!(host.groups(mount, "."), ["base"]);
        assert_eq!(host.groups(mount, "base"), ["other"]);
    }
}

#[test]
fn a_failure_in_the_second_hierarchy_undoes_the_first() {
    let host = Fake::new("second");
    // "cpu,cpuacct" comes first.
    fs::remove_dir_all(host.root.join("memory")).expect("removed");
    for place in [base("base"), at("base/x")] {
        refusal(&host, &request(&["memory", "cpu"], place));
        assert_eq!(host.groups("cpu,cpuacct", "base"), ["other"]);
    }
}

#[test]
fn the_end_removes_groups_that_were_made_inside_but_not_those_of_before() {
    let host = Fake::new("end");
    host.group("memory/base/x");
    host.group("memory/base/x/before");
    let mut run = host.made(&request(&["memory"], at("base/x"))).expect("a run");
    let made = host.root.join("memory").join(leaf(&run)).join("made/deep/deeper");
    fs::create_dir_all(made).expect("groups");
    assert_eq!(run.remove(), Ok(()));
    assert_eq!(host.groups("memory", "base/x"), ["before"]);
}

#[test]
fn a_setting_goes_to_its_own_controller_or_nowhere() {
    let host = Fake::new("setting");
    let mut wanted = request(&["memory", "cpuacct", "cpu"], base("base"));
    wanted.settings.push(setting("cpu", "limit", "5"));
    let mut run = host.made(&wanted).expect("a run");
    assert_eq!(run.places.len(), 2);
    let path = leaf(&run);
    let limit = |mount: &str| {
        fs::read_to_string(host.root.join(mount).join(&path).join("limit")).expect("read")
    };
    assert_eq!((limit("cpu,cpuacct"), limit("memory")), ("5".into(), "".into()));
    assert_eq!(run.remove(), Ok(()));

    for (controller, file, value) in [
        ("pids", "pids.max", "5"),
        ("cpu", "../limit", "5"),
        ("cpu", "..", "5"),
        ("cpu", "/etc/passwd", "5"),
        ("cpu", "", "5"),
        ("cpu", "limit", ""),
        ("memory", "memory.high", "5"),
    ] {
        wanted.settings = vec![setting(controller, file, value)];
        let refused = refusal(&host, &wanted);
        assert_eq!((refused.0, refused.1), (Step::Cgroup, libc::EINVAL), "{file:?}");
    }
}

#[test]
fn a_place_without_controllers_and_controllers_without_place_are_refused() {
    let host = Fake::new("halves");
    assert_eq!(refusal(&host, &request(&[], base("base"))).0, Step::Specification);
    let mut wanted = request(&["memory"], base("base"));
    wanted.place = None;
    assert_eq!(refusal(&host, &wanted).0, Step::Specification);
}

#[test]
fn a_controller_that_is_not_there_is_named() {
    let host = Fake::new("controller");
    let (step, errno, detail) = refusal(&host, &request(&["memroy"], base("base")));
    assert_eq!((step, errno), (Step::Cgroup, libc::ENOENT));
    assert!(String::from_utf8_lossy(&detail).contains("memroy"));
    assert_eq!(host.groups("memory", "base"), ["other"]);
}

#[test]
fn a_mount_that_is_no_cgroup_file_system_is_refused() {
    let mut host = Fake::new("magic");
    if let Hierarchy::V1(mounts) = &mut host.hierarchy {
        mounts.iter_mut().for_each(|mount| mount.magic = Some(0x0027_e0eb));
    }
    let (step, errno, _) = refusal(&host, &request(&["memory"], base("base")));
    assert_eq!((step, errno), (Step::Cgroup, libc::ENOTSUP));
    assert_eq!(host.groups("memory", "base"), ["other"]);
}
