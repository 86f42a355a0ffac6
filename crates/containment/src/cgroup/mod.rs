// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! The control group that a program runs in, on version 1, version 2 and hybrid hosts.
//!
//! On version 1 each controller has its own mount, so a run is one directory in each of those
//! asked for; on version 2 it is one directory, for which the controllers are enabled. It is made,
//! locked and filled before the fork; the child enters it by itself before it becomes the program,
//! through descriptors that were opened before the fork; afterwards what this run made is removed,
//! and nothing else.
//!
//! Names of either version's files are understood on both, where there is a counterpart.

mod after;
mod attach;
mod beneath;
mod freezer;
mod group;
mod leftover;
mod limits;
mod mounts;
mod occupy;
mod own;
mod patience;
mod place;
mod plan;
mod run;
mod settings;
mod stats;
mod subtree;
mod survey;
mod translate;

use std::time::Duration;

pub use after::{clean_after, Cleaning};
pub use attach::Attached;
pub(crate) use run::{prepare, Run};
pub use stats::Stats;
pub(crate) use survey::survey;

/// The group asked for. The default is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Names of controllers, as the kernel has them (of either version).
    pub controllers: Vec<Vec<u8>>,
    /// Where the group is, below each controller's mount.
    pub place: Option<Place>,
    /// What is written, in order, before the program runs.
    pub settings: Vec<Setting>,
    /// What is written after that. Their controllers need not be named, and without a place they
    /// are [`Place::Own`].
    pub limits: Vec<Limit>,
    /// How long a start waits for a run that is about to end on the same [`Place::Path`], and for
    /// what a crashed one left there; a delay before SIGKILL and two seconds is a good choice.
    /// The default is 2.5 s.
    pub wait: Duration,
    /// For tests: what kernels before 5.14 do, which have no `cgroup.kill`.
    #[doc(hidden)]
    pub without_kill_file: bool,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            controllers: Vec::new(),
            place: None,
            settings: Vec::new(),
            limits: Vec::new(),
            wait: Duration::from_millis(2500),
            without_kill_file: false,
        }
    }
}

impl Request {
    pub(crate) fn is_none(&self) -> bool {
        self.controllers.is_empty()
            && self.place.is_none()
            && self.settings.is_empty()
            && self.limits.is_empty()
    }
}

/// Where a group is: a path below the controllers' mounts, relative, without `..`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// An existing group; each run gets a new group in it. What crashed runs have left there is
    /// killed and removed.
    Base(Vec<u8>),
    /// The group that has the limits, made where it is missing; the program runs in a new group
    /// in it. One that has processes, or that another run holds, is refused (EBUSY), unless that
    /// run is about to end ([`Request::wait`]).
    Path(Vec<u8>),
    /// A new group in this process's own one, which must be delegated to it. On version 2 the
    /// processes that are in it are moved into a group beside the new one first.
    Own,
}

/// One value for one file of one controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The controller whose directory has the file; one of those requested.
    pub controller: Vec<u8>,
    /// The file's name.
    pub file: Vec<u8>,
    /// What is written, in one write.
    pub value: Vec<u8>,
}

/// A limit by a name that means the same on either version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// `memory`, `memory_high`, `swap`, `cpu`, `cpu_weight`, `io_weight`, `cpus`, `mems` or `pids`.
    pub name: Vec<u8>,
    /// Bytes (also as `256M`), CPUs (`0.5`), a weight (100 is what others have), a list (`0-3,7`)
    /// or a count; `max` is none, where there can be none.
    pub value: Vec<u8>,
}

/// What is to be written, under either version's name for the file.
#[derive(Debug)]
struct Wish {
    controller: Vec<u8>,
    file: Vec<u8>,
    value: Vec<u8>,
    /// The name that was given, for errors.
    key: Vec<u8>,
}

impl From<&Setting> for Wish {
    fn from(setting: &Setting) -> Self {
        Self {
            controller: setting.controller.clone(),
            file: setting.file.clone(),
            value: setting.value.clone(),
            key: setting.file.clone(),
        }
    }
}
