// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! What is made ahead of a start: that it becomes the program, that it goes where it can't, and that
//! it never outlives who has made it.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio as Streams};

use proton_stream_containment::cgroup::Place;
use proton_stream_containment::{start, Around, Rlimit, Specification, Stdio, Step};
use rustix::process::{kill_process, waitid, Pid, Signal, WaitId, WaitIdOptions};

use crate::bases::Bases;
use crate::host::{apart, cases, eventually, is_alive, program, sh, Host};

cases! {
    Plain what_waits_becomes_the_program;
    Plain what_waits_holds_its_pipes_and_nothing_else;
    Plain what_waits_ends_when_it_is_not_wanted;
    Plain what_waits_ends_with_its_guardian;
    Plain what_waits_and_is_killed_is_replaced;
    Plain what_waits_goes_before_a_start_that_wants_another_process;
    Root what_waits_goes_before_a_start_that_takes_privilege;
    Plain what_waits_starts_where_it_is_asked_to;
    Plain where_a_program_can_not_start_is_said;
    Plain what_waits_and_can_not_execute_says_why;
    Plain what_waits_leaves_nothing_behind_a_thousand_times;
}

/// Our children.
fn children() -> Vec<u32> {
    let path = format!("/proc/self/task/{}/children", std::process::id());
    let list = fs::read_to_string(path).expect("our children");
    list.split_whitespace().map(|pid| pid.parse().expect("a pid")).collect()
}

fn comm(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// The one that waits, as soon as it does.
fn filled(host: &Host) -> u32 {
    host.ahead.fill();
    let [pid] = children()[..] else { panic!("one waits: {:?}", children()) };
    eventually("it waits", || {
        let at = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
        comm(pid) == "proton-waiting" && at.starts_with(&format!("{} ", libc::SYS_futex))
    });
    pid
}

fn kill(pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("a pid");
    kill_process(pid, Signal::KILL).expect("our own child");
    let how = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(pid), how).expect("our own child").expect("dead");
}

/// Descriptors, but those that reading them needs.
fn descriptors(pid: u32) -> Vec<(u32, String)> {
    let mut open: Vec<_> = fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("its descriptors")
        .map(|entry| {
            let path = entry.expect("a descriptor").path();
            let number = path.file_name().and_then(|name| name.to_str()?.parse().ok());
            let target = fs::read_link(&path).unwrap_or_default();
            (number.expect("a number"), target.to_string_lossy().into_owned())
        })
        .collect();
    open.sort();
    open
}

fn what_waits_becomes_the_program() {
    let mut host = Host::new();
    let script = "cut -d' ' -f1,5,6 /proc/$$/stat; cat; echo $0 >&2; pwd; umask; exit 3";
    let expected = |pid: u32, mask: &str| {
        let here = std::env::current_dir().expect("a directory");
        format!("{pid} {pid} {pid}\nin\n{}\n{mask}\n", here.display())
    };
    for (mask, shown) in [(Some(0o027), "0027"), (None, "0022")] {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        let waiting = filled(&host);
        let mut running = host.start(&Specification { umask: mask, ..sh(script) });
        assert_eq!(running.program.pid(), Some(waiting));
        assert_eq!(children(), [waiting]);
        let stdin = running.pipes.stdin.take().expect("its stdin");
        rustix::io::write(&stdin, b"in\n").expect("written");
        drop(stdin);
        let stdout = crate::host::read_all(running.pipes.stdout);
        assert_eq!(stdout, expected(waiting, shown));
        assert_eq!(crate::host::read_all(running.pipes.stderr), "/bin/sh\n");
        let ended = host.wait(&mut running.program);
        assert_eq!(format!("{:?}", ended.status), "Exited(3)");
        host.end(&mut running.program);
    }
}

fn what_waits_holds_its_pipes_and_nothing_else() {
    // Left open for whoever is forked, as a careless library would.
    let careless = fs::File::open("/dev/zero").expect("opened");
    rustix::io::fcntl_setfd(&careless, rustix::io::FdFlags::empty()).expect("changed");
    let host = Host::new();
    let waiting = filled(&host);
    let open = descriptors(waiting);
    let ours = descriptors(std::process::id());
    let (low, held) = open.split_at(3);
    assert_eq!(low, &ours[..3]);
    assert_eq!(held.len(), 4, "{open:?}");
    for (number, target) in held {
        assert!(target.starts_with("pipe:"), "{number}: {target}");
        let ends = ours.iter().filter(|(_, other)| other == target).count();
        assert_eq!(ends, 2, "{target} has two ends here: {ours:?}");
    }
    let mut targets: Vec<_> = held.iter().map(|(_, target)| target).collect();
    targets.dedup();
    assert_eq!(targets.len(), 4, "one end of each");
    assert!(host.signals.as_fd().as_raw_fd() > 2 && careless.as_raw_fd() > 2);
}

fn what_waits_ends_when_it_is_not_wanted() {
    let host = Host::new();
    let before = descriptors(std::process::id()).len();
    let waiting = filled(&host);
    host.ahead.fill();
    assert_eq!(children(), [waiting], "one at a time");
    host.ahead.clear();
    assert_eq!(children(), [], "collected, too");
    assert!(!is_alive(waiting));
    assert_eq!(descriptors(std::process::id()).len(), before);
    let waiting = filled(&host);
    drop(host);
    assert_eq!(children(), []);
    assert!(!is_alive(waiting));
}

fn what_waits_ends_with_its_guardian() {
    let mut guardian = Command::new(std::env::current_exe().expect("this executable"))
        .args(["--helper", "wait-ahead"])
        .stdin(Streams::null())
        .stdout(Streams::piped())
        .spawn()
        .expect("a guardian");
    let mut line = String::new();
    let output = guardian.stdout.as_mut().expect("its output");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).expect("a line");
    let waiting: u32 = line.trim().parse().expect("a pid");
    assert!(is_alive(waiting));
    guardian.kill().expect("our own child");
    let status = guardian.wait().expect("our own child");
    assert_eq!(status.signal(), Some(libc::SIGKILL));
    eventually("it ends as well", || !is_alive(waiting));
}

fn what_waits_and_is_killed_is_replaced() {
    let mut host = Host::new();
    let waiting = filled(&host);
    kill(waiting);
    let ran = host.output(&sh("echo $$"));
    assert_ne!(ran.trim(), waiting.to_string());
    assert_eq!(children(), [], "it was collected");
    // And what nobody wants any more.
    kill(filled(&host));
    host.ahead.clear();
    assert_eq!(children(), []);
}

/// Whether a program that says its pid runs as another process than the one that waits, which is
/// gone by then. It would keep the pipes open that the program has.
fn is_another(host: &mut Host, wish: Specification) -> bool {
    let waiting = filled(host);
    let mut running = host.start(&wish);
    let pid = running.program.pid();
    assert_eq!(children(), Vec::from_iter(pid));
    drop(running.pipes.stdin.take());
    crate::host::read_all(running.pipes.stdout.take());
    crate::host::read_all(running.pipes.stderr.take());
    host.wait(&mut running.program);
    host.end(&mut running.program);
    assert_eq!(children(), []);
    pid != Some(waiting)
}

fn what_waits_goes_before_a_start_that_wants_another_process() {
    let mut host = Host::new();
    let with = |stdio| Specification { stdio, ..program("/bin/true", &[]) };
    let (piped, null) = (Stdio::Piped, Stdio::Null);
    let files = Rlimit { name: b"nofile".to_vec(), soft: Some(64), hard: Some(64) };
    assert!(!is_another(&mut host, with([piped; 3])));
    assert!(!is_another(&mut host, with([piped, piped, Stdio::SameAsStdout])));
    assert!(!is_another(&mut host, with([Stdio::Inherit, piped, Stdio::Inherit])));
    assert!(is_another(&mut host, with([null, piped, piped])));
    assert!(is_another(&mut host, with([piped, null, piped])));
    assert!(is_another(&mut host, with([piped, piped, null])));
    assert!(is_another(&mut host, Specification { nice: Some(5), ..with([piped; 3]) }));
    assert!(is_another(&mut host, Specification { rlimits: vec![files], ..with([piped; 3]) }));
    let old = Specification { without_close_range: true, ..with([piped; 3]) };
    assert!(is_another(&mut host, old));
    let passed = fs::File::open("/dev/null").expect("opened");
    let waiting = filled(&host);
    let around = Around {
        passed: [Some(passed.as_fd()), None, None],
        base: Some(c"/"),
        ahead: Some(&host.ahead),
        ..Around::default()
    };
    let mut starting = start(&with([Stdio::Passed, piped, piped]), &around).expect("forked");
    assert_ne!(starting.pid(), Some(waiting));
    eventually("it is executed", || starting.outcome().is_some());
    host.end(&mut starting.into_program());
    assert_eq!(children(), []);
}

fn what_waits_goes_before_a_start_that_takes_privilege() {
    let mut host = Host::new();
    let plain = || program("/bin/true", &[]);
    let nobody = Some(b"nobody".to_vec());
    assert!(is_another(&mut host, Specification { user: nobody, ..plain() }));
    assert!(is_another(&mut host, Specification { group: Some(b"nogroup".to_vec()), ..plain() }));
    assert!(is_another(&mut host, Specification { oom_score_adj: Some(7), ..plain() }));
    let bases = Bases::new(&["cpu", "pids"]);
    let place = Place::Base(bases.name().as_bytes().to_vec());
    let inside = crate::bases::inside(plain(), &["cpu", "pids"], place, vec![]);
    assert!(is_another(&mut host, inside));
    let waiting = filled(&host);
    assert_eq!(host.output(&apart(sh("echo apart"))), "apart\n");
    assert!(!is_alive(waiting));
    assert_eq!(children(), []);
    // One that fails before there is any process.
    let waiting = filled(&host);
    let nowhere = Place::Base(b"no/such/base".to_vec());
    let error = host.refused(&crate::bases::inside(plain(), &["cpu"], nowhere, vec![]));
    assert_eq!(error.step, Step::Cgroup);
    assert!(!is_alive(waiting));
    assert_eq!(children(), []);
}

fn what_waits_starts_where_it_is_asked_to() {
    let mut host = Host::new();
    let waiting = filled(&host);
    std::env::set_current_dir(std::env::temp_dir()).expect("entered");
    let here = std::env::current_dir().expect("a directory");
    assert_eq!(host.output(&sh("pwd; echo $$")), format!("{}\n{waiting}\n", here.display()));
    // The program's own directory is relative to that, and neither is the guardian's.
    fs::create_dir_all(format!("proton-ahead-{waiting}")).expect("a directory");
    let name = format!("proton-ahead-{waiting}");
    let waiting = filled(&host);
    let spec = Specification { directory: Some(name.clone().into()), ..sh("pwd; echo $$") };
    assert_eq!(host.output(&spec), format!("{}/{name}\n{waiting}\n", here.display()));
    fs::remove_dir(&name).expect("removed");
    assert_eq!(std::env::current_dir().expect("a directory"), here);
    // Who doesn't say where gets one that starts where the guardian is.
    let waiting = filled(&host);
    std::env::set_current_dir("/usr").expect("entered");
    let around = Around { ahead: Some(&host.ahead), ..Around::default() };
    let mut starting = start(&sh("pwd"), &around).expect("forked");
    assert_ne!(starting.pid(), Some(waiting));
    eventually("it is executed", || starting.outcome().is_some());
    let mut program = starting.into_program();
    assert_eq!(crate::host::read_all(program.take_pipes().stdout), "/usr\n");
    host.end(&mut program);
    assert_eq!(children(), []);
}

fn where_a_program_can_not_start_is_said() {
    let mut host = Host::new();
    for spec in [sh("exit"), apart(sh("exit"))] {
        host.ahead.fill();
        let around =
            Around { ahead: Some(&host.ahead), base: Some(c"/no/such/base"), ..Around::default() };
        let error = match start(&spec, &around) {
            Err(error) => error,
            Ok(mut starting) => {
                eventually("it fails", || starting.outcome().is_some());
                let outcome = starting.outcome().expect("an outcome");
                host.end(&mut starting.into_program());
                outcome.expect_err("it must not start")
            }
        };
        assert_eq!((error.step, error.errno), (Step::Directory, libc::ENOENT));
        assert_eq!(error.detail, b"/no/such/base");
        host.ahead.clear();
        assert_eq!(children(), []);
    }
}

fn what_waits_and_can_not_execute_says_why() {
    let mut host = Host::new();
    for (path, errno) in [("/no/such/program", libc::ENOENT), ("/etc/passwd", libc::EACCES)] {
        filled(&host);
        let error = host.refused(&program(path, &[]));
        assert_eq!((error.step, error.errno), (Step::Exec, errno));
        assert_eq!(children(), []);
    }
    filled(&host);
    let nowhere = Specification { directory: Some(b"/no/such".to_vec()), ..sh("exit") };
    let error = host.refused(&nowhere);
    assert_eq!((error.step, error.errno), (Step::Directory, libc::ENOENT));
    assert_eq!(children(), []);
}

fn what_waits_leaves_nothing_behind_a_thousand_times() {
    let mut host = Host::new();
    let counts = || {
        let maps = fs::read_to_string("/proc/self/maps").expect("our memory").lines().count();
        (descriptors(std::process::id()).len(), maps)
    };
    let spec = program("/bin/true", &[]);
    let mut after_some = None;
    for round in 0..1_000 {
        host.ahead.fill();
        match round % 3 {
            0 => host.ahead.clear(),
            1 => drop(host.output(&spec)),
            _ => drop(host.refused(&program("/no/such/program", &[]))),
        }
        if round == 100 {
            after_some = Some(counts());
        }
    }
    let (descriptors, maps) = counts();
    let (few, before) = after_some.expect("some rounds");
    assert_eq!(descriptors, few);
    assert!(maps <= before + 4, "{maps} mappings, {before} before");
    assert_eq!(children(), []);
}
