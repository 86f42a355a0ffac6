// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! How a program is started, held and ended.

use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes of a stream that may wait unread.
const WINDOW: u32 = 256 * 1024;

const STDIN_LIMIT: usize = 64 * 1024 * 1024;

const START_TIMEOUT: Duration = Duration::from_secs(5);

/// SIGTERM, and so much later SIGKILL, where nothing else was said.
pub(crate) const KILL_DELAY: Duration = Duration::from_millis(500);

/// How a program is started, held and ended. The default is as this process is, with stdin, stdout
/// and stderr piped.
///
/// What is wrong with a value is told by the call that starts the program, before anything is
/// started: [`Error::Invalid`](crate::Error::Invalid) names it and what is allowed.
///
/// ```
/// use std::time::Duration;
/// use proton_stream::Options;
///
/// let options = Options::new()
///     .current_dir("/tmp")
///     .env("LANG", "C")
///     .limit("memory", "256M")
///     .limit("pids", 64)
///     .kill_delay(Duration::from_secs(2));
/// # let _ = options;
/// ```
#[derive(Clone, Debug)]
#[must_use = "each call gives the changed options"]
pub struct Options {
    pub(crate) guardian: Option<PathBuf>,
    pub(crate) transport: Transport,
    pub(crate) directory: Option<PathBuf>,
    pub(crate) is_env_clear: bool,
    pub(crate) env: Vec<(OsString, Option<OsString>)>,
    pub(crate) arg0: Option<OsString>,
    pub(crate) user: Option<OsString>,
    pub(crate) group: Option<OsString>,
    pub(crate) groups: Option<Vec<OsString>>,
    pub(crate) umask: Option<u32>,
    pub(crate) nice: Option<i32>,
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) rlimits: Vec<(String, [Option<u64>; 2])>,
    pub(crate) no_new_privs: bool,
    pub(crate) on_exit: OnExit,
    pub(crate) containment: Containment,
    pub(crate) limits: Vec<(String, String)>,
    pub(crate) cgroup_base: Option<PathBuf>,
    pub(crate) cgroup_path: Option<PathBuf>,
    pub(crate) cgroup_controllers: Vec<String>,
    pub(crate) cgroup_sets: Vec<[String; 3]>,
    pub(crate) kill_delay: Duration,
    pub(crate) start_timeout: Duration,
    pub(crate) window: [u32; 2],
    pub(crate) stdin_limit: usize,
    pub(crate) stderr: Stderr,
}

/// What becomes of descendants that still run when the program has exited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnExit {
    /// They are ended.
    #[default]
    KillTree,
    /// They go on, their output too, and the exit is told when the last of them has ended.
    Wait,
}

/// What holds a program's descendants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Containment {
    /// The process tree, and a cgroup where limits or a group were given.
    #[default]
    Tree,
    /// Besides, a PID namespace, which the kernel kills as a whole whoever dies first. The
    /// program sees only its own processes, itself as number 2.
    PidNamespace,
}

/// How a guardian is started and reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transport {
    /// Forked by this process's nursery, or, where there is none, as a process of its own.
    #[default]
    Nursery,
    /// A process of its own. Where it is killed with SIGKILL nobody adopts what it leaves.
    Process,
}

/// Where a program's stderr goes in message mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stderr {
    /// It comes as [`Message::Error`](crate::Message::Error).
    #[default]
    Separate,
    /// It comes as [`Message::Data`](crate::Message::Data), in the order written.
    ToStdout,
    /// It comes as [`Message::Error`](crate::Message::Error), and stdout goes to `/dev/null`.
    Only,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            guardian: None,
            transport: Transport::default(),
            directory: None,
            is_env_clear: false,
            env: Vec::new(),
            arg0: None,
            user: None,
            group: None,
            groups: None,
            umask: None,
            nice: None,
            oom_score_adj: None,
            rlimits: Vec::new(),
            no_new_privs: false,
            on_exit: OnExit::default(),
            containment: Containment::default(),
            limits: Vec::new(),
            cgroup_base: None,
            cgroup_path: None,
            cgroup_controllers: Vec::new(),
            cgroup_sets: Vec::new(),
            kill_delay: KILL_DELAY,
            start_timeout: START_TIMEOUT,
            window: [WINDOW; 2],
            stdin_limit: STDIN_LIMIT,
            stderr: Stderr::default(),
        }
    }
}

impl Options {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The guardian's executable; where there is none it is looked for as the
    /// [crate's documentation](crate#the-guardian) tells.
    pub fn guardian(mut self, path: impl AsRef<Path>) -> Self {
        self.guardian = Some(path.as_ref().to_owned());
        self
    }

    /// How the guardian is started and reached.
    pub fn transport(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }

    /// Where the program starts; a relative path counts from this process's directory. A relative
    /// program with a `/` in it, such as `./run`, is looked up there.
    pub fn current_dir(mut self, path: impl AsRef<Path>) -> Self {
        self.directory = Some(path.as_ref().to_owned());
        self
    }

    /// Sets a variable. The others are those of this process at the start.
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((key.as_ref().to_owned(), Some(value.as_ref().to_owned())));
        self
    }

    /// Removes a variable.
    pub fn env_remove(mut self, key: impl AsRef<OsStr>) -> Self {
        self.env.push((key.as_ref().to_owned(), None));
        self
    }

    /// Removes all variables, also those that were set before.
    pub fn env_clear(mut self) -> Self {
        self.is_env_clear = true;
        self.env.clear();
        self
    }

    /// The name that the program sees as its own, `argv[0]`, in place of the program's.
    pub fn arg0(mut self, name: impl AsRef<OsStr>) -> Self {
        self.arg0 = Some(name.as_ref().to_owned());
        self
    }

    /// The user to run as: a name or a number. The program gets that user's groups, and `HOME`,
    /// `USER` and `LOGNAME` unless they were set. Needs root.
    pub fn user(mut self, user: impl ToString) -> Self {
        self.user = Some(user.to_string().into());
        self
    }

    /// The group to run as, in place of the user's own: a name or a number.
    pub fn group(mut self, group: impl ToString) -> Self {
        self.group = Some(group.to_string().into());
        self
    }

    /// The supplementary groups, names or numbers, in place of the user's own.
    pub fn groups<G: ToString>(mut self, groups: impl IntoIterator<Item = G>) -> Self {
        self.groups = Some(groups.into_iter().map(|group| group.to_string().into()).collect());
        self
    }

    /// Mask of the modes of files that the program makes, up to `0o777`.
    pub fn umask(mut self, mask: u32) -> Self {
        self.umask = Some(mask);
        self
    }

    /// Nice value of the program, -20 to 19.
    pub fn nice(mut self, nice: i32) -> Self {
        self.nice = Some(nice);
        self
    }

    /// How soon the OOM killer takes the program: 1000 is first, -1000 never.
    pub fn oom_score_adj(mut self, score: i32) -> Self {
        self.oom_score_adj = Some(score);
        self
    }

    /// A resource limit by its name in `getrlimit(2)`, such as `nofile`; `None` is unlimited.
    pub fn rlimit(mut self, name: &str, soft: Option<u64>, hard: Option<u64>) -> Self {
        self.rlimits.push((name.to_owned(), [soft, hard]));
        self
    }

    /// Setuid programs and file capabilities give the program and its descendants no privileges.
    #[doc(alias = "PR_SET_NO_NEW_PRIVS")]
    pub fn no_new_privs(mut self) -> Self {
        self.no_new_privs = true;
        self
    }

    /// What becomes of descendants that still run when the program has exited.
    pub fn on_exit(mut self, on_exit: OnExit) -> Self {
        self.on_exit = on_exit;
        self
    }

    /// What holds the program's descendants.
    pub fn containment(mut self, containment: Containment) -> Self {
        self.containment = containment;
        self
    }

    /// A limit of the program's cgroup in portable units, the same on cgroup v1 and v2: `memory`,
    /// `memory_high`, `swap` (bytes, such as `256M`), `cpu` (CPUs, such as `0.5`), `cpu_weight`,
    /// `io_weight`, `cpus`, `mems` (lists, such as `0-3,7`), `pids` (processes and threads).
    ///
    /// It needs [`cgroup_base`](Self::cgroup_base) or [`cgroup_path`](Self::cgroup_path), or
    /// neither where this process's own cgroup is delegated to it. A limit that the kernel does
    /// not keep fails the start.
    pub fn limit(mut self, name: &str, value: impl Display) -> Self {
        self.limits.push((name.to_owned(), value.to_string()));
        self
    }

    /// The cgroup, below the controllers' mounts, in which a new group is made for the run.
    pub fn cgroup_base(mut self, path: impl AsRef<Path>) -> Self {
        self.cgroup_base = Some(path.as_ref().to_owned());
        self
    }

    /// The cgroup to run in, below the controllers' mounts.
    pub fn cgroup_path(mut self, path: impl AsRef<Path>) -> Self {
        self.cgroup_path = Some(path.as_ref().to_owned());
        self
    }

    /// A cgroup controller to run under.
    pub fn cgroup_controller(mut self, name: &str) -> Self {
        self.cgroup_controllers.push(name.to_owned());
        self
    }

    /// A controller's file and what is written to it, in the kernel's own words.
    pub fn cgroup_set(mut self, controller: &str, file: &str, value: impl Display) -> Self {
        self.cgroup_sets.push([controller.to_owned(), file.to_owned(), value.to_string()]);
        self
    }

    /// Time between SIGTERM and SIGKILL when the program is ended (default 500 ms).
    pub fn kill_delay(mut self, delay: Duration) -> Self {
        self.kill_delay = delay;
        self
    }

    /// How long the start may take (default 5 s).
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = timeout;
        self
    }

    /// Bytes of stdout, and of stderr, that may wait here unread before the program has to wait,
    /// too (default 256 KiB each). What the program's pipe holds, usually 64 KiB, comes on top.
    pub fn window(mut self, stdout: u32, stderr: u32) -> Self {
        self.window = [stdout, stderr];
        self
    }

    /// Bytes for stdin that may wait because the program does not take them (default 64 MiB).
    pub fn stdin_limit(mut self, bytes: usize) -> Self {
        self.stdin_limit = bytes;
        self
    }

    /// Where stderr goes in message mode. A [`Command`](crate::Command) says so with
    /// [`stderr`](crate::Command::stderr).
    pub fn stderr(mut self, stderr: Stderr) -> Self {
        self.stderr = stderr;
        self
    }
}
