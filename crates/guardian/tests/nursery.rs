// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! The process that forks guardians, adopts what they leave, and serves nobody but its controller
//! (PROTOCOL §10). One file, however long: all of it needs a nursery whose controller is the test.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

mod support;

use std::collections::HashSet;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{channel, Receiver};
use std::time::Duration;

use proton_stream_protocol::{
    Ending, ExitKind, Field, FromNursery, Header, Limit, Preamble, Stream, ToGuardian, ToNursery,
    HEADER_LENGTH, SECRET_LENGTH,
};
use rustix::process::{kill_process, Pid, Signal};
use support::leased::Leased;
use support::{await_death, eventually, is_alive, pid_in, state, Guardian, Said, DEADLINE};

const SECRET: [u8; SECRET_LENGTH] = [0x5a; SECRET_LENGTH];

/// What a nursery said, owned.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Ready(PathBuf),
    Died(u64, Ending, Vec<u32>),
    Error(u8, String),
}

/// A nursery whose controller is the test.
struct Nursery {
    child: Child,
    stdin: Option<ChildStdin>,
    told: Receiver<Told>,
    socket: PathBuf,
}

fn read_frames(mut stdout: impl Read, tell: impl Fn(Told) -> bool) {
    let mut head = [0; HEADER_LENGTH];
    while stdout.read_exact(&mut head).is_ok() {
        let header = Header::from_nursery(head).expect("a well-formed header");
        let mut body = vec![0; header.body_length];
        stdout.read_exact(&mut body).expect("a whole body");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let told = match FromNursery::decode(header.kind, &body).expect("a well-formed frame") {
            FromNursery::Ready { path, .. } => Told::Ready(text(path).into()),
            FromNursery::Died { run, ending, survivors } => Told::Died(run, ending, survivors),
            FromNursery::Error { code, message } => Told::Error(code, text(message)),
        };
        if !tell(told) {
            return;
        }
    }
}

/// A nursery that has been told `first`, and no more.
fn begin(first: &[u8], directory: Option<&Path>) -> Nursery {
    let mut command = Command::new(env!("CARGO_BIN_EXE_proton-guardian"));
    if let Some(directory) = directory {
        command.env("TMPDIR", directory);
    }
    let mut child = command
        .arg("nursery")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the nursery starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(first).expect("it listens");
    let stdout = child.stdout.take().expect("piped");
    let (sender, told) = channel();
    std::thread::spawn(move || read_frames(stdout, |told| sender.send(told).is_ok()));
    Nursery { child, stdin: Some(stdin), told, socket: PathBuf::new() }
}

fn nurse(controller: u32) -> Vec<u8> {
    let mut wire = Vec::new();
    ToNursery::Nurse { package: b"test", controller, secret: SECRET }.encode(&mut wire);
    wire
}

impl Nursery {
    fn new() -> Self {
        Self::in_directory(None)
    }

    fn in_directory(directory: Option<&Path>) -> Self {
        let mut nursery = begin(&nurse(std::process::id()), directory);
        match nursery.hear() {
            Told::Ready(path) => nursery.socket = path,
            other => panic!("it is not ready: {other:?}"),
        }
        nursery
    }

    fn hear(&self) -> Told {
        self.told.recv_timeout(DEADLINE).expect("the nursery says something")
    }

    fn say(&mut self, frame: &ToNursery<'_>) {
        let mut wire = Vec::new();
        frame.encode(&mut wire);
        self.stdin.as_mut().unwrap().write_all(&wire).unwrap();
    }

    fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.socket).expect("it listens")
    }

    /// A connection that has said the secret.
    fn guardian(&self, run: u64) -> Guardian {
        let mut socket = self.connect();
        socket.write_all(&Preamble { secret: SECRET, run }.encode()).unwrap();
        Guardian::over(socket)
    }

    /// A program, with its pid and its guardian's.
    fn run(&self, run: u64, program: &[&str], fields: &[Field<'_>]) -> (Guardian, u32, u32) {
        let mut guardian = self.guardian(run);
        guardian.open(program, fields);
        let pid = guardian.started(program);
        (guardian, pid, parent(pid))
    }

    /// A connection whose run is over, with the pid of its guardian.
    fn kept(&self, run: u64) -> (Guardian, u32) {
        let (mut guardian, _, forked) = self.run(run, &["cat"], &[]);
        guardian.say(&ToGuardian::Eof);
        assert_eq!(guardian.hear_out().exit.unwrap().kind, ExitKind::Exited(0));
        (guardian, forked)
    }

    fn sh(&self, run: u64, script: &str) -> (Guardian, u32, u32) {
        self.run(run, &["sh", "-c", script], &[])
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end.
    fn wait(&mut self) -> std::process::ExitStatus {
        let mut status = None;
        eventually("the nursery is gone", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Nursery {
    fn drop(&mut self) {
        self.stdin = None;
        if std::thread::panicking() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

fn parent(pid: u32) -> u32 {
    parent_of(pid).expect("it lives")
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid as i32).expect("a pid"), signal).expect("it is alive");
}

/// A process's children.
fn children(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().map(pid_in).collect()
}

#[test]
fn a_program_runs_as_with_a_guardian_of_its_own() {
    let nursery = Nursery::new();
    let (mut guardian, pid, forked) = nursery.run(1, &["cat"], &[]);
    assert_eq!(parent(forked), nursery.pid());
    guardian.say(&ToGuardian::Stdin(b"hello\n"));
    guardian.hear_until("hello\n");
    guardian.say(&ToGuardian::Eof);
    let exit = guardian.hear_out().exit.unwrap();
    assert_eq!(exit.kind, ExitKind::Exited(0));
    assert!(!is_alive(pid));
    drop(guardian);
    // It serves the next one, or another one does.
    let (_guardian, _, next) = nursery.run(2, &["cat"], &[]);
    assert_eq!(parent(next), nursery.pid());
}

#[test]
fn runs_follow_each_other_on_a_connection_and_what_was_late_is_nobodys() {
    let mut nursery = Nursery::new();
    let (mut guardian, forked) = nursery.kept(1);
    guardian.again(9, &["/no/such/program"], &[]);
    assert_eq!(guardian.hear(), Said::Hello);
    assert!(matches!(guardian.hear(), Said::StartError { errno: 2, .. }));
    for (run, text) in [(2, "one\n"), (3, "two\n")] {
        // Of the run before, which would be out of place in the next one, or of influence on it.
        guardian.say(&ToGuardian::Stdin(&[b'x'; 100_000]));
        guardian.say(&ToGuardian::Credit { stream: Stream::Stdout, bytes: 1 });
        guardian.say(&ToGuardian::Signal { number: 9, tree: true });
        guardian.say(&ToGuardian::Eof);
        guardian.say(&ToGuardian::Close);
        guardian.again(run, &["cat"], &[Field::Credit { stdout: 4, stderr: 4 }]);
        let pid = guardian.started(&["cat"]);
        assert_eq!(parent(pid), forked);
        guardian.say(&ToGuardian::Stdin(text.as_bytes()));
        guardian.hear_until(text);
        guardian.say(&ToGuardian::Stdin(b"more"));
        guardian.say(&ToGuardian::Eof);
        guardian.say(&ToGuardian::Credit { stream: Stream::Stdout, bytes: 4 });
        let outcome = guardian.hear_out();
        assert_eq!(outcome.stdout, b"more");
        assert_eq!(outcome.exit.unwrap().kind, ExitKind::Exited(0));
    }
    // It is the last run's guardian.
    nursery.say(&ToNursery::Kill { run: 2 });
    assert_eq!(nursery.hear(), Told::Died(2, Ending::Unknown, vec![]));
    assert!(is_alive(forked));
    drop(guardian);
    let mut run = 3;
    eventually("it has one of another connection", || {
        run += 1;
        nursery.kept(run).1 == forked
    });
}

#[test]
fn a_run_that_follows_is_killed_with_its_guardian_as_the_first_is() {
    let nursery = Nursery::new();
    let (mut guardian, forked) = nursery.kept(1);
    guardian.again(2, &["sh", "-c", "(setsid sleep 60 &) ; exec sleep 60"], &[]);
    let pid = guardian.started(&["sh"]);
    signal(forked, Signal::KILL);
    assert_eq!(nursery.hear(), Told::Died(2, Ending::Signalled(9), vec![]));
    assert!(!is_alive(pid));
}

#[test]
fn no_run_follows_where_that_would_be_out_of_order() {
    let mut nursery = Nursery::new();
    // While another one runs, it ends that.
    let (mut guardian, pid, _) = nursery.run(1, &["sleep", "60"], &[]);
    guardian.again(2, &["cat"], &[]);
    assert!(matches!(guardian.hear(), Said::Error { code: 2, .. }));
    await_death(pid);
    // Without a number; with nonsense; without a nursery, which would adopt what it leaves.
    let (mut guardian, _) = nursery.kept(3);
    guardian.again(0, &["cat"], &[]);
    assert_eq!(guardian.hear_or_lose(), None);
    let (mut guardian, _) = nursery.kept(4);
    guardian.say_bytes(&[0xff; 8]);
    assert_eq!(guardian.hear_or_lose(), None);
    let (mut guardian, forked) = nursery.kept(5);
    signal(nursery.pid(), Signal::KILL);
    nursery.wait();
    guardian.again(6, &["cat"], &[]);
    assert_eq!(guardian.hear_or_lose(), None);
    await_death(forked);
}

#[test]
fn a_guardian_has_a_thousand_runs_and_then_closes() {
    let nursery = Nursery::new();
    let (mut guardian, forked) = nursery.kept(1);
    for run in 2..=1000 {
        guardian.again(run, &["true"], &[]);
        guardian.started(&["true"]);
        assert_eq!(guardian.hear_out().exit.unwrap().kind, ExitKind::Exited(0), "{run}");
    }
    guardian.again(1001, &["true"], &[]);
    assert_eq!(guardian.hear_or_lose(), None);
    await_death(forked);
}

#[test]
fn two_guardians_wait_also_after_there_were_many() {
    let nursery = Nursery::new();
    let wait = || children(nursery.pid()).len() == 2;
    eventually("two wait", wait);
    let runs: Vec<_> = (1..=12).map(|run| nursery.run(run, &["cat"], &[])).collect();
    let busy: Vec<u32> = runs.iter().map(|(_, _, forked)| *forked).collect();
    assert!(busy.iter().all(|pid| children(nursery.pid()).contains(pid)), "{busy:?}");
    drop(runs);
    eventually("two wait again", wait);
}

#[test]
fn guardians_that_are_too_many_leave_also_when_each_has_a_run_now_and_then() {
    let nursery = Nursery::new();
    let runs: Vec<_> = (1..=30).map(|run| nursery.run(run, &["cat"], &[])).collect();
    drop(runs);
    // One at a time, and each guardian long before it would lose patience.
    let mut run = 100;
    eventually("they have left", || {
        run += 1;
        drop(nursery.run(run, &["cat"], &[]));
        children(nursery.pid()).len() <= 4
    });
}

#[test]
fn another_guardian_waits_when_one_has_a_connection_that_asks_for_nothing() {
    let nursery = Nursery::new();
    eventually("two wait", || children(nursery.pid()).len() == 2);
    // It has said the secret, and not what is to be run.
    let _undecided = nursery.guardian(1);
    eventually("two wait again", || children(nursery.pid()).len() == 3);
}

#[test]
fn another_guardian_waits_when_a_start_takes_long() {
    let nursery = Nursery::new();
    eventually("two wait", || children(nursery.pid()).len() == 2);
    let leased = Leased::new("spare");
    let mut slow = nursery.guardian(1);
    slow.open(&[&leased.path()], &[]);
    eventually("two wait again", || children(nursery.pid()).len() == 3);
    assert_eq!(slow.hear(), Said::Hello);
    assert_eq!(slow.heard(), None, "it has not started");
    slow.say(&ToGuardian::Close);
    assert!(matches!(slow.hear(), Said::StartError { step: 11, .. }));
}

#[test]
fn guardians_whose_runs_end_together_wait_for_more() {
    let nursery = Nursery::new();
    let start = |from| (from..from + 60).map(|run| nursery.run(run, &["cat"], &[])).collect();
    let forked = |runs: &[(Guardian, u32, u32)]| runs.iter().map(|(_, _, pid)| *pid).collect();
    let runs: Vec<_> = start(1);
    let first: HashSet<u32> = forked(&runs);
    drop(runs);
    eventually("no program runs", || first.iter().all(|pid| children(*pid).is_empty()));
    let runs: Vec<_> = start(101);
    let again: HashSet<u32> = forked(&runs);
    // Two that waited had no run before.
    let kept = first.intersection(&again).count();
    assert!(kept >= 50, "{kept}");
    drop(runs);
    eventually("two wait in the end", || children(nursery.pid()).len() == 2);
}

#[test]
fn eight_mebibytes_come_whole_over_a_socket() {
    let nursery = Nursery::new();
    let (mut guardian, _, _) = nursery.sh(1, "head -c 8388608 /dev/zero; exit 4");
    let outcome = guardian.hear_out();
    assert_eq!(outcome.exit.unwrap().kind, ExitKind::Exited(4));
    assert_eq!(outcome.stdout.len(), 8 << 20);
    assert!(outcome.stdout.iter().all(|byte| *byte == 0));
}

#[test]
fn a_program_inherits_nothing_of_the_nursery() {
    let nursery = Nursery::new();
    let others: Vec<_> = (1..=3).map(|run| nursery.run(run, &["sleep", "60"], &[])).collect();
    let script = "ls -l /proc/self/fd | grep -c 'pipe:\\|/dev/null'; ls /proc/self/fd | wc -l; \
                  pwd; ulimit -n; grep SigIgn /proc/self/status";
    let (mut guardian, pid, forked) = nursery.sh(9, &format!("{script}; read x"));
    let output = guardian.hear_until("\n0000000000000000\n".trim_start_matches('\n'));
    let lines: Vec<&str> = output.lines().collect();
    // `ls` has opened the directory that it lists.
    assert_eq!(lines[1], "4", "{output}");
    assert_eq!(lines[2], std::env::current_dir().unwrap().to_str().unwrap());
    // Neither group nor session is the nursery's, its guardian's or another program's.
    let ids = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields = stat.rsplit_once(") ").unwrap().1.to_owned();
        let ids: Vec<u32> =
            fields.split(' ').skip(2).take(2).map(|id| id.parse().unwrap()).collect();
        ids
    };
    assert_eq!(ids(pid), [pid, pid]);
    assert_eq!(ids(forked), [forked, forked]);
    assert_ne!(ids(nursery.pid())[1], forked);
    drop(others);
}

#[test]
fn a_guardian_holds_nothing_of_the_nursery() {
    if !support::is_root() {
        return;
    }
    let nursery = Nursery::new();
    let _others: Vec<_> = (1..=5).map(|run| nursery.run(run, &["sleep", "60"], &[])).collect();
    let (_guardian, _, forked) = nursery.run(9, &["sleep", "60"], &[]);
    let links = std::fs::read_dir(format!("/proc/{forked}/fd")).unwrap().flatten();
    let links: Vec<String> = links
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .map(|link| link.to_string_lossy().into_owned())
        .collect();
    let count = |what: &str| links.iter().filter(|link| link.starts_with(what)).count();
    // Its own connection and the listener, where it will wait again; none of the others', nor the
    // nursery's ways to its controller or its directory.
    assert_eq!(count("socket:"), 2, "{links:?}");
    assert_eq!(count("anon_inode:[signalfd]"), 1, "{links:?}");
    assert!(!links.iter().any(|link| link.contains("/proton-")), "{links:?}");
    let ours = nursery.stdin.as_ref().unwrap().as_raw_fd();
    let pipe = std::fs::read_link(format!("/proc/self/fd/{ours}")).unwrap();
    assert!(!links.iter().any(|link| Path::new(link) == pipe), "{pipe:?} in {links:?}");
}

#[test]
fn what_a_killed_guardian_leaves_is_killed_before_that_is_told() {
    let nursery = Nursery::new();
    let script = "setsid sh -c 'trap \"\" TERM HUP; echo $$; while :; do sleep 9; done' & \
                  sleep 60 & echo $!; trap '' TERM HUP; while :; do sleep 9; done";
    let (mut guardian, pid, forked) = nursery.sh(7, script);
    let mut text = String::new();
    while text.lines().count() < 2 {
        if let Said::Output(_, bytes) = guardian.hear() {
            text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }
    let pids: Vec<u32> = text.lines().map(pid_in).chain([pid]).collect();
    let (mut other, other_pid, _) = nursery.run(8, &["cat"], &[]);
    signal(forked, Signal::KILL);
    assert_eq!(nursery.hear(), Told::Died(7, Ending::Signalled(9), vec![]));
    assert!(pids.iter().all(|pid| !is_alive(*pid)), "{pids:?}");
    // Others are not concerned.
    assert!(is_alive(other_pid));
    other.say(&ToGuardian::Stdin(b"still here\n"));
    other.hear_until("still here\n");
}

#[test]
fn a_killed_guardian_at_any_moment_leaves_nobody() {
    let mut nursery = Nursery::new();
    let mut killed = 0;
    for run in 1..=150_u64 {
        let tag = format!("PROTON_NURSERY_TEST={}-{run}", std::process::id());
        let mut guardian = nursery.guardian(run);
        guardian.open(
            &["sh", "-c", "setsid sleep 60 & sleep 60 & sleep 60"],
            &[Field::Set(tag.as_bytes())],
        );
        // From before its start to after that.
        std::thread::sleep(Duration::from_micros(run * 20));
        // The one that has it, and one that may wait.
        for pid in children(nursery.pid()) {
            if parent_of(pid) == Some(nursery.pid()) {
                let _ = kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL);
            }
        }
        // Where neither had it yet, a third one has; and one that had only just got it has told
        // nobody. So the nursery is asked, and answers in any case when nobody is left.
        while let Some(said) = guardian.hear_or_lose() {
            if matches!(said, Said::Started { .. }) {
                nursery.say(&ToNursery::Kill { run });
            }
        }
        nursery.say(&ToNursery::Kill { run });
        let ending = loop {
            match nursery.hear() {
                Told::Died(died, ending, survivors) if died == run => {
                    assert_eq!(survivors, []);
                    break ending;
                }
                Told::Died(earlier, Ending::Unknown, _) => assert!(earlier < run),
                other => panic!("{other:?}"),
            }
        };
        killed += u32::from(ending == Ending::Signalled(9));
        assert_eq!(tagged(&tag), Vec::<u32>::new(), "after {} us", run * 20);
    }
    assert!(killed > 100, "{killed}");
}

/// The processes that have a variable.
fn tagged(variable: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes())
            && is_alive(*pid)
    })
    .collect()
}

#[test]
fn a_killed_guardians_cgroup_is_removed_before_that_is_told() {
    if !support::is_root() {
        return;
    }
    let nursery = Nursery::new();
    let base = format!("proton_stream_test_{}_nursery", std::process::id());
    let paths = ["pids", "freezer"].map(|controller| Path::new("/sys/fs/cgroup").join(controller));
    let paths = paths.map(|path| path.join(&base));
    paths.iter().for_each(|path| std::fs::create_dir(path).unwrap());
    let groups = || {
        let entries = paths.iter().flat_map(|path| std::fs::read_dir(path).unwrap().flatten());
        entries.filter(|entry| entry.path().is_dir()).count()
    };
    let fields =
        [Field::CgroupBase(base.as_bytes()), Field::Limit(Limit { name: b"pids", value: b"20" })];
    let (_guardian, pid, forked) = nursery.run(3, &["sleep", "60"], &fields);
    assert_eq!(groups(), 2);
    signal(forked, Signal::KILL);
    assert_eq!(nursery.hear(), Told::Died(3, Ending::Signalled(9), vec![]));
    assert!(!is_alive(pid));
    assert_eq!(groups(), 0);
    paths.iter().for_each(|path| std::fs::remove_dir(path).unwrap());
}

#[test]
fn a_guardian_is_killed_on_demand() {
    let mut nursery = Nursery::new();
    let (_guardian, pid, _) = nursery.sh(5, "trap '' TERM; while :; do sleep 9; done");
    // None has number 0, least of all the guardian that waits.
    for run in [4, 0] {
        nursery.say(&ToNursery::Kill { run });
        assert_eq!(nursery.hear(), Told::Died(run, Ending::Unknown, vec![]));
    }
    nursery.say(&ToNursery::Kill { run: 5 });
    // Its guardian is dead already, or will be: it is told of once.
    nursery.say(&ToNursery::Kill { run: 5 });
    assert_eq!(nursery.hear(), Told::Died(5, Ending::Signalled(9), vec![]));
    assert!(!is_alive(pid));
    nursery.say(&ToNursery::Kill { run: 5 });
    while nursery.hear() != Told::Died(5, Ending::Unknown, vec![]) {}
}

#[test]
fn a_stopped_guardian_is_continued_and_a_stubborn_one_killed() {
    let nursery = Nursery::new();
    let (mut guardian, pid, forked) = nursery.run(1, &["cat"], &[]);
    signal(forked, Signal::STOP);
    guardian.say(&ToGuardian::Stdin(b"hello\n"));
    guardian.hear_until("hello\n");
    eventually("it runs", || state(forked) != Some('T'));
    // Until twice within a second: whoever does that does it again.
    eventually("it is dead", || {
        if is_alive(forked) {
            let _ = kill_process(Pid::from_raw(forked as i32).unwrap(), Signal::STOP);
        }
        !is_alive(forked)
    });
    assert_eq!(nursery.hear(), Told::Died(1, Ending::Signalled(9), vec![]));
    assert!(!is_alive(pid));
}

#[test]
fn a_program_that_signals_groups_reaches_neither_guardian_nor_nursery() {
    let nursery = Nursery::new();
    // Its own group, and its parent's as a group, which no process leads for it.
    let (mut guardian, _, _) = nursery.sh(1, "trap '' TERM; kill -TERM 0; echo alive; read x");
    guardian.hear_until("alive\n");
    assert!(is_alive(nursery.pid()));
    guardian.say(&ToGuardian::Close);
    guardian.hear_out();
}

#[test]
fn programs_go_on_when_the_nursery_is_killed_and_end_with_their_controller() {
    // Where no other test's nursery sweeps.
    let root = std::env::temp_dir().join(format!("proton-dying-{}", std::process::id()));
    std::fs::create_dir(&root).unwrap();
    for ending in [Signal::KILL, Signal::TERM, Signal::HUP] {
        let mut nursery = Nursery::in_directory(Some(&root));
        let (mut guardian, pid, forked) = nursery.run(1, &["cat"], &[]);
        signal(nursery.pid(), ending);
        nursery.wait();
        guardian.say(&ToGuardian::Stdin(b"hello\n"));
        guardian.hear_until("hello\n");
        // Who connects now is not left to wait for this guardian.
        eventually("nobody listens", || UnixStream::connect(&nursery.socket).is_err());
        guardian.vanish();
        drop(guardian);
        await_death(pid);
        await_death(forked);
        // Killed, it leaves its directory to the next one.
        assert_eq!(nursery.socket.exists(), ending == Signal::KILL);
    }
    std::fs::remove_dir_all(&root).unwrap();
}

#[test]
fn with_its_controller_it_stops_to_listen_and_ends_with_its_last_guardian() {
    let mut nursery = Nursery::new();
    let (guardian, pid, _) = nursery.sh(1, "trap '' TERM; while :; do sleep 9; done");
    nursery.stdin = None;
    eventually("it has gone from its directory", || !nursery.socket.parent().unwrap().exists());
    assert!(UnixStream::connect(&nursery.socket).is_err());
    assert!(nursery.child.try_wait().unwrap().is_none());
    assert!(is_alive(pid));
    drop(guardian);
    assert!(nursery.wait().success());
    assert!(!is_alive(pid));
}

#[test]
fn a_directory_that_a_killed_nursery_has_left_is_removed_by_the_next() {
    let root = std::env::temp_dir().join(format!("proton-nurseries-{}", std::process::id()));
    std::fs::create_dir(&root).unwrap();
    let mut killed = Nursery::in_directory(Some(&root));
    signal(killed.pid(), Signal::KILL);
    killed.wait();
    assert!(killed.socket.exists());
    let nursery = Nursery::in_directory(Some(&root));
    assert!(!killed.socket.exists() && nursery.socket.exists());
    drop(nursery);
    assert_eq!(std::fs::read_dir(&root).unwrap().count(), 0);
    std::fs::remove_dir(&root).unwrap();
}

#[test]
fn a_place_with_too_long_a_name_is_passed_over() {
    let root = std::env::temp_dir().join(format!("{}-{}", "p".repeat(100), std::process::id()));
    std::fs::create_dir(&root).unwrap();
    let nursery = Nursery::in_directory(Some(&root));
    assert!(nursery.socket.as_os_str().len() <= 107);
    assert!(!nursery.socket.starts_with(&root));
    let (mut guardian, _, _) = nursery.run(1, &["cat"], &[]);
    guardian.say(&ToGuardian::Eof);
    assert_eq!(guardian.hear_out().exit.unwrap().kind, ExitKind::Exited(0));
    std::fs::remove_dir(&root).unwrap();
}

/// Whether a connection is closed without a word.
fn is_closed(mut socket: UnixStream) -> bool {
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut nothing = Vec::new();
    // Closed with bytes unread is a reset.
    socket.read_to_end(&mut nothing).map_or_else(
        |error| error.kind() == std::io::ErrorKind::ConnectionReset,
        |_| nothing.is_empty(),
    )
}

#[test]
fn garbage_and_a_wrong_secret_cost_a_connection_and_no_run() {
    let nursery = Nursery::new();
    let mut wrong = Preamble { secret: SECRET, run: 1 }.encode();
    wrong[31] ^= 1;
    for said in
        [&wrong[..], &[0; 40], &b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n"[..]]
    {
        let mut socket = nursery.connect();
        socket.write_all(said).unwrap();
        assert!(is_closed(socket));
    }
    // One that leaves too early, and one that comes in pieces.
    let mut early = nursery.connect();
    early.write_all(&wrong[..20]).unwrap();
    drop(early);
    let mut slow = nursery.connect();
    for byte in (Preamble { secret: SECRET, run: 2 }).encode() {
        slow.write_all(&[byte]).unwrap();
    }
    let mut guardian = Guardian::over(slow);
    guardian.open(&["true"], &[]);
    guardian.started(&["true"]);
    assert_eq!(guardian.hear_out().exit.unwrap().kind, ExitKind::Exited(0));
}

#[test]
fn many_that_say_nothing_keep_nobody_out() {
    let nursery = Nursery::new();
    let silent: Vec<UnixStream> = (0..40).map(|_| nursery.connect()).collect();
    let (mut guardian, _, _) = nursery.run(1, &["cat"], &[]);
    guardian.say(&ToGuardian::Eof);
    assert_eq!(guardian.hear_out().exit.unwrap().kind, ExitKind::Exited(0));
    drop(guardian);
    silent.into_iter().for_each(|socket| assert!(is_closed(socket)));
    eventually("two wait", || children(nursery.pid()).len() == 2);
}

#[test]
fn another_process_of_the_same_user_is_not_served() {
    let nursery = Nursery::new();
    // It has the secret, and yet another pid.
    let script = "import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.settimeout(20)
try:
    s.sendall(bytes.fromhex(sys.argv[2]))
    print(len(s.recv(100)))
except (ConnectionResetError, BrokenPipeError):
    print(0)";
    let preamble = Preamble { secret: SECRET, run: 1 }.encode();
    let hex: String = preamble.iter().map(|byte| format!("{byte:02x}")).collect();
    let output = Command::new("python3")
        .args(["-c", script])
        .arg(&nursery.socket)
        .arg(hex)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0\n", "{output:?}");
    eventually("two wait", || children(nursery.pid()).len() == 2);
}

#[test]
fn another_user_can_not_connect() {
    if !support::is_root() {
        return;
    }
    let nursery = Nursery::new();
    let script = "import socket, sys
try:
    socket.socket(socket.AF_UNIX).connect(sys.argv[1])
    print('connected')
except PermissionError:
    print('refused')";
    let output = Command::new("/usr/bin/python3")
        .args(["-c", script])
        .arg(&nursery.socket)
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "refused\n", "{output:?}");
}

#[test]
fn what_is_wrong_with_a_beginning_is_said_in_words() {
    let mut version = nurse(std::process::id());
    version[6] = 9;
    for (wire, code, word) in [
        (version, 1, "speaks protocol 9"),
        (nurse(4_194_305), 4, "directory"),
        (b"\0\0\0\x02\x7fx".to_vec(), 2, "frame type 0x7f"),
    ] {
        let mut nursery = begin(&wire, None);
        match nursery.hear() {
            Told::Error(got, sentence) => {
                assert_eq!(got, code, "{sentence}");
                assert!(sentence.contains(word), "{sentence}");
            }
            other => panic!("{other:?}"),
        }
        nursery.stdin = None;
        assert!(nursery.wait().success());
    }
}

#[test]
fn a_program_that_runs_on_costs_less_memory_than_its_start() {
    if !support::is_root() {
        return;
    }
    let nursery = Nursery::new();
    let (_guardian, _, forked) = nursery.run(1, &["sleep", "60"], &[]);
    // Also what it still shares with its nursery: that changes with what the nursery does.
    let used = || {
        let rollup = std::fs::read_to_string(format!("/proc/{forked}/smaps_rollup")).unwrap();
        let line = rollup.lines().find(|line| line.starts_with("Anonymous:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u32>().unwrap()
    };
    let before = used();
    eventually("what the start has used is given back", || used() + 8 <= before);
}

#[test]
fn an_idle_nursery_uses_no_time() {
    let nursery = Nursery::new();
    let _programs: Vec<_> = (1..=5).map(|run| nursery.run(run, &["sleep", "60"], &[])).collect();
    eventually("two wait", || children(nursery.pid()).len() == 7);
    let all: Vec<u32> = children(nursery.pid()).into_iter().chain([nursery.pid()]).collect();
    let switches = || all.iter().map(|pid| support::switches(*pid)).collect::<Vec<_>>();
    eventually("they sleep", || all.iter().all(|pid| state(*pid) == Some('S')));
    let mut before = switches();
    // What has just been started may have something to finish.
    eventually("nothing has run for half a second", || {
        std::thread::sleep(Duration::from_millis(500));
        let now = switches();
        std::mem::replace(&mut before, now.clone()) == now
    });
}

#[test]
fn a_controller_that_no_longer_hears_is_one_that_is_gone() {
    // It was killed before it heard where to connect.
    let root = std::env::temp_dir().join(format!("proton-unheard-{}", std::process::id()));
    std::fs::create_dir(&root).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_proton-guardian"))
        .arg("nursery")
        .env("TMPDIR", &root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&nurse(std::process::id())).unwrap();
    eventually("it is gone", || child.try_wait().unwrap().is_some());
    assert_eq!(std::fs::read_dir(&root).unwrap().count(), 0);

    // It was killed before it heard of a death.
    let mut child = Command::new(env!("CARGO_BIN_EXE_proton-guardian"))
        .arg("nursery")
        .env("TMPDIR", &root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    stdin.write_all(&nurse(std::process::id())).unwrap();
    stdout.read_exact(&mut [0; HEADER_LENGTH]).unwrap();
    drop(stdout);
    let mut wire = Vec::new();
    ToNursery::Kill { run: 1 }.encode(&mut wire);
    stdin.write_all(&wire).unwrap();
    eventually("it is gone", || child.try_wait().unwrap().is_some());
    assert_eq!(std::fs::read_dir(&root).unwrap().count(), 0);
    std::fs::remove_dir(&root).unwrap();
}
