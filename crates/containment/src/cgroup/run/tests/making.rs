// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! What is made, what is refused, and what is left.

use super::*;

#[test]
fn a_path_that_leads_out_is_refused_and_makes_nothing() {
    let host = Host::new("traversal");
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
    let host = Host::new("link");
    std::os::unix::fs::symlink("/tmp", host.root.join("memory/link")).expect("a link");
    for place in [base("link"), at("link"), at("link/x")] {
        let (step, errno, _) = refusal(&host, &request(&["memory"], place));
        assert_eq!(step, Step::Cgroup);
        assert!([libc::ELOOP, libc::ENOTDIR].contains(&errno), "{errno}");
    }
}

#[test]
fn a_base_that_is_missing_is_not_made() {
    let host = Host::new("missing");
    let refused = refusal(&host, &request(&["memory"], base("nobase")));
    assert_eq!((refused.0, refused.1), (Step::Cgroup, libc::ENOENT));
    assert_eq!(host.groups("memory", "."), ["base"]);
}

#[test]
fn each_run_gets_a_group_of_its_own_and_takes_it_with_it() {
    let host = Host::new("own");
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
    let host = Host::new("leaf");
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
    let host = Host::new("undo");
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
    let host = Host::new("second");
    // "cpu,cpuacct" comes first.
    fs::remove_dir_all(host.root.join("memory")).expect("removed");
    for place in [base("base"), at("base/x")] {
        refusal(&host, &request(&["memory", "cpu"], place));
        assert_eq!(host.groups("cpu,cpuacct", "base"), ["other"]);
    }
}

#[test]
fn the_end_removes_groups_that_were_made_inside_but_not_those_of_before() {
    let host = Host::new("end");
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
    let host = Host::new("setting");
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
    let host = Host::new("halves");
    assert_eq!(refusal(&host, &request(&[], base("base"))).0, Step::Specification);
    let mut wanted = request(&["memory"], base("base"));
    wanted.place = None;
    assert_eq!(refusal(&host, &wanted).0, Step::Specification);
}

#[test]
fn a_controller_that_is_not_there_is_named() {
    let host = Host::new("controller");
    let (step, errno, detail) = refusal(&host, &request(&["memroy"], base("base")));
    assert_eq!((step, errno), (Step::Cgroup, libc::ENOENT));
    assert!(String::from_utf8_lossy(&detail).contains("memroy"));
    assert_eq!(host.groups("memory", "base"), ["other"]);
}

#[test]
fn a_mount_that_is_no_cgroup_file_system_is_refused() {
    let mut host = Host::new("magic");
    if let Hierarchy::V1(mounts) = &mut host.hierarchy {
        mounts.iter_mut().for_each(|mount| mount.magic = Some(0x0027_e0eb));
    }
    let (step, errno, _) = refusal(&host, &request(&["memory"], base("base")));
    assert_eq!((step, errno), (Step::Cgroup, libc::ENOTSUP));
    assert_eq!(host.groups("memory", "base"), ["other"]);
}
