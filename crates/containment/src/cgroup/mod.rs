// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! The control group that a program runs in.
//!
//! On a version 1 hierarchy each controller has its own mount, so a run is one directory in each
//! of those asked for. It is made, filled and locked before the fork; the child enters it by
//! itself before it becomes the program, through descriptors that were opened before the fork;
//! afterwards what this run made is removed, and nothing else.

mod beneath;
mod directory;
mod mounts;
mod run;
mod settings;

pub(crate) use run::{prepare, Run};

/// The group asked for. The default is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Names of controllers, as the kernel has them.
    pub controllers: Vec<Vec<u8>>,
    /// Where the group is, below each controller's mount.
    pub place: Option<Place>,
    /// What is written, in order, before the program runs.
    pub settings: Vec<Setting>,
}

/// Where a group is: a path below the controllers' mounts, relative, without `..`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// An existing group; each run gets a new group in it.
    Base(Vec<u8>),
    /// The group itself, made where it is missing. One that has processes, or that another run
    /// holds, is refused (EBUSY); what enters it later ends with the program.
    Path(Vec<u8>),
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
