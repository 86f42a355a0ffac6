// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! `proton-guardian [options] program`, as a person would use it.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{kill_process, Pid, Signal};
use support::{at_signal, await_death, eventually, pid_in, state};

fn guardian() -> Command {
    Command::new(env!("CARGO_BIN_EXE_proton-guardian"))
}

fn run(arguments: &[&str]) -> Output {
    guardian().args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Starts a program and gives the first line that it prints.
fn start(options: &[&str], program: &[&str]) -> (Child, String) {
    let mut child = guardian()
        .args(options)
        .arg("--")
        .args(program)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (child, line)
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

#[test]
fn the_exit_status_is_the_programs() {
    assert_eq!(run(&["sh", "-c", "exit 0"]).status.code(), Some(0));
    assert_eq!(run(&["--", "sh", "-c", "exit 200"]).status.code(), Some(200));
    assert_eq!(run(&["sh", "-c", "kill -TERM $$"]).status.code(), Some(143));
}

#[test]
fn stdin_stdout_and_stderr_are_the_shells() {
    let mut child = guardian()
        .args(["sh", "-c", "cat; echo err >&2"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"hello\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((text(&output.stdout), text(&output.stderr)), ("hello\n", "err\n"));
}

#[test]
fn the_flags_of_the_shells_descriptors_are_never_touched() {
    use rustix::fs::{fcntl_getfl, OFlags};
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let before = (fcntl_getfl(&reader).unwrap(), fcntl_getfl(&writer).unwrap());
    let mut child = guardian()
        .args(["sh", "-c", "echo ready; cat"])
        .stdin(Stdio::from(reader.try_clone().unwrap()))
        .stdout(Stdio::from(writer.try_clone().unwrap()))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = [0; 6];
    rustix::io::read(&reader, &mut line).unwrap();
    assert_eq!((fcntl_getfl(&reader).unwrap(), fcntl_getfl(&writer).unwrap()), before);
    assert!(!before.0.contains(OFlags::NONBLOCK));
    drop(writer);
    signal(&child, Signal::TERM);
    child.wait().unwrap();
    assert_eq!(fcntl_getfl(&reader).unwrap(), before.0);
}

#[test]
fn a_missing_program_is_127_and_one_that_cannot_be_executed_126() {
    let missing = run(&["no-such-program"]);
    assert_eq!(missing.status.code(), Some(127));
    assert!(text(&missing.stderr).contains("no-such-program"), "{missing:?}");
    assert_eq!(run(&["/etc/passwd"]).status.code(), Some(126));
    let directory = run(&["--cd", "/no/such", "true"]);
    assert_eq!(directory.status.code(), Some(125));
    assert!(text(&directory.stderr).contains("/no/such"));
}

#[test]
fn options_end_at_the_program() {
    let output = run(&["echo", "--help", "--version", "--", "-x"]);
    assert_eq!(text(&output.stdout), "--help --version -- -x\n");
    let output = run(&["--env", "A=1", "--", "sh", "-c", "echo $A"]);
    assert_eq!(text(&output.stdout), "1\n");
}

#[test]
fn options_do_what_they_say() {
    assert_eq!(text(&run(&["--cd", "/usr", "pwd"]).stdout), "/usr\n");
    assert_eq!(text(&run(&["--arg0", "me", "sh", "-c", "echo $0"]).stdout), "me\n");
    let unset = guardian().env("X", "1").args(["--unset", "X", "sh", "-c", "echo [$X]"]).output();
    assert_eq!(text(&unset.unwrap().stdout), "[]\n");
}

#[test]
fn attributes_of_the_process_are_set() {
    let show = "umask; nice; ulimit -Sn; ulimit -Hn; cat /proc/self/oom_score_adj; \
                grep -o 'NoNewPrivs.*' /proc/self/status";
    let options = [
        ["--umask", "027"],
        ["--nice", "5"],
        ["--rlimit", "nofile=64:128"],
        ["--oom-score-adj", "500"],
    ];
    let mut arguments: Vec<&str> = options.concat();
    arguments.extend(["--no-new-privs", "sh", "-c", show]);
    assert_eq!(text(&run(&arguments).stdout), "0027\n5\n64\n128\n500\nNoNewPrivs:\t1\n");
    let core = run(&["--rlimit", "core=unlimited", "sh", "-c", "ulimit -c"]);
    // Who may not raise it is told so.
    assert!(text(&core.stdout) == "unlimited\n" || text(&core.stderr).contains("rlimit core"));
}

#[test]
fn given_groups_are_all_there_are() {
    if !support::is_root() {
        return;
    }
    let ids = run(&["--uid", "nobody", "--groups", "daemon,2", "id", "-G"]);
    assert_eq!(text(&ids.stdout), "65534 1 2\n");
    let ids = run(&["--groups", "", "id", "-G"]);
    assert_eq!(text(&ids.stdout), "0\n");
}

#[test]
fn descendants_are_waited_for_where_that_is_asked() {
    let script = "(sleep 0.2; echo later) & echo first; exit 7";
    let output = run(&["--on-exit", "wait", "sh", "-c", script]);
    assert_eq!((text(&output.stdout), output.status.code()), ("first\nlater\n", Some(7)));
    let output = run(&["--on-exit", "kill-tree", "sh", "-c", "(sleep 60; echo later) & exit 7"]);
    assert_eq!((text(&output.stdout), output.status.code()), ("", Some(7)));
}

#[test]
fn a_namespace_is_a_world_of_its_own() {
    let arguments = ["--containment", "pid-namespace", "sh", "-c", "echo $$ $PPID; exit 9"];
    let output = run(&arguments);
    assert_eq!((text(&output.stdout), output.status.code()), ("2 1\n", Some(9)));
}

#[test]
fn a_limit_is_one_or_the_program_is_not_run() {
    let script = "cat /proc/self/cgroup";
    let output = run(&["--limit", "pids=20", "sh", "-c", script]);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    if output.status.success() {
        assert!(stdout.contains("/proton-"), "{stdout}");
    } else {
        assert!(stderr.contains("not delegated") || stderr.contains("cgroup"), "{stderr}");
        assert_eq!(stdout, "");
    }
}

#[test]
fn a_report_tells_the_level_and_the_end() {
    let output = run(&["--report", "sh", "-c", "exit 3"]);
    let report = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3));
    for line in ["level tree", "exit_status 3", "oom_killed false"] {
        assert!(report.contains(&format!("proton-guardian: {line}\n")), "{line}: {report}");
    }
    assert!(!report.contains("cgroup"), "{report}");
    let output = run(&["--report", "--containment", "pid-namespace", "sh", "-c", "kill -9 $$"]);
    let report = text(&output.stderr);
    assert!(report.contains("level pid_namespace\n") && report.contains("signal 9\n"), "{report}");
    // What was not started has used nothing.
    assert!(!text(&run(&["--report", "no-such-program"]).stderr).contains("level"));
}

#[test]
fn the_doctor_tells_what_is_there_and_how_to_get_the_rest() {
    let output = run(&["doctor"]);
    assert_eq!(output.status.code(), Some(0));
    let report = text(&output.stdout);
    for name in ["kernel", "pidfd", "subreaper", "/proc", "pid_namespace", "cgroup bases"] {
        assert!(report.lines().any(|line| line.starts_with(name)), "{name}: {report}");
    }
    // Without any capability, in a user namespace that allows no further one.
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "sh", "-c"])
        .arg(
            "echo 0 > /proc/sys/user/max_user_namespaces && \
             exec setpriv --bounding-set -all --inh-caps -all -- \"$0\" doctor",
        )
        .arg(env!("CARGO_BIN_EXE_proton-guardian"))
        .output()
        .unwrap();
    let report = text(&output.stdout);
    assert!(report.contains("other users    NO"), "{report}");
    assert!(report.contains("-> start as root, or with the capabilities"), "{report}");
    assert!(report.contains("pid_namespace  NO"), "{report}");
    assert!(report.contains("-> sysctl -w user.max_user_namespaces="), "{report}");
    // A program of that name is run by saying so.
    assert_eq!(run(&["--", "doctor"]).status.code(), Some(127));
}

#[test]
fn a_sweep_of_what_is_no_run_is_refused() {
    for path in ["", "base", "../x", "base/proton-1"] {
        let output = run(&["sweep", path]);
        assert_eq!(output.status.code(), Some(125), "{path}");
        assert!(text(&output.stderr).contains("Invalid argument"), "{output:?}");
    }
    assert_eq!(run(&["sweep"]).status.code(), Some(125));
    // Nothing of it is there: it is clean.
    assert_eq!(run(&["sweep", "none/proton-1-123456789"]).status.code(), Some(0));
}

#[test]
fn another_user_brings_its_own_groups_and_nothing_else() {
    if !support::is_root() {
        return;
    }
    let ids = run(&["--uid", "nobody", "sh", "-c", "id -u; id -G; echo $USER"]);
    assert_eq!(text(&ids.stdout), "65534\n65534\nnobody\n");
    let group = run(&["--uid", "nobody", "--gid", "daemon", "id", "-gn"]);
    assert_eq!(text(&group.stdout), "daemon\n");
    let unknown = run(&["--uid", "nobdy", "true"]);
    assert_eq!(unknown.status.code(), Some(125));
    assert!(text(&unknown.stderr).contains("nobdy"), "{unknown:?}");
}

#[test]
fn a_group_that_is_not_there_is_told_of() {
    let arguments =
        ["--cgroup-controller", "memory", "--cgroup-base", "no/such/group", "--", "true"];
    let output = run(&arguments);
    assert_eq!(output.status.code(), Some(125));
    assert!(text(&output.stderr).contains("no/such"), "{output:?}");
}

#[test]
fn bad_options_say_what_is_wrong() {
    for (arguments, word) in [
        (&["--no-such"][..], "--no-such"),
        (&[][..], "no program"),
        (&["--env", "novalue", "true"][..], "KEY=VALUE"),
        (&["--delay-to-sigkill", "soon", "true"][..], "soon"),
        (&["--cgroup-set", "cpu", "true"][..], "CONTROLLER:FILE:VALUE"),
        (&["--umask", "9", "true"][..], "--umask 9 is not 0 to 777"),
        (&["--umask", "1000", "true"][..], "0 to 777"),
        (&["--nice", "low", "true"][..], "low"),
        (&["--nice", "20", "true"][..], "nice is not between -20 and 19"),
        (&["--rlimit", "nofile", "true"][..], "NAME=SOFT[:HARD]"),
        (&["--rlimit", "nofile=-1", "true"][..], "NAME=SOFT[:HARD]"),
        (&["--rlimit", "nofiles=1", "true"][..], "rlimit nofiles"),
        (&["--oom-score-adj", "1001", "true"][..], "between -1000 and 1000"),
        (&["--on-exit", "leave", "true"][..], "kill-tree or wait"),
        (&["--containment", "jail", "true"][..], "pid-namespace"),
        (&["--limit", "memory", "true"][..], "NAME=VALUE"),
        (&["--cgroup-base", "a", "--cgroup-path", "b", "true"][..], "only one"),
        (&["--limit", "memmory=1G", "true"][..], "allowed are memory, memory_high"),
        (&["--limit", "memory=lots", "true"][..], "allowed is a number of bytes"),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(125), "{arguments:?}");
        assert!(text(&output.stderr).contains(word), "{output:?}");
    }
}

#[test]
fn help_and_version_are_told() {
    assert!(text(&run(&["--help"]).stdout).contains("Usage: proton-guardian"));
    let version = format!("proton-guardian {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(text(&run(&["--version"]).stdout), version);
}

#[test]
fn a_shells_signal_ends_the_whole_tree_with_that_signal_first() {
    let all = [Signal::INT, Signal::QUIT, Signal::TERM, Signal::HUP, Signal::USR1, Signal::USR2];
    for sent in all {
        let number = sent.as_raw();
        let script = at_signal(number, &format!("os._exit(30 + {number})"));
        let (mut child, line) = start(&[], &["python3", "-c", &script]);
        signal(&child, sent);
        assert_eq!(child.wait().unwrap().code(), Some(30 + number));
        await_death(pid_in(&line));
    }
}

#[test]
fn what_ignores_the_first_signal_is_killed_after_the_delay() {
    let script = "trap '' INT TERM; echo $$; exec sleep 1000";
    let (mut child, line) = start(&["--delay-to-sigkill", "50"], &["sh", "-c", script]);
    signal(&child, Signal::INT);
    assert_eq!(child.wait().unwrap().code(), Some(128 + 9));
    await_death(pid_in(&line));
}

#[test]
fn descendants_do_not_outlive_the_program() {
    let (mut child, line) =
        start(&[], &["sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 & echo $!; exit 3"]);
    assert_eq!(child.wait().unwrap().code(), Some(3));
    await_death(pid_in(&line));
}

#[test]
fn stopping_stops_the_program_too_and_continuing_continues_it() {
    let (mut child, line) = start(&[], &["sh", "-c", "echo $$; exec sleep 1000"]);
    let program = pid_in(&line);
    signal(&child, Signal::TSTP);
    eventually("both are stopped", || {
        state(program) == Some('T') && state(child.id()) == Some('T')
    });
    signal(&child, Signal::CONT);
    eventually("both go on", || state(program) == Some('S') && state(child.id()) == Some('S'));
    signal(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

#[test]
fn a_change_of_the_windows_size_is_passed_on() {
    let script = at_signal(28, "os._exit(9)");
    let (mut child, _) = start(&[], &["python3", "-c", &script]);
    signal(&child, Signal::WINCH);
    assert_eq!(child.wait().unwrap().code(), Some(9));
}

#[test]
fn output_that_cannot_be_written_is_no_crash() {
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let help = guardian().arg("--help").stdout(full()).output().unwrap();
    assert_eq!(help.status.code(), Some(125));
    let missing = guardian().arg("no-such-program").stderr(full()).status().unwrap();
    assert_eq!(missing.code(), Some(127));
}
