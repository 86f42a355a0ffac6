// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Whatever dies first, nothing that the program started stays behind.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use proton_stream::{Options, ProtonStream};
use rustix::process::Signal as Kernel;

use crate::host::STATES;
use crate::support::{
    cases, eventually, fixture, hear_out, hear_until, is_alive, kill, parent, soon, Case, Tag,
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
    a_program_gets_sigterm_first,
    a_program_that_ignores_sigterm_is_gone_after_the_delay,
    a_program_in_a_pid_namespace_leaves_nobody,
    limits_hold_and_are_told_and_changed,
    a_frozen_program_stands_still_and_goes_on,
    descendants_that_are_waited_for_end_by_themselves,
    a_program_inherits_nothing_of_its_host,
];

/// What programs do that are hard to end.
const SHAPES: [&str; 6] = [
    "plain.sh",
    "background.sh",
    "daemon.sh",
    "holds_stdout.sh",
    "ignores_sigterm.sh",
    "stopped.sh",
];

async fn open(shape: &str, options: Options) -> (ProtonStream, proton_stream::Messages) {
    let none = [] as [&str; 0];
    let (ps, mut messages) = ProtonStream::open(fixture(shape), none, options).await.unwrap();
    hear_until(&mut messages, "ready\n").await;
    (ps, messages)
}

async fn a_dropped_handle_ends_the_tree() {
    for shape in SHAPES {
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

async fn dropped_messages_end_the_tree() {
    for shape in SHAPES {
        let tag = Tag::new();
        let (_ps, messages) = open(shape, tag.options()).await;
        drop(messages);
        tag.await_nobody(shape).await;
    }
}

async fn a_close_resolves_when_the_tree_is_dead() {
    for shape in SHAPES {
        let tag = Tag::new();
        let (ps, _messages) = open(shape, tag.options()).await;
        let exit = soon("the close", ps.close()).await.unwrap();
        assert_eq!((tag.alive(), exit.survivors()), (vec![], &[][..]), "{shape}");
    }
}

async fn an_exit_is_told_when_the_tree_is_dead() {
    // These end when they have read a line.
    for shape in ["plain.sh", "background.sh", "daemon.sh", "holds_stdout.sh"] {
        let tag = Tag::new();
        let (ps, mut messages) = open(shape, tag.options()).await;
        ps.command("end\n").unwrap();
        assert!(hear_out(&mut messages).await.exit.is_some(), "{shape}");
        assert_eq!(tag.alive(), [], "{shape}");
    }
}

async fn a_runtime_that_ends_takes_its_programs_along() {
    for shape in SHAPES {
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

async fn a_handle_that_is_dropped_while_nothing_runs_it_ends_the_tree() {
    let tag = Tag::new();
    let options = tag.options();
    let runtime = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let held = runtime.block_on(open("background.sh", options));
        drop(held);
        runtime
    });
    let runtime = runtime.join().unwrap();
    tag.await_nobody("dropped").await;
    tokio::task::spawn_blocking(|| drop(runtime)).await.unwrap();
}

async fn a_host_that_is_killed_in_any_state_leaves_nobody() {
    for state in STATES {
        for (index, shape) in SHAPES.into_iter().enumerate() {
            // All that the host starts has it from the host itself, the nursery too.
            let tag = Tag::named(&format!("{}-{state}-{shape}", std::process::id()));
            let mut host = Command::new("/proc/self/exe")
                .args(["--host", state, shape])
                .env("PROTON_CLIENT_TEST", tag.name())
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut said = [0; 6];
            host.stdout.take().unwrap().read_exact(&mut said).unwrap();
            if state == "starting" {
                // At different moments: before its nursery is there, and in the starts that follow.
                std::thread::sleep(Duration::from_micros(1500 * index as u64));
            }
            host.kill().unwrap();
            host.wait().unwrap();
            tag.await_nobody(&format!("{state}, {shape}")).await;
        }
    }
}

async fn a_killed_guardian_leaves_nobody() {
    for shape in SHAPES {
        let tag = Tag::new();
        let (ps, mut messages) = open(shape, tag.options()).await;
        let pid = tag.alive().into_iter().find(|pid| Some(*pid) == ps.os_pid());
        kill(parent(pid.unwrap()), Kernel::KILL);
        let exit = hear_out(&mut messages).await.exit.unwrap();
        assert_eq!((tag.alive(), exit.survivors()), (vec![], &[][..]), "{shape}");
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

async fn limits_hold_and_are_told_and_changed() {
    let base = "proton_stream_test_client";
    let is_root = rustix::process::geteuid().is_root();
    assert!(is_root || std::env::var_os("CI").is_none(), "this test needs root");
    if !is_root {
        eprintln!("not run, it needs root: sudo ./check rust");
        return;
    }
    let group = Group::make(base, &["memory", "pids"]);
    let options = Options::new().cgroup_base(base).limit("memory", "64M").limit("pids", 20);
    let (ps, mut messages) =
        ProtonStream::open("sh", ["-c", "echo ready; read x"], options.clone()).await.unwrap();
    hear_until(&mut messages, "ready\n").await;
    assert_eq!(ps.info().level, proton_stream::Level::Cgroup);
    let stats = ps.stats().await.unwrap();
    assert_eq!((stats.memory_limit, stats.pids_limit), (Some(64 << 20), Some(20)));
    ps.update_limits([("memory", "80M"), ("pids", "30")]).await.unwrap();
    let stats = ps.stats().await.unwrap();
    assert_eq!((stats.memory_limit, stats.pids_limit), (Some(80 << 20), Some(30)));
    let refused = ps.update_limits([("speed", 1)]).await.unwrap_err();
    assert!(matches!(refused, proton_stream::Error::Invalid { .. }), "{refused}");
    ps.close().await.unwrap();
    // What wants more is told of as such.
    let script = "x = bytearray(200 << 20)";
    let (_ps, mut messages) = ProtonStream::open("python3", ["-c", script], options).await.unwrap();
    let exit = hear_out(&mut messages).await.exit.unwrap();
    assert!(exit.oom_killed() || exit.code() == Some(1), "{exit}");
    drop(group);
    // Without a group nothing is counted.
    let (ps, _messages) = open("plain.sh", Options::new()).await;
    let refused = ps.stats().await.unwrap_err();
    assert!(matches!(refused, proton_stream::Error::Group { .. }), "{refused}");
}

async fn a_frozen_program_stands_still_and_goes_on() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "this test needs root");
        eprintln!("not run, it needs root: sudo ./check rust");
        return;
    }
    let base = "proton_stream_test_frozen";
    let _group = Group::make(base, &["freezer", "pids"]);
    let options = Options::new().cgroup_base(base).limit("pids", 20);
    // On version 2 every group can be frozen, and no controller is for that.
    let options = match std::path::Path::new("/sys/fs/cgroup/freezer").exists() {
        true => options.cgroup_controller("freezer"),
        false => options,
    };
    let script = "while :; do echo tick; sleep 0.01; done";
    let (ps, mut messages) = ProtonStream::open("sh", ["-c", script], options).await.unwrap();
    hear_until(&mut messages, "tick\n").await;
    soon("the freeze", ps.freeze()).await.unwrap();
    // What it had said before may still come.
    while tokio::time::timeout(Duration::from_millis(200), messages.recv()).await.is_ok() {}
    let told = tokio::time::timeout(Duration::from_millis(300), messages.recv()).await;
    assert!(told.is_err(), "{told:?}");
    soon("the thaw", ps.thaw()).await.unwrap();
    hear_until(&mut messages, "tick\n").await;
    // Frozen, it can be closed all the same.
    soon("the freeze", ps.freeze()).await.unwrap();
    soon("the close", ps.close()).await.unwrap();
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

/// Groups of this test's own, on whichever version the host has.
struct Group(Vec<std::path::PathBuf>);

impl Group {
    fn make(name: &str, controllers: &[&str]) -> Self {
        let root = std::path::Path::new("/sys/fs/cgroup");
        let paths: Vec<_> = match root.join("cgroup.controllers").exists() {
            true => vec![root.join(name)],
            false => {
                controllers.iter().map(|controller| root.join(controller).join(name)).collect()
            }
        };
        for path in &paths {
            std::fs::create_dir_all(path).expect("a group");
        }
        Self(paths)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = std::fs::remove_dir(path);
        }
    }
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
    assert!(text.starts_with("0\n1\n2\n3\nSigIgn:\t0000000000000000\n"), "{text}");
}
