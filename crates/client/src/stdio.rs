// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Where a program's first three descriptors lead.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use proton_stream_protocol::Stdio as Wire;

/// Where one of a program's first three descriptors leads, as in [`std::process::Stdio`].
///
/// What is inherited or given travels to the guardian over its socket, and is the program's own:
/// nothing reads or writes in between, and its flags are as they were.
///
/// ```
/// use proton_stream::{Command, Stdio};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let users = std::fs::File::open("/etc/passwd")?;
/// let mut command = Command::new("head");
/// let output = command.args(["-n", "1"]).stdin(users).stderr(Stdio::null()).output().await?;
/// assert!(output.stdout.starts_with(b"root:"));
/// # Ok(())
/// # }
/// # fn main() {
/// #     proton_stream::maybe_run();
/// #     tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
/// # }
/// ```
#[derive(Debug)]
pub struct Stdio(Kind);

#[derive(Debug)]
enum Kind {
    Piped,
    Null,
    Inherit,
    Given(OwnedFd),
    SameAsStdout,
}

impl Stdio {
    /// A pipe, whose other end is in the [`Child`](crate::Child).
    pub fn piped() -> Self {
        Stdio(Kind::Piped)
    }

    /// `/dev/null`.
    pub fn null() -> Self {
        Stdio(Kind::Null)
    }

    /// This process's own descriptor of the same number.
    pub fn inherit() -> Self {
        Stdio(Kind::Inherit)
    }

    /// For stderr: the same as stdout.
    pub fn same_as_stdout() -> Self {
        Stdio(Kind::SameAsStdout)
    }

    pub(crate) fn wire(&self) -> Wire {
        match self.0 {
            Kind::Piped => Wire::Piped,
            Kind::Null => Wire::Null,
            Kind::Inherit | Kind::Given(_) => Wire::Passed,
            Kind::SameAsStdout => Wire::SameAsStdout,
        }
    }

    /// What travels, for descriptor `index`.
    pub(crate) fn descriptor(&self, index: usize) -> Option<BorrowedFd<'_>> {
        match (&self.0, index) {
            (Kind::Given(fd), _) => Some(fd.as_fd()),
            (Kind::Inherit, 0) => Some(rustix::stdio::stdin()),
            (Kind::Inherit, 1) => Some(rustix::stdio::stdout()),
            (Kind::Inherit, _) => Some(rustix::stdio::stderr()),
            _ => None,
        }
    }
}

impl From<OwnedFd> for Stdio {
    fn from(fd: OwnedFd) -> Self {
        Stdio(Kind::Given(fd))
    }
}

impl From<File> for Stdio {
    fn from(file: File) -> Self {
        OwnedFd::from(file).into()
    }
}

impl From<std::process::ChildStdout> for Stdio {
    fn from(stdout: std::process::ChildStdout) -> Self {
        OwnedFd::from(stdout).into()
    }
}

impl From<std::process::ChildStdin> for Stdio {
    fn from(stdin: std::process::ChildStdin) -> Self {
        OwnedFd::from(stdin).into()
    }
}

impl From<std::process::ChildStderr> for Stdio {
    fn from(stderr: std::process::ChildStderr) -> Self {
        OwnedFd::from(stderr).into()
    }
}
