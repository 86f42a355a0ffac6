// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! What is to be started, and how. Everything is bytes: no encoding is assumed.

use crate::cgroup;

/// One program and everything about it that is decided before it runs.
///
/// The default is an empty specification: a program must be named before [`start()`](crate::start())
/// takes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Specification {
    /// A path when it has a `/`, else a name that is looked up in the program's own `PATH`.
    pub program: Vec<u8>,
    /// What follows `argv[0]`.
    pub arguments: Vec<Vec<u8>>,
    /// `argv[0]`; the program as given where there is none.
    pub arg0: Option<Vec<u8>>,
    /// `KEY=VALUE` strings of the caller's own environment, with a NUL between two.
    pub inherited: Vec<u8>,
    /// `KEY=VALUE` strings that win over the inherited ones; of equal keys the last one wins.
    pub set: Vec<Vec<u8>>,
    /// Keys that are removed from the inherited ones.
    pub unset: Vec<Vec<u8>>,
    /// Entered, with the program's credentials, before the program is looked up.
    pub directory: Option<Vec<u8>>,
    /// A name, else a decimal number.
    pub user: Option<Vec<u8>>,
    /// A name, else a decimal number; the user's own group where there is none.
    pub group: Option<Vec<u8>>,
    /// The supplementary groups, each a name or a decimal number.
    pub groups: Option<Vec<Vec<u8>>>,
    /// Descriptors 0, 1 and 2 of the program.
    pub stdio: [Stdio; 3],
    /// The group that the program runs in.
    pub cgroup: cgroup::Request,
    /// File mode creation mask; inherited where there is none.
    pub umask: Option<u32>,
    /// The nice value itself (-20..=19), not an increment.
    pub nice: Option<i32>,
    /// Resource limits, applied in order.
    pub rlimits: Vec<Rlimit>,
    /// What is written to `/proc/self/oom_score_adj` (-1000..=1000).
    pub oom_score_adj: Option<i32>,
    /// Whether the program and its descendants are kept from gaining privileges by exec.
    #[doc(alias = "PR_SET_NO_NEW_PRIVS")]
    pub no_new_privs: bool,
    /// Whether the program runs in a PID namespace of its own, which the kernel kills as a whole.
    #[doc(alias = "CLONE_NEWPID")]
    pub pid_namespace: bool,
    /// For tests: what is done where there is no `close_range` (before 5.11, or behind a seccomp
    /// filter that doesn't know it).
    #[doc(hidden)]
    pub without_close_range: bool,
}

impl Specification {
    /// Whether [`start`](crate::start) may take longer than forking does: names may have to be
    /// looked up by others, and a cgroup may have to be waited for.
    pub fn may_wait(&self) -> bool {
        let named = self.user.is_some() || self.group.is_some() || self.groups.is_some();
        named || !self.cgroup.is_none()
    }
}

/// Where one of the program's first three descriptors leads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stdio {
    /// A pipe whose other end is in [`Pipes`](crate::Pipes).
    #[default]
    Piped,
    /// `/dev/null`.
    Null,
    /// The caller's descriptor of the same number, untouched.
    Inherit,
    /// The same open file as the program's standard output; for descriptor 2 only.
    SameAsStdout,
    /// The descriptor of the same number in [`Around::passed`](crate::Around::passed), its flags
    /// untouched.
    Passed,
}

/// One resource limit. `None` is no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rlimit {
    /// As in `getrlimit(2)`, in lower case and without the prefix: `nofile`, `core`, `nproc` …
    pub name: Vec<u8>,
    /// The limit in force.
    pub soft: Option<u64>,
    /// What the soft limit can be raised to.
    pub hard: Option<u64>,
}
