// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! How a program ended is told as what it was.

use std::time::Duration;

use proton_stream::{GuardianEnd, Options, ProtonStream, Reason, Signal, Transport};
use rustix::process::Signal as Kernel;

use crate::support::{
    cases, eventually, hear_out, hear_until, is_stopped, kill, parent, sh, soon, Case, Tag,
};

pub(crate) const CASES: &[Case] = cases![
    every_status_is_told_as_a_status,
    every_terminating_signal_is_told_as_that_signal,
    what_a_program_used_is_told,
    a_killed_guardian_is_told_as_such_when_what_it_left_is_dead,
    a_killed_guardian_without_a_nursery_is_told_as_such,
    a_signal_to_the_guardian_is_told_as_its_end,
    a_guardian_that_is_stuck_is_killed_by_a_close,
    a_guardian_that_is_stuck_is_killed_by_a_kill,
    a_guardian_that_is_stopped_goes_on,
    a_pid_is_none_once_it_was_reaped,
    a_program_that_reads_its_own_output_ends_the_run_not_the_frames,
];

async fn every_status_is_told_as_a_status() {
    for status in 0..=255_u8 {
        let script = format!("exit {status}");
        let (_ps, mut messages) = sh(&script, Options::new()).await;
        let exit = hear_out(&mut messages).await.exit.unwrap();
        assert_eq!((exit.code(), exit.signal()), (Some(status.into()), None));
        let reason = if status == 0 { Reason::Normal } else { Reason::Status(status) };
        assert_eq!((exit.reason(), exit.success()), (&reason, status == 0));
    }
}

async fn every_terminating_signal_is_told_as_that_signal() {
    for number in (1..=31).filter(|number| ![17, 18, 19, 20, 21, 22, 23, 28].contains(number)) {
        let signal = Signal::new(number).unwrap();
        let (ps, mut messages) = ProtonStream::open(
            "sh",
            ["-c", "ulimit -c 0; echo ready; exec sleep 60"],
            Options::new(),
        )
        .await
        .unwrap();
        hear_until(&mut messages, "ready\n").await;
        ps.signal(signal);
        let exit = hear_out(&mut messages).await.exit.unwrap();
        assert_eq!((exit.code(), exit.signal()), (None, Some(signal)));
        assert_eq!(exit.reason(), &Reason::Signal(signal));
    }
}

async fn what_a_program_used_is_told() {
    let script = "import os\nwhile os.times().user < 0.05: pass";
    let (_ps, mut messages) =
        ProtonStream::open("python3", ["-c", script], Options::new()).await.unwrap();
    let exit = hear_out(&mut messages).await.exit.unwrap();
    let usage = exit.usage().unwrap();
    assert!(usage.user_time.as_millis() >= 40, "{usage:?}");
    assert!(usage.max_rss_kib > 1000, "{usage:?}");
}

async fn killed(transport: Transport) -> (Vec<u32>, Option<proton_stream::Exit>) {
    let tag = Tag::new();
    let script = "setsid sleep 60 & sleep 60 & echo ready; trap '' TERM; while :; do sleep 9; done";
    let (ps, mut messages) = sh(script, tag.options().transport(transport)).await;
    hear_until(&mut messages, "ready\n").await;
    assert_eq!(ps.info().is_nursed, transport == Transport::Nursery);
    eventually("all run", || tag.alive().len() >= 4).await;
    kill(parent(ps.os_pid().unwrap()), Kernel::KILL);
    let exit = hear_out(&mut messages).await.exit;
    (tag.alive(), exit)
}

async fn a_killed_guardian_is_told_as_such_when_what_it_left_is_dead() {
    let (alive, exit) = killed(Transport::Nursery).await;
    assert_eq!(exit.unwrap().reason(), &Reason::Guardian(GuardianEnd::Signalled(9)));
    assert_eq!(alive, []);
}

async fn a_killed_guardian_without_a_nursery_is_told_as_such() {
    let tag = Tag::new();
    let (ps, mut messages) =
        sh("echo ready; read x", tag.options().transport(Transport::Process)).await;
    hear_until(&mut messages, "ready\n").await;
    kill(parent(ps.os_pid().unwrap()), Kernel::KILL);
    let exit = hear_out(&mut messages).await.exit.unwrap();
    assert_eq!(exit.reason(), &Reason::Guardian(GuardianEnd::Signalled(9)));
    assert!(!exit.success() && exit.status().is_none());
    tag.await_nobody("the guardian was killed").await;
}

async fn a_signal_to_the_guardian_is_told_as_its_end() {
    let tag = Tag::new();
    let (ps, mut messages) = sh("echo ready; sleep 60", tag.options()).await;
    hear_until(&mut messages, "ready\n").await;
    kill(parent(ps.os_pid().unwrap()), Kernel::TERM);
    let exit = hear_out(&mut messages).await.exit.unwrap();
    assert_eq!(exit.reason(), &Reason::Guardian(GuardianEnd::Dismissed(15)));
    assert_eq!(tag.alive(), []);
}

async fn a_guardian_that_is_stuck_is_killed_by_a_close() {
    // Also by one that was dropped when it had been asked for, and by the handle's end.
    for how in ["waits", "is cut", "is dropped"] {
        let tag = Tag::new();
        let options = tag.options().transport(Transport::Process).kill_delay(Duration::ZERO);
        let (ps, mut messages) = sh("echo ready; exec sleep 60", options).await;
        hear_until(&mut messages, "ready\n").await;
        let guardian = parent(ps.os_pid().unwrap());
        kill(guardian, Kernel::STOP);
        eventually("it is stopped", || is_stopped(guardian)).await;
        match how {
            "waits" => drop(soon("the close", ps.close()).await.unwrap()),
            "is cut" => drop(crate::cancel::cut(1, ps.close()).await),
            _ => drop(ps),
        }
        let exit = hear_out(&mut messages).await.exit.unwrap();
        assert_eq!(exit.reason(), &Reason::Guardian(GuardianEnd::Stuck), "{how}");
        tag.await_nobody("the guardian was killed").await;
    }
}

async fn a_guardian_that_is_stuck_is_killed_by_a_kill() {
    let tag = Tag::new();
    let options = tag.options().transport(Transport::Process).kill_delay(Duration::ZERO);
    let mut command = proton_stream::Command::new("sleep");
    let mut child = command.arg("60").with(|_| options).spawn().await.unwrap();
    let guardian = parent(child.id().unwrap());
    kill(guardian, Kernel::STOP);
    eventually("it is stopped", || is_stopped(guardian)).await;
    let exit = soon("the kill", child.kill()).await.unwrap();
    assert_eq!(exit.reason(), &Reason::Guardian(GuardianEnd::Stuck));
    tag.await_nobody("the guardian was killed").await;
}

async fn a_guardian_that_is_stopped_goes_on() {
    let (ps, mut messages) = sh("echo ready; read x; echo $x", Options::new()).await;
    hear_until(&mut messages, "ready\n").await;
    // Its nursery continues it.
    kill(parent(ps.os_pid().unwrap()), Kernel::STOP);
    ps.command("still here\n").unwrap();
    hear_until(&mut messages, "still here\n").await;
}

async fn a_pid_is_none_once_it_was_reaped() {
    // More than the window: the exit has to wait for the reader.
    let options = Options::new().window(1000, 1000);
    let (ps, mut messages) = sh("head -c 30000 /dev/zero", options).await;
    eventually("it was reaped", || ps.os_pid().is_none()).await;
    let said = hear_out(&mut messages).await;
    assert_eq!((said.stdout.len(), said.exit.unwrap().success()), (30_000, true));
}

async fn a_program_that_reads_its_own_output_ends_the_run_not_the_frames() {
    // Large enough for the guardian to announce more than it has read.
    let script = "import os, threading\n\
                  def steal():\n    fd = os.open('/proc/self/fd/1', os.O_RDONLY)\n    \
                  while True: os.read(fd, 65536)\n\
                  threading.Thread(target=steal, daemon=True).start()\n\
                  while True: os.write(1, b'x' * 65536)";
    let (_ps, mut messages) =
        ProtonStream::open("python3", ["-c", script], Options::new()).await.unwrap();
    let exit = hear_out(&mut messages).await.exit.unwrap();
    assert_eq!(exit.reason(), &Reason::Guardian(GuardianEnd::ShortFrame));
}
