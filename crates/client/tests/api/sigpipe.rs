// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! A host that has SIGPIPE at its default, as command-line programs do, is not killed by the death
//! of a guardian or of a nursery.

use std::time::Duration;

use proton_stream::{Options, ProtonStream, Transport};
use rustix::process::Signal as Kernel;
use tokio::signal::unix::{signal, Signal as PipeSignals, SignalKind};

use crate::support::{cases, eventually, hear_out, is_alive, kill, parent, sh, Case};

pub(crate) const CASES: &[Case] = cases![
    a_guardian_that_dies_sends_its_host_no_sigpipe,
    a_nursery_that_dies_sends_its_host_no_sigpipe,
    what_is_no_guardian_sends_its_host_no_sigpipe,
];

/// There was none. It would have killed the host.
async fn await_none(pipe: &mut PipeSignals) {
    let heard = tokio::time::timeout(Duration::from_millis(50), pipe.recv()).await;
    assert!(heard.is_err(), "SIGPIPE");
}

async fn a_guardian_that_dies_sends_its_host_no_sigpipe() {
    let mut pipe = signal(SignalKind::pipe()).unwrap();
    for transport in [Transport::Nursery, Transport::Process] {
        for _ in 0..20 {
            let (ps, mut messages) = sh("sleep 60", Options::new().transport(transport)).await;
            kill(parent(ps.os_pid().unwrap()), Kernel::KILL);
            // Written in the moment of its death and after it.
            while ps.os_pid().is_some() && ps.command("x").is_ok() {
                std::thread::yield_now();
            }
            hear_out(&mut messages).await;
        }
    }
    await_none(&mut pipe).await;
}

async fn a_nursery_that_dies_sends_its_host_no_sigpipe() {
    let mut pipe = signal(SignalKind::pipe()).unwrap();
    for _ in 0..20 {
        let (ps, mut messages) = sh("sleep 60", Options::new()).await;
        let guardian = parent(ps.os_pid().unwrap());
        let nursery = parent(guardian);
        kill(nursery, Kernel::KILL);
        kill(guardian, Kernel::KILL);
        // It is asked what became of the guardian.
        hear_out(&mut messages).await;
        eventually("it is gone", || !is_alive(nursery)).await;
    }
    await_none(&mut pipe).await;
}

async fn what_is_no_guardian_sends_its_host_no_sigpipe() {
    let mut pipe = signal(SignalKind::pipe()).unwrap();
    for _ in 0..20 {
        for transport in [Transport::Nursery, Transport::Process] {
            let options = Options::new().guardian("/bin/true").transport(transport);
            ProtonStream::open("true", [] as [&str; 0], options).await.unwrap_err();
        }
    }
    await_none(&mut pipe).await;
}
