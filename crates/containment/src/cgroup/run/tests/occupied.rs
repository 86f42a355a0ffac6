// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Whose a group is: live runs, dying ones, crashed ones, strangers.

use super::*;

/// Where a crashed run would have been.
const CRASHED: &str = "proton-4242-10000000abc";

fn busy(path: &str) -> (Step, i32, Vec<u8>) {
    (Step::Cgroup, libc::EBUSY, path.into())
}

#[test]
fn a_group_with_a_stranger_in_it_is_refused_and_left_alone() {
    let host = Fake::new("stranger");
    let group = host.group("memory/base/x");
    fs::write(group.join("cgroup.procs"), "4242424\n").expect("its file");
    let wanted = request(&["memory"], at("base/x"));
    assert_eq!(refusal(&host, &wanted), busy("base/x"));
    fs::write(group.join("cgroup.procs"), "").expect("its file");
    let inner = host.group("memory/base/x/inner/deeper");
    fs::write(inner.join("cgroup.procs"), "4242424\n").expect("its file");
    assert_eq!(refusal(&host, &wanted), busy("base/x"));
    assert_eq!(host.groups("memory", "base/x"), ["inner"]);
}

#[test]
fn a_live_run_keeps_its_path_and_is_not_waited_for() {
    let host = Fake::new("live");
    let mut wanted = request(&["memory", "cpu"], at("base/x"));
    let mut first = host.made(&wanted).expect("the first run");
    wanted.wait = Duration::from_secs(3600);
    assert_eq!(refusal(&host, &wanted), busy("base/x"));
    assert_eq!(host.groups("memory", "base/x").len(), 1);
    assert_eq!(first.remove(), Ok(()));
    assert_eq!(host.groups("memory", "base"), ["other"]);
}

#[test]
fn a_run_that_is_about_to_end_is_waited_for() {
    let host = Fake::new("dying");
    let mut wanted = request(&["memory", "cpu"], at("base/x"));
    let mut first = host.made(&wanted).expect("the first run");
    first.is_about_to_end();
    assert_eq!(refusal(&host, &wanted), busy("base/x"));
    wanted.wait = Duration::from_secs(60);
    let ending = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(30));
        assert_eq!(first.remove(), Ok(()));
    });
    let mut second = host.made(&wanted).expect("the second run");
    ending.join().expect("ended");
    assert_eq!(second.remove(), Ok(()));
}

#[test]
fn a_controller_that_leaves_ends_the_wait_for_a_run() {
    use std::os::fd::AsFd;
    let host = Fake::new("gave-up");
    let mut wanted = request(&["memory"], at("base/x"));
    let first = host.made(&wanted).expect("the first run");
    first.is_about_to_end();
    wanted.wait = Duration::from_secs(3600);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(writer);
    let around = Around { give_up: Some(reader.as_fd()), ..Around::default() };
    let error = prepare_at(&wanted, &host.host(), &around).expect_err("left");
    assert_eq!((error.step, error.errno), (Step::Cgroup, libc::ECANCELED));
}

#[test]
fn what_a_crashed_run_left_on_a_path_is_removed() {
    let host = Fake::new("crashed-path");
    host.group(&format!("memory/base/x/{CRASHED}"));
    host.group(&format!("memory/base/x/{CRASHED}/its/own"));
    fs::write(host.root.join("memory/base/x/cgroup.procs"), "").expect("a file");
    let mut run = host.made(&request(&["memory"], at("base/x"))).expect("a run");
    assert!(leaf(&run).ends_with(&host.groups("memory", "base/x").concat()));
    assert_eq!(run.remove(), Ok(()));
    assert_eq!(host.groups("memory", "base/x"), Vec::<String>::new());
}

#[test]
fn what_crashed_runs_left_below_a_base_is_swept_and_nothing_else() {
    let host = Fake::new("sweep");
    host.group(&format!("memory/base/{CRASHED}"));
    for other in ["proton-x", "proton-4242-1", "someone"] {
        host.group(&format!("memory/base/{other}"));
    }
    let held = host.group("memory/base/proton-4242-20000000abc");
    let lock = fs::File::open(&held).expect("opened");
    assert_eq!(super::super::super::leftover::lock(&lock), Ok(true));
    let wanted = request(&["memory"], base("base"));
    let mut live = host.made(&wanted).expect("a run");
    let mut run = host.made(&wanted).expect("a run");
    assert_eq!((live.remove(), run.remove()), (Ok(()), Ok(())));
    assert_eq!(
        host.groups("memory", "base"),
        ["other", "proton-4242-1", "proton-4242-20000000abc", "proton-x", "someone"]
    );
}

#[test]
fn a_live_run_below_a_path_is_not_taken_for_a_crashed_one() {
    let host = Fake::new("base-and-path");
    let mut run = host.made(&request(&["memory"], base("base"))).expect("a run");
    assert_eq!(refusal(&host, &request(&["memory"], at("base"))), busy("base"));
    assert_eq!(host.groups("memory", "base").len(), 2);
    assert_eq!(run.remove(), Ok(()));
}

/// The temporary directory's file system may not have the attribute that cgroup's has.
fn can_be_marked(host: &Fake) -> bool {
    let group = fs::File::open(host.root.join("memory/base/new")).expect("a group");
    super::super::super::beneath::is_marked(&group.into())
}

#[test]
fn a_path_that_a_crashed_run_made_is_removed_by_the_next_one() {
    let host = Fake::new("crashed-made");
    let wanted = request(&["memory"], at("base/new/x"));
    let first = host.made(&wanted).expect("a run");
    // Its locks go, its groups stay.
    drop(first);
    let can_be_marked = can_be_marked(&host);
    assert_eq!(host.groups("memory", "base/new"), ["x"]);
    let mut next = host.made(&wanted).expect("a run");
    assert_eq!(host.groups("memory", "base/new/x").len(), 1);
    assert_eq!(next.remove(), Ok(()));
    assert_eq!(host.groups("memory", "base").contains(&"new".into()), !can_be_marked);
}

#[test]
fn of_two_paths_in_one_new_group_the_last_to_end_removes_it() {
    let host = Fake::new("two-paths");
    let mut first = host.made(&request(&["memory"], at("base/new/x"))).expect("a run");
    let mut second = host.made(&request(&["memory"], at("base/new/y"))).expect("a run");
    assert_eq!(first.remove(), Ok(()));
    assert_eq!(host.groups("memory", "base/new"), ["y"]);
    let can_be_marked = can_be_marked(&host);
    assert_eq!(second.remove(), Ok(()));
    assert_eq!(host.groups("memory", "base").contains(&"new".into()), !can_be_marked);
}

#[test]
fn a_dead_run_can_be_cleaned_at_once_and_a_live_one_not() {
    use super::super::super::after::clean_at;
    let host = Fake::new("after");
    let clean = |path: &str| {
        clean_at(&host.hierarchy, path.as_bytes(), Duration::from_secs(5))
            .map_err(|error| error.raw_os_error().expect("a number"))
    };
    for place in [base("base"), at("base/x")] {
        let run = host.made(&request(&["memory", "cpu"], place)).expect("a run");
        let path = leaf(&run);
        assert_eq!(clean(&path), Err(libc::EBUSY));
        assert!(host.root.join("memory").join(&path).exists());
        drop(run);
        assert_eq!(clean(&path), Ok(vec![]));
        assert_eq!(clean(&path), Ok(vec![]));
        assert!(!host.root.join("memory").join(&path).exists());
    }
    for path in ["base", "base/other", "../base/proton-1-123456789", ""] {
        assert_eq!(clean(path), Err(libc::EINVAL), "{path:?}");
    }
    assert!(host.root.join("memory/base/other").exists());
}
