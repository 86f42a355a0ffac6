// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Whatever dies first, nothing that the program started stays behind.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use proton_stream::{Options, ProtonStream};
use rustix::process::Signal as Kernel;
use tokio::io::AsyncReadExt;

use crate::guarded;
use crate::host::STATES;
use crate::support::{
    cases, end, eventually, fixture, hear_out, hear_until, is_alive, kill, parent, soon, Case, Tag,
};

pub(crate) const CASES: &[Case] = cases![
    a_dropped_handle_ends_the_tree,
    dropped_messages_end_the_tree,
    a_close_resolves_when_the_tree_is_dead,
    an_exit_is_told_when_the_tree_is_dead,
    a_runtime_that_ends_takes_its_programs_along,
    a_handle_that_is_dropped_while_nothing_runs_it_ends_the_tree,
    a_host_that_is_killed_in_any_state_leaves_nobody,
    a_killed_guardian_leaves_nobody,
    programs_of_a_killed_nursery_are_ended_by_a_close,
    a_killed_child_leaves_nobody,
    a_program_gets_sigterm_first,
    a_program_that_ignores_sigterm_is_gone_after_the_delay,
    a_program_in_a_pid_namespace_leaves_nobody,
    descendants_that_are_waited_for_end_by_themselves,
    a_program_inherits_nothing_of_its_host,
];

/// What programs do that are hard to end.
const SHAPES: &[&str] = &[
    "plain.sh",
    "background.sh",
    "daemon.sh",
    "holds_stdout.sh",
    "ignores_sigterm.sh",
    "stopped.sh",
];

/// Those, or, behind the guard, those that need one.
fn shapes() -> impl Iterator<Item = &'static str> {
    if guarded::is_behind() { guarded::SHAPES } else { SHAPES }.iter().copied()
}

async fn open(shape: &str, options: Options) -> (ProtonStream, proton_stream::Messages) {
    let (ps, mut messages) = ProtonStream::open(fixture(shape), [end()], options).await.unwrap();
    hear_until(&mut messages, "ready\n").await;
    (ps, messages)
}

pub(crate) async fn a_dropped_handle_ends_the_tree() {
    for shape in shapes() {
        let tag = Tag::new();
        let (ps, mut messages) = open(shape, tag.options()).await;
        assert!(!tag.alive().is_empty());
        drop(ps);
        // The messages go on to the exit.
        assert!(hear_out(&mut messages).await.exit.is_some(), "{shape}");
        assert_eq!(tag.alive(), [], "{shape}");
        let (ps, messages) = open(shape, tag.options()).await;
        drop((messages, ps));
        tag.await_nobody(shape).await;
    }
}

pub(crate) async fn dropped_messages_end_the_tree() {
    for shape in shapes() {
        let tag = Tag::new();
        let (_ps, messages) = open(shape, tag.options()).await;
        drop(messages);
        tag.await_nobody(shape).await;
    }
}

pub(crate) async fn a_close_resolves_when_the_tree_is_dead() {
    for shape in shapes() {
        let tag = Tag::new();
        let (ps, _messages) = open(shape, tag.options()).await;
        let exit = soon("the close", ps.close()).await.unwrap();
        assert_eq!((tag.alive(), exit.survivors()), (vec![], &[][..]), "{shape}");
    }
}

pub(crate) async fn an_exit_is_told_when_the_tree_is_dead() {
    // These end when they have read a line.
    let ends = |shape: &&str| !["ignores_sigterm.sh", "stopped.sh"].contains(shape);
    for shape in shapes().filter(ends) {
        let tag = Tag::new();
        let (ps, mut messages) = open(shape, tag.options()).await;
        ps.command("end\n").unwrap();
        assert!(hear_out(&mut messages).await.exit.is_some(), "{shape}");
        assert_eq!(tag.alive(), [], "{shape}");
    }
}

pub(crate) async fn a_runtime_that_ends_takes_its_programs_along() {
    for shape in shapes() {
        let tag = Tag::new();
        let options = tag.options();
        let held = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let held = runtime.block_on(open(shape, options));
            drop(runtime);
            held
        });
        let (ps, mut messages) = held.join().unwrap();
        assert_eq!(messages.recv().await, None);
        assert!(matches!(ps.close().await, Err(proton_stream::Error::NoRuntime)));
        tag.await_nobody(shape).await;
    }
}

pub(crate) async fn a_handle_that_is_dropped_while_nothing_runs_it_ends_the_tree() {
    for shape in shapes() {
        let tag = Tag::new();
        let options = tag.options();
        let runtime = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let held = runtime.block_on(open(shape, options));
            drop(held);
            runtime
        });
        let runtime = runtime.join().unwrap();
        tag.await_nobody(shape).await;
        runtime.shutdown_background();
    }
}

pub(crate) async fn a_host_that_is_killed_in_any_state_leaves_nobody() {
    for state in STATES {
        for (index, shape) in shapes().enumerate() {
            // At different moments: before its nursery is there, and in the starts that follow.
            let rounds = if state == "starting" && guarded::is_behind() { 6 } else { 1 };
            for round in 0..rounds {
                let delay = Duration::from_micros(1500 * (index * rounds + round) as u64);
                kill_a_host(state, shape, if state == "starting" { delay } else { Duration::ZERO })
                    .await;
            }
        }
    }
}

async fn kill_a_host(state: &str, shape: &str, delay: Duration) {
    // All that the host starts has it from the host itself, the nursery too.
    let tag = Tag::new();
    let mut host = Command::new("/proc/self/exe")
        .args(["--host", state, shape])
        .env("PROTON_CLIENT_TEST", tag.name())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = [0; 6];
    host.stdout.take().unwrap().read_exact(&mut said).unwrap();
    std::thread::sleep(delay);
    host.kill().unwrap();
    host.wait().unwrap();
    tag.await_nobody(&format!("{state}, {shape}")).await;
}

pub(crate) async fn a_killed_guardian_leaves_nobody() {
    for shape in shapes() {
        let tag = Tag::new();
        let (ps, mut messages) = open(shape, tag.options()).await;
        let pid = tag.alive().into_iter().find(|pid| Some(*pid) == ps.os_pid());
        kill(parent(pid.unwrap()), Kernel::KILL);
        let exit = hear_out(&mut messages).await.exit.unwrap();
        assert_eq!((tag.alive(), exit.survivors()), (vec![], &[][..]), "{shape}");
    }
}

pub(crate) async fn programs_of_a_killed_nursery_are_ended_by_a_close() {
    for shape in shapes() {
        let tag = Tag::new();
        let (ps, _messages) = open(shape, tag.options()).await;
        let nursery = parent(parent(ps.os_pid().unwrap()));
        kill(nursery, Kernel::KILL);
        eventually("it is gone", || !is_alive(nursery)).await;
        let exit = soon("the close", ps.close()).await.unwrap();
        assert_eq!((tag.alive(), exit.survivors()), (vec![], &[][..]), "{shape}");
    }
}

pub(crate) async fn a_killed_child_leaves_nobody() {
    for shape in shapes() {
        let tag = Tag::new();
        let mut command = proton_stream::Command::new(fixture(shape));
        command.arg(end()).with(|_| tag.options());
        let piped = proton_stream::Stdio::piped;
        let mut child = command.stdin(piped()).stdout(piped()).spawn().await.unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).await.unwrap();
        let exit = soon("the kill", child.kill()).await.unwrap();
        assert_eq!((tag.alive(), exit.survivors()), (vec![], &[][..]), "{shape}");
        let child = command.spawn().await.unwrap();
        drop(child);
        tag.await_nobody(shape).await;
    }
}

async fn a_program_gets_sigterm_first() {
    let file = std::env::temp_dir().join(format!("proton-term-{}", std::process::id()));
    let script = "import os, signal, sys\n\
                  def end(*_):\n    open(sys.argv[1], 'w').write('heard')\n    os._exit(0)\n\
                  signal.signal(15, end)\nprint('ready', flush=True)\nwhile True: signal.pause()";
    let path = file.to_str().unwrap();
    let options = Options::new().kill_delay(Duration::from_secs(20));
    let (ps, mut messages) =
        ProtonStream::open("python3", ["-c", script, path], options).await.unwrap();
    hear_until(&mut messages, "ready\n").await;
    drop((ps, messages));
    eventually("it has heard", || std::fs::read(&file).is_ok_and(|text| text == b"heard")).await;
    std::fs::remove_file(&file).unwrap();
}

async fn a_program_that_ignores_sigterm_is_gone_after_the_delay() {
    let tag = Tag::new();
    let options = tag.options().kill_delay(Duration::from_millis(1));
    let script = "trap '' TERM; echo ready; while :; do sleep 9; done";
    let (ps, mut messages) = ProtonStream::open("sh", ["-c", script], options).await.unwrap();
    hear_until(&mut messages, "ready\n").await;
    let exit = soon("the close", ps.close()).await.unwrap();
    assert_eq!(exit.signal(), Some(proton_stream::Signal::KILL));
    assert_eq!(tag.alive(), []);
}

async fn a_program_in_a_pid_namespace_leaves_nobody() {
    let tag = Tag::new();
    let options = tag.options().containment(proton_stream::Containment::PidNamespace);
    let (ps, messages) =
        match ProtonStream::open(fixture("daemon.sh"), [] as [&str; 0], options).await {
            Ok(opened) => opened,
            // A host whose kernel makes none refuses, and says so.
            Err(error) => {
                assert_eq!(error.step(), Some(proton_stream::Step::Namespace), "{error}");
                return;
            }
        };
    assert_eq!(ps.info().level, proton_stream::Level::PidNamespace);
    drop((ps, messages));
    tag.await_nobody("dropped").await;
}

async fn descendants_that_are_waited_for_end_by_themselves() {
    let tag = Tag::new();
    let options = tag.options().on_exit(proton_stream::OnExit::Wait);
    let script = "(sleep 0.3; echo late) & echo early; exit 5";
    let (_ps, mut messages) = ProtonStream::open("sh", ["-c", script], options).await.unwrap();
    let said = hear_out(&mut messages).await;
    assert_eq!(said.stdout, b"early\nlate\n");
    assert_eq!(said.exit.unwrap().code(), Some(5));
    assert_eq!(tag.alive(), []);
}

/// A process's group and session (proc(5)).
fn group_and_session(pid: u32) -> [u32; 2] {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = stat.rsplit_once(") ").unwrap().1.split(' ').skip(2).take(2);
    let numbers: Vec<u32> = fields.map(|field| field.parse().unwrap()).collect();
    numbers.try_into().unwrap()
}

async fn a_program_inherits_nothing_of_its_host() {
    let _file = std::fs::File::open("/etc/passwd").unwrap();
    let script = "ls /proc/self/fd; grep SigIgn /proc/self/status; grep SigBlk /proc/self/status";
    let (ps, mut messages) =
        ProtonStream::open("sh", ["-c", &format!("{script}; read x")], Options::new())
            .await
            .unwrap();
    let pid = ps.os_pid().unwrap();
    assert!(is_alive(pid));
    let text = hear_until(&mut messages, "SigBlk:\t0000000000000000\n").await;
    // `ls` has opened the directory that it lists.
    assert_ne!(group_and_session(pid), group_and_session(std::process::id()));
    assert_eq!(group_and_session(pid), [pid, pid]);
    assert!(text.starts_with("0\n1\n2\n3\nSigIgn:\t0000000000000000\n"), "{text}");
}
