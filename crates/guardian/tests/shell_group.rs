// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! `proton-guardian` with a cgroup, as a person would use it: groups of version 1, as root.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use support::{await_death, eventually, is_root, pid_in};

/// Groups of one name at several mounts.
struct Bases(String, Vec<PathBuf>);

impl Bases {
    fn new(controllers: &[&str]) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let name = format!("proton_stream_test_{}_{now}", std::process::id());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mount = |controller: &&str| -> PathBuf {
            let mut lines = mounts.lines().filter(|line| line.contains(" - cgroup "));
            let line = lines.find(|line| line.rsplit([' ', ',']).any(|word| word == *controller));
            line.expect("cgroup version 1").split(' ').nth(4).unwrap().into()
        };
        let mut paths: Vec<PathBuf> = controllers.iter().map(mount).collect();
        paths.dedup();
        let paths: Vec<_> = paths.iter().map(|mount| mount.join(&name)).collect();
        paths.iter().for_each(|path| fs::create_dir(path).unwrap());
        Bases(name, paths)
    }

    fn groups(&self) -> Vec<PathBuf> {
        let entries = self.1.iter().flat_map(|path| fs::read_dir(path).unwrap());
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect()
    }
}

impl Drop for Bases {
    fn drop(&mut self) {
        for path in &self.1 {
            if std::thread::panicking() {
                let _ = fs::remove_dir(path);
            } else {
                eventually("the base can be removed", || fs::remove_dir(path).is_ok());
            }
        }
    }
}

fn guardian() -> Command {
    Command::new(env!("CARGO_BIN_EXE_proton-guardian"))
}

fn run(arguments: &[&str]) -> Output {
    guardian().args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// A guardian that goes with its test, also when that fails.
struct Held(Child);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A guardian whose program ignores what can be ignored, and has said so.
fn stubborn(options: &[&str]) -> (Held, u32) {
    let script = "trap '' TERM HUP; echo $$; while :; do sleep 1; done";
    let mut child = guardian()
        .args(options)
        .args(["--", "sh", "-c", script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let pid = pid_in(&line);
    (Held(child), pid)
}

#[test]
fn limits_hold_and_the_report_tells_of_them() {
    if !is_root() {
        return;
    }
    let bases = Bases::new(&["memory", "cpu", "cpuacct", "pids"]);
    let limits = ["--limit", "memory=64M", "--limit", "cpu=0.5", "--limit", "pids=20"];
    let mut arguments = vec!["--report", "--cgroup-base", &bases.0];
    arguments.extend(limits);
    arguments.extend(["sh", "-c", "cat /proc/self/cgroup"]);
    let output = run(&arguments);
    let (stdout, report) = (text(&output.stdout), text(&output.stderr));
    for controller in ["memory", "pids"] {
        assert!(stdout.contains(&format!(":{controller}:/{}/proton-", bases.0)), "{stdout}");
    }
    for line in ["level cgroup", "memory_limit 67108864", "pids_limit 20", "oom_kills 0"] {
        assert!(report.contains(&format!("proton-guardian: {line}\n")), "{line}: {report}");
    }
    for key in ["cgroup ", "memory_peak ", "cpu ", "cpu_throttled "] {
        assert!(report.contains(&format!("proton-guardian: {key}")), "{key}: {report}");
    }
    assert_eq!(bases.groups(), Vec::<PathBuf>::new());
}

#[test]
fn memory_that_ran_out_is_told_of() {
    if !is_root() {
        return;
    }
    let bases = Bases::new(&["memory"]);
    let arguments = ["--cgroup-base", &bases.0, "--limit", "memory=16M", "tail", "/dev/zero"];
    let output = run(&arguments);
    assert_eq!(output.status.code(), Some(128 + 9));
    assert!(text(&output.stderr).contains("memory ran out"), "{output:?}");
    let with_report = [&["--report"][..], &arguments[..]].concat();
    assert!(text(&run(&with_report).stderr).contains("oom_killed true\n"));
    assert_eq!(bases.groups(), Vec::<PathBuf>::new());
}

#[test]
fn a_start_on_a_path_waits_for_the_delay_of_the_run_that_is_ending_there() {
    if !is_root() {
        return;
    }
    let bases = Bases::new(&["cpu"]);
    let path = format!("{}/fixed", bases.0);
    // Longer than the library's own patience.
    let options =
        ["--cgroup-controller", "cpu", "--cgroup-path", &path, "--delay-to-sigkill", "3500"];
    let (mut first, pid) = stubborn(&options);
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&first.0),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    let second = run(&[&options[..], &["echo", "second"]].concat());
    assert_eq!(text(&second.stdout), "second\n", "{second:?}");
    await_death(pid);
    assert_eq!(first.0.wait().unwrap().code(), Some(128 + 9));
    assert_eq!(bases.groups(), Vec::<PathBuf>::new());
}

#[test]
fn what_a_killed_guardian_left_on_a_path_is_cleaned_by_the_next() {
    if !is_root() {
        return;
    }
    let bases = Bases::new(&["cpu"]);
    let path = format!("{}/fixed", bases.0);
    let options = ["--cgroup-controller", "cpu", "--cgroup-path", &path];
    let (mut first, pid) = stubborn(&options);
    first.0.kill().unwrap();
    first.0.wait().unwrap();
    let second = run(&[&options[..], &["echo", "second"]].concat());
    assert_eq!(text(&second.stdout), "second\n", "{second:?}");
    await_death(pid);
    assert_eq!(bases.groups(), Vec::<PathBuf>::new());
}

fn group(words: &[&str]) -> (Option<i32>, String) {
    let output = run(&[&["group"], words].concat());
    (output.status.code(), text(&[output.stdout, output.stderr].concat()).to_owned())
}

#[test]
fn a_run_that_another_guardian_holds_is_counted_limited_frozen_and_thawed() {
    if !is_root() {
        return;
    }
    let bases = Bases::new(&["memory", "cpu", "cpuacct", "pids", "freezer"]);
    for (option, below) in [("--cgroup-base", ""), ("--cgroup-path", "/fixed")] {
        let place = format!("{}{below}", bases.0);
        let limits = ["--limit", "memory=64M", "--limit", "pids=20", "--limit", "cpu=1"];
        // On a path there is what was asked for, and no more.
        let controllers = ["--cgroup-controller", "freezer", "--cgroup-controller", "cpuacct"];
        let delay = ["--delay-to-sigkill", "0"];
        let options = [&[option, &place][..], &limits, &controllers, &delay].concat();
        let (mut first, pid) = stubborn(&options);
        let lines = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let line = lines.lines().find(|line| line.contains(":pids:")).unwrap();
        let path = line.rsplit(':').next().unwrap().trim_start_matches('/').to_owned();
        assert!(path.starts_with(&format!("{place}/proton-")), "{path}");
        // That of a path may be named by it; a base may have many.
        let path = if option == "--cgroup-path" { place.clone() } else { path };

        let (status, counts) = group(&[&path, "stats"]);
        assert_eq!(status, Some(0), "{counts}");
        for line in ["memory_limit 67108864", "pids_limit 20", "oom_kills 0"] {
            assert!(counts.lines().any(|other| other == line), "{line}: {counts}");
        }
        assert!(counts.contains("\npids ") && counts.contains("\ncpu "), "{counts}");
        let changed = group(&[&path, "limit", "memory=128M", "pids=max"]);
        assert_eq!(changed, (Some(0), String::new()));
        let (_, counts) = group(&[&path, "stats"]);
        assert!(counts.contains("memory_limit 134217728\n"), "{counts}");
        assert!(!counts.contains("pids_limit"), "{counts}");
        let (status, refusal) = group(&[&path, "limit", "cpus=0"]);
        assert_eq!(status, Some(125));
        assert!(refusal.contains("without the controller cpuset"), "{refusal}");

        assert_eq!(group(&[&path, "freeze"]), (Some(0), String::new()));
        let wait = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(wait.contains("State:\tD") || wait.contains("State:\tS"), "{wait}");
        assert_eq!(group(&[&path, "thaw"]), (Some(0), String::new()));
        assert_eq!(group(&[&path, "freeze"]).0, Some(0));
        // A guardian ends also what others have frozen.
        let guardian = rustix::process::Pid::from_child(&first.0);
        rustix::process::kill_process(guardian, rustix::process::Signal::TERM).unwrap();
        assert_eq!(first.0.wait().unwrap().code(), Some(128 + 9));
        await_death(pid);
        assert_eq!(bases.groups(), Vec::<PathBuf>::new());
        let (status, refusal) = group(&[&path, "stats"]);
        assert_eq!(status, Some(125), "{refusal}");
        assert!(refusal.contains("No such file"), "{refusal}");
    }
}

#[test]
fn what_is_no_run_is_neither_counted_nor_changed() {
    if !is_root() {
        return;
    }
    let bases = Bases::new(&["cpu", "pids"]);
    for path in ["", "/", "../x", bases.0.as_str(), "no/such/proton-1-123456789"] {
        for what in ["stats", "freeze"] {
            let (status, refusal) = group(&[path, what]);
            assert_eq!(status, Some(125), "{path}: {refusal}");
        }
    }
    // Of two runs below a base it is not said which.
    let options = ["--cgroup-controller", "cpu", "--cgroup-base", &bases.0];
    let mut runs = [stubborn(&options), stubborn(&options)];
    let (status, refusal) = group(&[&bases.0, "stats"]);
    for (guardian, pid) in &mut runs {
        guardian.0.kill().unwrap();
        guardian.0.wait().unwrap();
        await_death(*pid);
    }
    assert_eq!(status, Some(125), "{refusal}");
    assert!(refusal.contains("Invalid argument"), "{refusal}");
    // Nobody holds what they have left.
    let left = bases.groups();
    let leaf = left.first().unwrap().file_name().unwrap().to_str().unwrap();
    assert_eq!(group(&[&format!("{}/{leaf}", bases.0), "freeze"]).0, Some(125));
    assert!(run(&[&options[..], &["true"]].concat()).status.success(), "it sweeps");
    assert_eq!(bases.groups(), Vec::<PathBuf>::new());
    for words in [&["x"][..], &["x", "melt"], &["x", "limit"]] {
        assert_eq!(group(words).0, Some(125));
    }
}

/// The command in the line after the one that begins with `name`.
fn remedy<'a>(report: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = report.lines().skip_while(|line| !line.starts_with(name));
    lines.nth(1)?.trim().strip_prefix("-> ")
}

#[test]
fn the_command_that_the_doctor_gives_makes_a_base() {
    if !is_root() {
        return;
    }
    // Where nobody can execute it.
    let place = std::env::temp_dir().join(format!("proton-doctor-{}", std::process::id()));
    fs::copy(env!("CARGO_BIN_EXE_proton-guardian"), &place).unwrap();
    let as_nobody = |words: &[&str]| {
        let user = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
        Command::new("setpriv").args(user).arg(&place).args(words).output().unwrap()
    };
    let report = as_nobody(&["doctor"]).stdout;
    let command = remedy(text(&report), "cgroup bases").expect("nobody has no group").to_owned();
    // The test is root already, and its name for the group is nobody else's.
    let name = format!("proton_stream_test_{}_doctor", std::process::id());
    let plain = command.replace("sudo ", "").replace("$(whoami)", "nobody");
    let plain = plain.replace(":proton", &format!(":{name}"));
    let made = Command::new("sh").args(["-c", &plain]).status().unwrap();
    let after = as_nobody(&["doctor"]).stdout;
    let limits = ["--cgroup-base", &name, "--limit", "memory=64M", "--limit", "pids=20", "true"];
    let ran = as_nobody(&limits);
    let controllers = plain.split_once("-g ").and_then(|(_, rest)| rest.split_once(':'));
    for controller in controllers.expect("controllers").0.split(',') {
        let deleted = Command::new("cgdelete").arg(format!("{controller}:{name}")).status();
        assert!(deleted.unwrap().success(), "{controller}");
    }
    fs::remove_file(&place).unwrap();
    assert!(made.success(), "{plain}");
    assert!(text(&after).contains(&name), "{}", text(&after));
    assert_eq!(ran.status.code(), Some(0), "{}", text(&ran.stderr));
}
