// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Why something was not done: a start, a limit, a freeze.

use std::fmt;
use std::io;

/// What was being done when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Step {
    /// The specification can't be carried out as it stands.
    Specification,
    /// Looking up and executing the program.
    Exec,
    /// Entering the program's directory.
    Directory,
    /// Finding or becoming the user.
    User,
    /// Finding or becoming the group.
    Group,
    /// Finding or setting the supplementary groups.
    Groups,
    /// Making, filling or entering the cgroup.
    Cgroup,
    /// Making the process.
    Fork,
    /// Preparing descriptors 0, 1 and 2.
    Stdio,
    /// Setting an attribute of the process.
    Process,
    /// Making the namespaces that the program is to have.
    Namespace,
}

impl Step {
    fn phrase(self) -> &'static str {
        match self {
            Step::Specification => "the specification can't be carried out",
            Step::Exec => "the program can't be executed",
            Step::Directory => "the directory can't be entered",
            Step::User => "the user can't be taken on",
            Step::Group => "the group can't be taken on",
            Step::Groups => "the supplementary groups can't be taken on",
            Step::Cgroup => "the cgroup can't be set up",
            Step::Fork => "no process can be made",
            Step::Stdio => "the standard streams can't be prepared",
            Step::Process => "an attribute of the process can't be set",
            Step::Namespace => "the namespace can't be made",
        }
    }
}

/// Why a program was not started, of which then nothing runs, or why its group was not changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// What was being done.
    pub step: Step,
    /// The kernel's reason; 0 where it gave none, which means: for [`Step::User`],
    /// [`Step::Group`] and [`Step::Groups`] that there is no such entry, for [`Step::Cgroup`]
    /// that the kernel did not keep the value, for [`Step::Specification`] that the sentence in
    /// `detail` says it all.
    pub errno: i32,
    /// The path, name or key that failed, or a sentence.
    pub detail: Vec<u8>,
}

impl Error {
    pub(crate) fn new(step: Step, errno: i32, detail: impl Into<Vec<u8>>) -> Self {
        Self { step, errno, detail: detail.into() }
    }

    pub(crate) fn specification(sentence: impl Into<Vec<u8>>) -> Self {
        Self::new(Step::Specification, 0, sentence)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.step.phrase())?;
        if !self.detail.is_empty() {
            write!(f, ": {}", String::from_utf8_lossy(&self.detail))?;
        }
        if self.errno != 0 {
            return write!(f, ": {}", io::Error::from_raw_os_error(self.errno));
        }
        match self.step {
            Step::User => f.write_str(": no such user"),
            Step::Group | Step::Groups => f.write_str(": no such group"),
            Step::Cgroup => f.write_str(": the kernel did not keep the value"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Error {}
