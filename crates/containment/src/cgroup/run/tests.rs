// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! The logic of making and removing, in directories that stand for cgroup mounts.

use std::fs;
use std::path::PathBuf;

use super::*;

struct Host {
    root: PathBuf,
    mounts: Mounts,
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

impl Host {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("proton-run-{}-{name}", std::process::id()));
        let mount = |controllers: &[&str]| {
            let point = root.join(controllers.join(","));
            fs::create_dir_all(point.join("base/other")).expect("a mount");
            Mount {
                point: point.into_os_string().into_encoded_bytes(),
                controllers: controllers.iter().map(|name| name.as_bytes().to_vec()).collect(),
            }
        };
        let mounts = Mounts::for_test(vec![mount(&["memory"]), mount(&["cpu", "cpuacct"])]);
        Self { root, mounts }
    }

    fn groups(&self, mount: &str, path: &str) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.root.join(mount).join(path))
            .expect("a directory")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
            .collect();
        names.sort();
        names
    }

    fn made(&self, request: &Request) -> Result<Run, StartError> {
        // Without the kernel a new group has no files: the last step fails, having made all.
        prepare_at(request, &self.mounts).map(|run| run.expect("a run"))
    }
}

fn request(controllers: &[&str], place: Place) -> Request {
    Request {
        controllers: controllers.iter().map(|name| name.as_bytes().to_vec()).collect(),
        place: Some(place),
        settings: Vec::new(),
    }
}

fn base(path: &str) -> Place {
    Place::Base(path.as_bytes().to_vec())
}

fn at(path: &str) -> Place {
    Place::Path(path.as_bytes().to_vec())
}

fn refusal(host: &Host, request: &Request) -> (Step, i32, Vec<u8>) {
    let error = host.made(request).expect_err("refused");
    (error.step, error.errno, error.detail)
}

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
    let (step, errno, _) = refusal(&host, &request(&["memory"], base("link")));
    assert_eq!(step, Step::Cgroup);
    assert!([libc::ELOOP, libc::ENOTDIR].contains(&errno), "{errno}");
}

#[test]
fn a_base_that_is_missing_is_not_made() {
    let host = Host::new("missing");
    let refused = refusal(&host, &request(&["memory"], base("nobase")));
    assert_eq!((refused.0, refused.1), (Step::Cgroup, libc::ENOENT));
    assert_eq!(host.groups("memory", "."), ["base"]);
}

#[test]
fn a_start_that_fails_removes_what_it_made_and_nothing_else() {
    let host = Host::new("undo");
    for place in [base("base"), at("base/x/y"), at("new/x")] {
        let (step, errno, _) = refusal(&host, &request(&["memory", "cpu"], place));
        assert_eq!((step, errno), (Step::Cgroup, libc::ENOENT));
    }
    for mount in ["memory", "cpu,cpuacct"] {
        assert_eq!(host.groups(mount, "."), ["base"]);
        assert_eq!(host.groups(mount, "base"), ["other"]);
    }
}

#[test]
fn a_failure_in_the_second_hierarchy_undoes_the_first() {
    let host = Host::new("second");
    fs::create_dir(host.root.join("memory/base/x")).expect("a group");
    fs::write(host.root.join("memory/base/x/cgroup.procs"), "").expect("its file");
    fs::create_dir(host.root.join("memory/base/x/before")).expect("a group");
    fs::remove_dir_all(host.root.join("cpu,cpuacct")).expect("removed");
    refusal(&host, &request(&["memory", "cpu"], at("base/x")));
    assert_eq!(host.groups("memory", "base/x"), ["before", "cgroup.procs"]);
}

#[test]
fn a_group_that_has_processes_or_another_run_is_refused_and_left_alone() {
    let host = Host::new("occupied");
    let group = host.root.join("memory/base/x");
    fs::create_dir_all(&group).expect("a group");
    fs::write(group.join("cgroup.procs"), "4242\n").expect("its file");
    let wanted = request(&["memory"], at("base/x"));
    assert_eq!(refusal(&host, &wanted), (Step::Cgroup, libc::EBUSY, b"base/x".to_vec()));

    fs::write(group.join("cgroup.procs"), "").expect("its file");
    let first = host.made(&wanted).expect("the first run");
    fs::create_dir(group.join("made-by-the-program")).expect("a group");
    assert_eq!(refusal(&host, &wanted).1, libc::EBUSY);
    assert_eq!(host.groups("memory", "base/x"), ["cgroup.procs", "made-by-the-program"]);
    drop(first);
}

#[test]
fn the_end_removes_groups_that_were_made_inside_but_not_those_of_before() {
    let host = Host::new("end");
    let group = host.root.join("memory/base/x");
    fs::create_dir_all(group.join("before")).expect("a group");
    fs::write(group.join("cgroup.procs"), "").expect("its file");
    let mut run = host.made(&request(&["memory"], at("base/x"))).expect("a run");
    fs::create_dir_all(group.join("made/deep/deeper")).expect("groups");
    assert_eq!(run.remove(), Ok(()));
    assert_eq!(host.groups("memory", "base/x"), ["before", "cgroup.procs"]);
}

#[test]
fn a_setting_goes_to_its_own_controller_or_nowhere() {
    let host = Host::new("setting");
    for mount in ["memory", "cpu,cpuacct"] {
        let group = host.root.join(mount).join("x");
        fs::create_dir(&group).expect("a group");
        for file in ["cgroup.procs", "limit"] {
            fs::write(group.join(file), "").expect("a file");
        }
    }
    let mut wanted = request(&["memory", "cpuacct", "cpu"], at("x"));
    wanted.settings.push(Setting {
        controller: b"cpu".to_vec(),
        file: b"limit".to_vec(),
        value: b"5".to_vec(),
    });
    let run = host.made(&wanted).expect("a run");
    assert_eq!(run.directories.len(), 2);
    let limit =
        |mount: &str| fs::read_to_string(host.root.join(mount).join("x/limit")).expect("read");
    assert_eq!(limit("cpu,cpuacct"), "5");
    assert_eq!(limit("memory"), "");
    drop(run);

    for (controller, file, value) in [
        ("pids", "pids.max", "5"),
        ("cpu", "../limit", "5"),
        ("cpu", "..", "5"),
        ("cpu", "/etc/passwd", "5"),
        ("cpu", "", "5"),
        ("cpu", "limit", ""),
    ] {
        wanted.settings =
            vec![Setting { controller: controller.into(), file: file.into(), value: value.into() }];
        let refused = refusal(&host, &wanted);
        assert_eq!((refused.0, refused.1), (Step::Cgroup, libc::EINVAL), "{file:?}");
    }
    wanted.settings = vec![Setting {
        controller: b"memory".to_vec(),
        file: b"nosuch".to_vec(),
        value: b"5".to_vec(),
    }];
    let refused = refusal(&host, &wanted);
    assert_eq!(refused, (Step::Cgroup, libc::ENOENT, b"nosuch".to_vec()));
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
fn a_host_with_version_2_only_says_so() {
    let mounts = Mounts::parse(b"1 1 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
    let error = prepare_at(&request(&["memory"], base("base")), &mounts).expect_err("refused");
    assert_eq!(error.errno, libc::EOPNOTSUPP);
    assert!(String::from_utf8_lossy(&error.detail).contains("version 2"));
}

#[test]
fn a_mount_that_is_no_cgroup_file_system_is_refused() {
    let mut host = Host::new("magic");
    host.mounts.magic = Some(0x0027_e0eb);
    let (step, errno, _) = refusal(&host, &request(&["memory"], base("base")));
    assert_eq!((step, errno), (Step::Cgroup, libc::ENOTSUP));
    assert_eq!(host.groups("memory", "base"), ["other"]);
}
