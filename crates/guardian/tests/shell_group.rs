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

/// A guardian whose program ignores what can be ignored, and has said so.
fn stubborn(options: &[&str]) -> (Child, u32) {
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
    (child, pid_in(&line))
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
        rustix::process::Pid::from_child(&first),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    let second = run(&[&options[..], &["echo", "second"]].concat());
    assert_eq!(text(&second.stdout), "second\n", "{second:?}");
    await_death(pid);
    assert_eq!(first.wait().unwrap().code(), Some(128 + 9));
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
    first.kill().unwrap();
    first.wait().unwrap();
    let second = run(&[&options[..], &["echo", "second"]].concat());
    assert_eq!(text(&second.stdout), "second\n", "{second:?}");
    await_death(pid);
    assert_eq!(bases.groups(), Vec::<PathBuf>::new());
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
