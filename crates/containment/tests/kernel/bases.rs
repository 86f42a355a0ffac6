// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Groups that a case makes for itself, and removes.

use std::fs;
use std::path::{Path, PathBuf};

use proton_stream_containment::cgroup::{Place, Request, Setting};
use proton_stream_containment::Specification;
use rustix::time::{clock_gettime, ClockId};

use crate::host::{bytes, eventually};
use crate::mount_of;

pub(crate) fn setting(controller: &str, file: &str, value: &str) -> Setting {
    Setting { controller: controller.into(), file: file.into(), value: value.into() }
}

/// The same program in a group.
pub(crate) fn inside(
    spec: Specification,
    controllers: &[&str],
    place: Place,
    settings: Vec<Setting>,
) -> Specification {
    Specification {
        cgroup: Request {
            controllers: bytes(controllers),
            place: Some(place),
            settings,
            ..Request::default()
        },
        ..spec
    }
}

/// Groups with one name in several hierarchies.
pub(crate) struct Bases(Vec<PathBuf>, String);

impl Bases {
    /// Makes them, at the mounts of these controllers.
    pub(crate) fn new(controllers: &[&str]) -> Self {
        // Behind the guard the pid is that of everybody else's case there.
        let now = clock_gettime(ClockId::Monotonic);
        let (pid, seconds) = (std::process::id(), now.tv_sec);
        let name = format!("proton_stream_test_{pid}_{seconds}{:09}", now.tv_nsec);
        let paths = controllers.iter().map(|controller| mount_of(controller).join(&name));
        let mut paths: Vec<_> = paths.collect();
        // On version 2 they are one.
        paths.dedup();
        for path in &paths {
            fs::create_dir(path).expect("a group of our own");
        }
        Self(paths, name)
    }

    pub(crate) fn name(&self) -> &str {
        &self.1
    }

    /// The first of the directories.
    pub(crate) fn directory(&self) -> &Path {
        &self.0[0]
    }

    pub(crate) fn place(&self) -> Place {
        Place::Base(self.1.clone().into_bytes())
    }

    pub(crate) fn path(&self, below: &str) -> Place {
        Place::Path(format!("{}/{below}", self.1).into_bytes())
    }

    /// What is in them.
    pub(crate) fn groups(&self) -> Vec<String> {
        let entries = self.0.iter().flat_map(|path| fs::read_dir(path).expect("the base"));
        entries
            .map(|entry| entry.expect("an entry"))
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.file_name().into_string().expect("text"))
            .collect()
    }
}

impl Drop for Bases {
    fn drop(&mut self) {
        for path in &self.0 {
            // Deepest first; a case that failed may have left some.
            for _ in 0..3 {
                for entry in fs::read_dir(path).into_iter().flatten().flatten() {
                    let _ = fs::remove_dir(entry.path());
                }
            }
            // A second panic would hide the first.
            if std::thread::panicking() {
                let _ = fs::remove_dir(path);
                continue;
            }
            eventually("the base can be removed", || {
                fs::remove_dir(path).is_ok() || !path.exists()
            });
        }
    }
}
