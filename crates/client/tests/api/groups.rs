// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Programs in a cgroup: limits, counts, freezing.

use std::time::Duration;

use proton_stream::{Options, ProtonStream};

use crate::support::{cases, hear_out, hear_until, is_root, sh, soon, Case};

pub(crate) const CASES: &[Case] =
    cases![limits_hold_and_are_told_and_changed, a_frozen_program_stands_still_and_goes_on];

async fn limits_hold_and_are_told_and_changed() {
    let base = "proton_stream_test_client";
    if !is_root() {
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
    let (ps, _messages) = sh("read x", Options::new()).await;
    let refused = ps.stats().await.unwrap_err();
    assert!(matches!(refused, proton_stream::Error::Group { .. }), "{refused}");
}

async fn a_frozen_program_stands_still_and_goes_on() {
    if !is_root() {
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

/// Groups of this test's own, on whichever version the host has.
pub(crate) struct Group(Vec<std::path::PathBuf>);

impl Group {
    pub(crate) fn make(name: &str, controllers: &[&str]) -> Self {
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

impl Group {
    /// The groups of runs in it.
    pub(crate) fn runs(&self) -> Vec<std::path::PathBuf> {
        let entries = self.0.iter().flat_map(|path| std::fs::read_dir(path).expect("a group"));
        entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir()).collect()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = std::fs::remove_dir(path);
        }
    }
}
