// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! PID namespaces: what the program sees, and that the kernel leaves nobody alive.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use proton_stream_containment::{start, Around, Level, Specification, Status, Step};

use rustix::thread::{sched_getcpu, sched_setaffinity, CpuSet};

use crate::bases::{inside, Bases};
use crate::guard;
use crate::host::{apart, cases, eventually, is_alive, program, sh, Host};

cases! {
    Plain the_program_is_the_second_process_of_a_world_of_its_own;
    Plain its_pid_is_the_one_that_others_see;
    Plain its_end_is_told_as_what_it_was;
    Plain what_it_leaves_behind_is_killed;
    Plain a_program_that_ignores_sigterm_is_killed;
    Plain the_first_process_hears_no_signal_for_the_tree;
    Plain a_missing_program_is_an_error_of_the_start;
    Plain a_start_that_is_asked_about_all_the_time_is_no_death;
    Plain a_start_that_is_given_up_leaves_nobody;
    Plain it_can_not_reach_into_its_first_process;
    Plain nobody_survives_a_guardian_that_is_killed;
    Guarded a_signal_for_everybody_reaches_only_its_own;
    Root without_privilege_it_is_the_same;
    Root without_privilege_another_user_is_refused_in_words;
    Root where_the_kernel_makes_no_user_namespace_the_start_is_refused;
    Root another_user_is_that_user_in_there_as_well;
    Root it_goes_with_a_group_of_its_own;
}

fn the_program_is_the_second_process_of_a_world_of_its_own() {
    let mut host = Host::new();
    let script = "echo $$ $PPID; readlink /proc/self >/dev/null; \
                  for pid in /proc/[0-9]*; do echo ${pid#/proc/}; done | head -2";
    assert_eq!(host.output(&apart(sh(script))), "2 1\n1\n2\n");
}

fn its_pid_is_the_one_that_others_see() {
    let mut host = Host::new();
    let mut running = host.start(&apart(sh("echo ready; exec sleep 60")));
    assert_eq!(running.program.level(), Level::PidNamespace);
    running.lines(1);
    let pid = running.program.pid().expect("it lives");
    eventually("it is the one that was started", || {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == b"sleep\x0060\0")
    });
    assert!(running.program.signal(libc::SIGUSR1).expect("sent"));
    let ended = host.wait(&mut running.program);
    assert_eq!(ended.status, Status::Signalled { signal: 10, core: false });
    assert_eq!(running.program.pid(), None);
    host.end(&mut running.program);
}

fn its_end_is_told_as_what_it_was() {
    let mut host = Host::new();
    for (script, status) in [
        ("exit 0", Status::Exited(0)),
        ("exit 200", Status::Exited(200)),
        ("kill -9 $$", Status::Signalled { signal: 9, core: false }),
        ("kill -15 $$", Status::Signalled { signal: 15, core: false }),
    ] {
        let ran = host.run(&apart(sh(script)));
        assert_eq!(ran.ended.status, status, "{script}");
    }
    let busy = "n=0; while [ $n -lt 100000 ]; do n=$((n+1)); done";
    let ended = host.run(&apart(sh(busy))).ended;
    assert!(!ended.user.is_zero() && ended.max_rss_kib > 0, "{ended:?}");
}

/// The outer numbers of all that a program has started, itself among them.
fn everybody(program: &proton_stream_containment::Program, count: usize) -> Vec<u32> {
    let mut pids = Vec::new();
    eventually("all are there", || {
        pids = program.survivors();
        pids.len() >= count
    });
    pids
}

fn what_it_leaves_behind_is_killed() {
    let mut host = Host::new();
    let script = "setsid sh -c 'trap \"\" TERM HUP; while :; do sleep 9; done' & exit 5";
    let mut running = host.start(&apart(sh(script)));
    assert_eq!(host.wait(&mut running.program).status, Status::Exited(5));
    let pids = everybody(&running.program, 1);
    assert!(!running.program.reap().alone);
    host.end(&mut running.program);
    assert!(pids.iter().all(|pid| !is_alive(*pid)));
}

fn a_program_that_ignores_sigterm_is_killed() {
    let mut host = Host::new();
    let mut running = host.start(&apart(sh("trap '' TERM; echo; while :; do sleep 9; done")));
    running.lines(1);
    let pids = everybody(&running.program, 2);
    running.program.signal_tree(libc::SIGTERM);
    host.end(&mut running.program);
    let killed = Status::Signalled { signal: 9, core: false };
    assert_eq!(running.program.ended().map(|ended| ended.status), Some(killed));
    assert!(pids.iter().all(|pid| !is_alive(*pid)));
}

fn the_first_process_hears_no_signal_for_the_tree() {
    let mut host = Host::new();
    let script = "trap 'echo got it; exit 3' USR1; echo; while :; do sleep 0.01; done";
    let mut running = host.start(&apart(sh(script)));
    running.lines(1);
    running.program.signal_tree(libc::SIGSTOP);
    running.program.signal_tree(libc::SIGUSR1);
    running.program.signal_tree(libc::SIGCONT);
    assert_eq!(running.lines(1), ["got it"]);
    assert_eq!(host.wait(&mut running.program).status, Status::Exited(3));
    host.end(&mut running.program);
}

fn a_missing_program_is_an_error_of_the_start() {
    let mut host = Host::new();
    let error = host.refused(&apart(program("/nonexistent", &[])));
    assert_eq!((error.step, error.errno), (Step::Exec, libc::ENOENT));
    let directory = Some(b"/nonexistent".to_vec());
    let error = host.refused(&apart(Specification { directory, ..sh("exit") }));
    assert_eq!((error.step, error.errno), (Step::Directory, libc::ENOENT));
}

fn a_start_that_is_asked_about_all_the_time_is_no_death() {
    // On one processor all the rest can happen between two system calls of the guardian's.
    let mut one = CpuSet::new();
    one.set(sched_getcpu());
    sched_setaffinity(None, &one).expect("where it is");
    let mut host = Host::new();
    let plain = || program("/bin/true", &[]);
    for round in 0..200 {
        let spec = if round % 2 == 0 { plain() } else { apart(plain()) };
        let mut starting = host.begin(&spec).expect("forked");
        let outcome = std::iter::repeat_with(|| starting.outcome()).find_map(|outcome| outcome);
        let mut program = starting.into_program();
        host.end(&mut program);
        assert_eq!(outcome, Some(Ok(())));
    }
}

fn a_start_that_is_given_up_leaves_nobody() {
    let mut host = Host::new();
    for _ in 0..20 {
        // Nobody has asked what came of it.
        let mut program =
            start(&apart(sh("sleep 60")), &Around::default()).expect("forked").into_program();
        host.end(&mut program);
    }
}

fn it_can_not_reach_into_its_first_process() {
    let mut host = Host::new();
    // With all privileges it could: the rest is for a program of the same, ordinary user.
    let spec = if rustix::process::geteuid().is_root() {
        Specification { user: Some(b"nobody".to_vec()), ..sh("ls /proc/1/fd 2>&1; echo $?") }
    } else {
        sh("ls /proc/1/fd 2>&1; echo $?")
    };
    let output = host.output(&apart(spec));
    assert!(output.contains("Permission denied"), "{output}");
}

fn helper(arguments: &[&str], user: Option<u32>) -> Child {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(std::env::current_exe().expect("this executable"));
    command.arg("--helper").args(arguments);
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("a helper")
}

/// A guardian in a process of its own that holds a whole tree, with the pids of all in it.
fn holds(user: Option<u32>) -> (Child, Vec<u32>) {
    let mut guardian = helper(&["hold-apart"], user);
    let mut line = String::new();
    let output = guardian.stdout.as_mut().expect("its output");
    BufReader::new(output).read_line(&mut line).expect("a line");
    let pids: Vec<u32> = line.split_whitespace().map(|pid| pid.parse().expect("a pid")).collect();
    assert!(pids.len() >= 3, "{line}");
    (guardian, pids)
}

fn nobody_survives_a_guardian_that_is_killed() {
    let (mut guardian, pids) = holds(None);
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    guardian.kill().expect("our own child");
    guardian.wait().expect("our own child");
    eventually("all are dead", || pids.iter().all(|pid| !is_alive(*pid)));
}

fn a_signal_for_everybody_reaches_only_its_own() {
    guard::confirm();
    let mut host = Host::new();
    let mut running = host.start(&apart(sh("sleep 60 & echo; kill -9 -1; exit 4")));
    running.lines(1);
    // It spares the one who sends it, and everybody else outside.
    assert_eq!(host.wait(&mut running.program).status, Status::Exited(4));
    host.end(&mut running.program);
}

fn as_nobody(arguments: &[&str]) -> String {
    let output = helper(arguments, Some(65534)).wait_with_output().expect("our own child");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn without_privilege_it_is_the_same() {
    let script = "id -u; id -g; echo $$ $PPID; grep CapEff /proc/self/status";
    let output = as_nobody(&["run-apart", script]);
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[..3], ["65534", "65534", "2 1"], "{output}");
    assert!(lines[3].ends_with("\t0000000000000000"), "{output}");

    let (mut guardian, pids) = holds(Some(65534));
    guardian.kill().expect("our own child");
    guardian.wait().expect("our own child");
    eventually("all are dead", || pids.iter().all(|pid| !is_alive(*pid)));
}

fn without_privilege_another_user_is_refused_in_words() {
    for option in ["user", "group", "groups"] {
        let output = as_nobody(&["refused-apart", option]);
        assert!(output.contains("can't become another user or group"), "{option}: {output}");
    }
}

fn where_the_kernel_makes_no_user_namespace_the_start_is_refused() {
    // A user namespace in which nobody may make another one.
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "sh", "-c"])
        .arg("echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"")
        .arg("sh")
        .args(["setpriv", "--bounding-set", "-all", "--inh-caps", "-all", "--"])
        .arg(std::env::current_exe().expect("this executable"))
        .args(["--helper", "refused-apart", "none"])
        .output()
        .expect("unshare");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(text.contains("the namespace can't be made: user namespace: No space left"), "{text}");
}

fn another_user_is_that_user_in_there_as_well() {
    let mut host = Host::new();
    let spec = Specification { user: Some(b"nobody".to_vec()), ..sh("id; echo $$") };
    let output = host.output(&apart(spec));
    assert_eq!(output, "uid=65534(nobody) gid=65534(nogroup) groups=65534(nogroup)\n2\n");
}

fn it_goes_with_a_group_of_its_own() {
    let bases = Bases::new(&["cpu", "pids"]);
    let mut host = Host::new();
    let script = "setsid sh -c 'trap \"\" TERM; sleep 60' & echo; read x";
    let spec = inside(apart(sh(script)), &["cpu", "pids"], bases.place(), vec![]);
    let mut running = host.start(&spec);
    running.lines(1);
    assert_eq!(running.program.level(), Level::PidNamespace);
    let pids = everybody(&running.program, 3);
    let stats = running.program.stats().expect("a group");
    // Its first process is the guardian's, and not in the group.
    eventually("all of them are in the group", || stats.pids.is_some_and(|pids| pids >= 3));
    host.end(&mut running.program);
    assert!(pids.iter().all(|pid| !is_alive(*pid)));
    assert_eq!(bases.groups(), Vec::<String>::new());
}
