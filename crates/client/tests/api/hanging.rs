// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! A start that hangs in the kernel ends at its deadline, or when it is dropped, and leaves nothing.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use proton_stream::{Error, Options, ProtonStream, Transport};
use rustix::process::Signal as Kernel;

use crate::support::{
    cases, eventually, is_alive, is_stopped, kill, parent, run, soon, Case, Directory, Fake, Tag,
};

pub(crate) const CASES: &[Case] = cases![
    a_program_whose_file_does_not_open_ends_at_the_deadline,
    a_directory_on_a_stalled_file_system_ends_at_the_deadline,
    a_guardian_that_never_answers_is_given_up,
    a_nursery_that_never_answers_is_passed_over,
    a_guardian_that_is_late_never_has_a_program_started_twice,
    a_guardian_that_is_stopped_and_let_go_is_killed,
];

/// What hangs is killed by its guardian; the kernel gives these up by themselves much later.
const LONG: Duration = Duration::from_secs(60);

const SHORT: Duration = Duration::from_millis(300);

/// Hangs what is opened, until the test is over: a lease is held that nobody gives up, which the
/// kernel waits for 45 seconds.
const LEASE: &str = "import fcntl, os, signal, subprocess, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)
file = os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
sys.exit(subprocess.call(sys.argv[2:], restore_signals=True))";

/// Mounts a file system whose server never says a word, for its own descendants only. It is gone
/// with them.
const STALL: &str = "exec 3<>/dev/fuse && \
    mount -i -t fuse -o fd=3,rootmode=040000,user_id=0,group_id=0 stalled \"$1\" && \
    shift && exec \"$@\"";

async fn a_program_whose_file_does_not_open_ends_at_the_deadline() {
    let directory = Directory::new("leased");
    let program = directory.0.join("program");
    std::fs::copy("/bin/true", &program).unwrap();
    let mut command = Command::new("python3");
    command.args(["-c", LEASE]).arg(&program);
    hang(command, "program", &program).await;
}

async fn a_directory_on_a_stalled_file_system_ends_at_the_deadline() {
    let can = rustix::process::geteuid().is_root() && Path::new("/dev/fuse").exists();
    assert!(can || std::env::var_os("CI").is_none(), "this test needs root and /dev/fuse");
    if !can {
        eprintln!("not run, it needs root and FUSE: sudo modprobe fuse; sudo ./check rust");
        return;
    }
    let directory = Directory::new("stalled");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", STALL, "sh"]);
    command.arg(&directory.0);
    hang(command, "directory", &directory.0).await;
}

/// Runs a host in such surroundings.
async fn hang(mut command: Command, what: &str, path: &Path) {
    let tag = Tag::new();
    let output = command
        .arg(std::env::current_exe().unwrap())
        .args(["--hanging", what])
        .arg(path)
        .env("PROTON_CLIENT_TEST", tag.name())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    tag.await_nobody("it was given up").await;
}

async fn a_guardian_that_never_answers_is_given_up() {
    let tag = Tag::new();
    // It has it from here.
    std::env::set_var("PROTON_CLIENT_TEST", tag.name());
    let fake = Fake::new("exec sleep 60");
    for transport in [Transport::Nursery, Transport::Process] {
        let options = Options::new().guardian(&fake.0).transport(transport);
        let open =
            |time| ProtonStream::open("true", [] as [&str; 0], options.clone().start_timeout(time));
        let error = soon("the deadline", open(SHORT)).await.unwrap_err();
        assert!(matches!(error, Error::StartTimeout(SHORT)), "{error}");
        let dropped = tokio::time::timeout(SHORT, open(LONG)).await;
        assert!(dropped.is_err(), "{dropped:?}");
        tag.await_nobody("it was given up").await;
    }
}

async fn a_nursery_that_never_answers_is_passed_over() {
    let tag = Tag::new();
    std::env::set_var("PROTON_CLIENT_TEST", tag.name());
    let real = "exec python3 -c 'import os, sys
os.execv(sys.argv[1], [\"proton-guardian (embedded)\"] + sys.argv[2:])'";
    let this = std::env::current_exe().unwrap();
    let script = format!("[ $1 = nursery ] && exec sleep 60\n{real} {} \"$@\"", this.display());
    let fake = Fake::new(&script);
    let options = Options::new().guardian(&fake.0).start_timeout(LONG);
    let (ps, messages) = ProtonStream::open("sleep", ["60"], options).await.unwrap();
    assert!(!ps.info().is_nursed);
    drop((ps, messages));
    tag.await_nobody("it was dropped").await;
}

async fn a_guardian_that_is_late_never_has_a_program_started_twice() {
    for milliseconds in [1_999, 2_001, 2_500] {
        let mut sleep = proton_stream::Command::new("sleep").arg("60").spawn().await.unwrap();
        let busy = parent(sleep.id().unwrap());
        let nursery = parent(busy);
        let mut waiting = Vec::new();
        eventually("two wait", || {
            waiting = children(nursery);
            waiting.retain(|pid| *pid != busy);
            waiting.len() == 2
        })
        .await;
        kill(nursery, Kernel::STOP);
        waiting.iter().for_each(|pid| kill(*pid, Kernel::STOP));
        let directory = Directory::new("late");
        let mark = directory.0.join("mark");
        let script = format!("echo >> {}; exec echo hello", mark.display());
        let late = tokio::spawn(async move {
            proton_stream::Command::new("sh").args(["-c", &script]).output().await
        });
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        waiting.iter().for_each(|pid| kill(*pid, Kernel::CONT));
        let late = soon("an outcome", late).await.unwrap();
        kill(nursery, Kernel::CONT);
        sleep.close().await.unwrap();
        let marks = std::fs::read(&mark).unwrap_or_default().len();
        match late {
            Ok(output) => assert_eq!((&output.stdout[..], marks), (&b"hello\n"[..], 1)),
            Err(Error::StartTimeout(_)) => assert!(marks <= 1, "{marks}"),
            Err(error) => panic!("{error}"),
        }
    }
}

async fn a_guardian_that_is_stopped_and_let_go_is_killed() {
    let tag = Tag::new();
    let options = tag.options().transport(Transport::Process).kill_delay(Duration::from_millis(10));
    let (ps, messages) = ProtonStream::open("sleep", ["60"], options).await.unwrap();
    let guardian = parent(ps.os_pid().unwrap());
    kill(guardian, Kernel::STOP);
    eventually("it is stopped", || is_stopped(guardian)).await;
    drop((ps, messages));
    eventually("it is gone", || !is_alive(guardian)).await;
    tag.await_nobody("its guardian is dead").await;
}

pub(crate) fn main(words: &[&str]) -> ExitCode {
    let [what, path] = words else { return ExitCode::FAILURE };
    let (what, path) = (what.to_string(), PathBuf::from(path));
    run(async move {
        let before = rest().await;
        for transport in [Transport::Nursery, Transport::Process] {
            let open = |time| {
                let options = Options::new().transport(transport).start_timeout(time);
                let (program, options) = match what.as_str() {
                    "program" => (path.clone(), options),
                    _ => ("/bin/true".into(), options.current_dir(&path)),
                };
                ProtonStream::open(program, [] as [&str; 0], options)
            };
            let error = soon("the deadline", open(SHORT)).await.unwrap_err();
            assert!(matches!(error, Error::StartTimeout(SHORT)), "{error}");
            eventually("nothing is left", || descendants() <= before).await;
            // One that is dropped, and that holds up nobody.
            let hanging = tokio::spawn(open(LONG));
            eventually("it hangs", || descendants() > before).await;
            soon("another start", proton_stream::Command::new("true").status()).await.unwrap();
            assert!(tokio::time::timeout(SHORT, std::future::pending::<()>()).await.is_err());
            assert!(!hanging.is_finished());
            hanging.abort();
            assert!(hanging.await.is_err());
            eventually("nothing is left", || descendants() <= before).await;
        }
    });
    ExitCode::SUCCESS
}

fn children(pid: u32) -> Vec<u32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    list.unwrap_or_default().split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// How many there are that wait, once the first of them have come.
async fn rest() -> usize {
    for _ in 0..3 {
        soon("a start", proton_stream::Command::new("true").status()).await.unwrap();
    }
    let mut before = 0;
    eventually("they have come", || {
        std::thread::sleep(Duration::from_millis(100));
        let now = descendants();
        std::mem::replace(&mut before, now) == now
    })
    .await;
    before
}

/// How many processes there are because of this one. By their parents: what a program's process
/// has in it before it is executed is root's to read.
fn descendants() -> usize {
    let numbers = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parents: HashMap<u32, u32> =
        pids.filter_map(|pid| Some((pid, crate::support::stat(pid)?.1))).collect();
    let is_ours = |pid: &u32| {
        let mut up = std::iter::successors(Some(*pid), |pid| parents.get(pid).copied()).skip(1);
        // Nobody is so far down; a number that was used again could make a circle.
        up.by_ref().take(100).any(|above| above == std::process::id())
    };
    parents.keys().filter(|pid| is_ours(pid)).count()
}
