// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! A run's cgroup is gone when its end is told, whoever has died. These run behind the guard, in a
//! base of their own: they kill whoever they find in a group.

use std::io::Read;
use std::process::{Command, Stdio};

use proton_stream::{Level, Messages, Options, ProtonStream, Transport};
use rustix::process::Signal as Kernel;

use crate::groups::Group;
use crate::support::{
    end, eventually, fixture, hear_out, hear_until, is_root, is_stopped, kill, parent, soon, Tag,
};

const BASE: &str = "proton_stream_test_swept";

/// Not the guard's own controller, whose group they stay in.
fn base() -> Option<Group> {
    is_root().then(|| Group::make(BASE, &["cpu"]))
}

fn options(tag: &Tag) -> Options {
    tag.options().cgroup_base(BASE).limit("cpu", 1)
}

async fn open(options: Options) -> (ProtonStream, Messages) {
    let (ps, mut messages) =
        ProtonStream::open(fixture("background.sh"), [end()], options).await.unwrap();
    hear_until(&mut messages, "ready\n").await;
    assert_eq!(ps.info().level, Level::Cgroup);
    (ps, messages)
}

pub(crate) async fn a_group_is_gone_when_the_end_is_told() {
    let Some(base) = base() else { return };
    let tag = Tag::new();
    let (ps, mut messages) = open(options(&tag)).await;
    assert_eq!(base.runs().len(), 1);
    ps.command("end\n").unwrap();
    hear_out(&mut messages).await.exit.unwrap();
    assert_eq!((base.runs(), tag.alive()), (vec![], vec![]));
    let (ps, _messages) = open(options(&tag)).await;
    soon("the close", ps.close()).await.unwrap();
    assert_eq!((base.runs(), tag.alive()), (vec![], vec![]));
}

pub(crate) async fn a_killed_guardians_group_is_gone_when_that_is_told() {
    let Some(base) = base() else { return };
    for transport in [Transport::Nursery, Transport::Process] {
        let tag = Tag::new();
        let (ps, mut messages) = open(options(&tag).transport(transport)).await;
        kill(parent(ps.os_pid().unwrap()), Kernel::KILL);
        let exit = hear_out(&mut messages).await.exit.unwrap();
        assert_eq!((base.runs(), tag.alive(), exit.survivors()), (vec![], vec![], &[][..]));
    }
}

/// A host with a program in the base, and that program.
async fn host(tag: &Tag) -> (std::process::Child, u32) {
    let mut host = Command::new("/proc/self/exe")
        .args(["--host", "idle", "background.sh"])
        .env("PROTON_CLIENT_TEST", tag.name())
        .env("PROTON_CLIENT_BASE", BASE)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    host.stdout.take().unwrap().read_exact(&mut [0; 6]).unwrap();
    let is_program = |pid: &u32| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.starts_with(b"/bin/sh\0") && words.windows(13).any(|part| part == b"background.sh")
    };
    let program = tag.alive().into_iter().find(is_program).expect("a program");
    (host, program)
}

pub(crate) async fn a_killed_host_leaves_no_group() {
    let Some(base) = base() else { return };
    let tag = Tag::new();
    let (mut host, _) = host(&tag).await;
    assert_eq!(base.runs().len(), 1);
    host.kill().unwrap();
    host.wait().unwrap();
    tag.await_nobody("the host was killed").await;
    eventually("its group is gone", || base.runs().is_empty()).await;
}

pub(crate) async fn what_a_crash_of_all_has_left_goes_with_the_next_start() {
    let Some(base) = base() else { return };
    let tag = Tag::new();
    let (mut host, program) = host(&tag).await;
    let guardian = parent(program);
    let nursery = parent(guardian);
    // None of them can see to the others.
    for pid in [nursery, guardian] {
        kill(pid, Kernel::STOP);
        eventually("it is stopped", || is_stopped(pid)).await;
    }
    host.kill().unwrap();
    host.wait().unwrap();
    [nursery, guardian].iter().for_each(|pid| kill(*pid, Kernel::KILL));
    // The program goes with its guardian, by the kernel; what it had started does not.
    eventually("one is left", || tag.alive().len() == 1).await;
    assert_eq!(base.runs().len(), 1);
    let (ps, _messages) = open(options(&Tag::new())).await;
    tag.await_nobody("another run began").await;
    assert_eq!(base.runs().len(), 1);
    soon("the close", ps.close()).await.unwrap();
    assert!(base.runs().is_empty());
}
