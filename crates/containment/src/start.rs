// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! A start that is under way.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::process::{chdir, geteuid, getgroups};

use crate::ahead::{Ahead, REPORT};
use crate::procfs::{decimal, Procfs};
use crate::specification::Specification;
use crate::sys::{self, Failure, Launch, Plan, Point, Slice, Strings, BASE};
use crate::users::{self, Credentials, Sources};
use crate::{cgroup, environment, namespace, rlimits, stdio, Error, Level, Program, Step};

/// Takes a path below the mounts of the run's controllers.
pub type Announce<'a> = &'a dyn Fn(&[u8]);

/// Who else takes part in a start. The default is nobody.
#[derive(Clone, Copy, Default)]
pub struct Around<'a> {
    /// The controller: when it hangs up nobody waits for the outcome.
    pub give_up: Option<BorrowedFd<'a>>,
    /// Is told the path of a cgroup right before that is made, so that it can be cleaned also when
    /// this process is killed: [`cgroup::Cleaning`].
    pub announce: Option<Announce<'a>>,
    /// What becomes the program's descriptors 0, 1 and 2 where it is [`Stdio::Passed`].
    ///
    /// [`Stdio::Passed`]: crate::Stdio::Passed
    pub passed: [Option<BorrowedFd<'a>>; 3],
    /// The directory that the program's own one is relative to, and that it is started in where it
    /// has none: entered by the program's process before it becomes another user's, and by the caller
    /// where there is a PID namespace. The caller's own where there is none.
    pub base: Option<&'a CStr>,
    /// What was made already.
    pub ahead: Option<&'a Ahead>,
}

impl std::fmt::Debug for Around<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let announces = self.announce.is_some();
        f.debug_struct("Around")
            .field("give_up", &self.give_up)
            .field("announces", &announces)
            .field("passed", &self.passed)
            .field("base", &self.base)
            .field("ahead", &self.ahead)
            .finish()
    }
}

/// Starts a program. Everything that may allocate, open or look up is done here, then the fork;
/// the exec happens meanwhile, and [`Starting`] tells what came of it.
///
/// There are two waits in here, both no longer than until the controller hangs up
/// ([`Around::give_up`]; then the error is ECANCELED): for `getent`, where a user or group is not in the local files,
/// two seconds at most; and for another run that is about to end in the same cgroup path, or what
/// crashed ones left, at most [`wait`](cgroup::Request::wait).
pub fn start(spec: &Specification, around: &Around<'_>) -> Result<Starting, Error> {
    let give_up = around.give_up;
    check(spec)?;
    let credentials = users::resolve(spec, &Sources::default(), give_up)?;
    let environment = environment::environment(spec, credentials.account.as_ref())?;
    let candidates = environment::candidates(&spec.program, &environment)?;
    let arguments = environment::arguments(spec)?;
    let directory = spec.directory.as_ref();
    let directory =
        directory.map(|path| environment::terminated(path, "the directory")).transpose()?;
    let limits = rlimits::resolve(&spec.rlimits)?;
    // Before a group is made, which would have to be removed again.
    let namespace = spec.pid_namespace.then(|| namespace::prepare(spec)).transpose()?;
    let (namespace, init) = namespace.unzip();
    let mut base = around.base;
    if namespace.is_some() {
        // From a user namespace the directory of a process outside can't be entered by its link in
        // /proc, so this one goes there.
        if let Some(base) = base.take() {
            chdir(base).map_err(|error| {
                Error::new(Step::Directory, error.raw_os_error(), base.to_bytes())
            })?;
        }
    }
    let (ends, pipes) = stdio::prepare(&spec.stdio, around)?;
    let pipe = stdio::pipe_for(REPORT, around);
    let (report, report_writer) = pipe.map_err(|error| failed(Step::Fork, &error))?;
    // The last step that leaves something behind: what follows must end it when it fails.
    let mut run = cgroup::prepare(&spec.cgroup, around)?;
    let names = Names::of(spec, around, run.as_ref());
    let one_by_one = spec.without_close_range || !sys::close_range_works();
    let mut launch = Launch::new(Plan {
        candidates,
        arguments: Strings::new(arguments),
        environment: Strings::new(environment),
        stdio: ends,
        cgroups: run.as_mut().map(cgroup::Run::take_doors).unwrap_or_default(),
        oom_score_adj: spec.oom_score_adj.map(number),
        nice: spec.nice,
        slice: Slice::of_a_program(spec.nice),
        umask: spec.umask,
        limits,
        groups: groups_to_set(&credentials),
        gid: credentials.gid,
        uid: credentials.uid,
        base: base.map(CStr::to_owned),
        directory,
        no_new_privs: spec.no_new_privs,
        namespace,
        close_on_exec: one_by_one.then(open_descriptors),
        report: report_writer.as_raw_fd(),
        report_reader: report.as_raw_fd(),
    });
    let pid = match launch.begin(around.ahead.and_then(Ahead::process)) {
        Ok(pid) => pid,
        Err(error) => {
            if let Some(run) = &mut run {
                run.abandon();
            }
            let refused = match &launch.plan().namespace {
                Some(namespace) => namespace::refused(namespace, &error),
                None => failed(Step::Fork, &error),
            };
            launch.end();
            return Err(refused);
        }
    };
    // Our copy would keep the report from ending. All else waits until the exec is heard of: on a
    // machine with few processors the child runs when this process sleeps.
    drop(report_writer);
    Ok(Starting {
        report,
        names,
        known: None,
        program: Program::new(pid, init, pipes, run, launch),
    })
}

fn failed(step: Step, error: &io::Error) -> Error {
    Error::new(step, error.raw_os_error().unwrap_or(libc::EIO), b"".as_slice())
}

/// Numbers of at most 11 bytes have no NUL.
fn number(value: i32) -> CString {
    CString::new(value.to_string()).unwrap_or_default()
}

/// What no kernel call would refuse as it should: a umask is silently masked, a nice value
/// silently clamped.
fn check(spec: &Specification) -> Result<(), Error> {
    let refuse = |what: &str| Err(Error::specification(what));
    if spec.umask.is_some_and(|mask| mask > 0o777) {
        return refuse("the umask is not between 0 and 0777");
    }
    if spec.nice.is_some_and(|nice| !(-20..=19).contains(&nice)) {
        return refuse("nice is not between -20 and 19");
    }
    if spec.oom_score_adj.is_some_and(|adj| !(-1000..=1000).contains(&adj)) {
        return refuse("oom_score_adj is not between -1000 and 1000");
    }
    Ok(())
}

/// Without privilege even the groups that one already has can't be set; then, and only when the
/// wish is exactly those, nothing is set. The primary group counts either way.
fn groups_to_set(credentials: &Credentials) -> Option<Vec<u32>> {
    let wanted = credentials.groups.clone()?;
    if !geteuid().is_root() && credentials.gid.is_some() {
        let plain = |mut groups: Vec<u32>| {
            groups.retain(|gid| Some(*gid) != credentials.gid);
            groups.sort_unstable();
            groups.dedup();
            groups
        };
        let have = getgroups().unwrap_or_default();
        let have = plain(have.into_iter().map(|gid| gid.as_raw()).collect());
        if have == plain(wanted.clone()) {
            return None;
        }
    }
    Some(wanted)
}

/// What is open now, for kernels without `close_range`. Nothing else is opened between here and
/// the fork, and what this crate opens is close-on-exec anyway.
fn open_descriptors() -> Vec<RawFd> {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else {
        return (3..1024).collect();
    };
    entries
        .filter_map(|entry| {
            let number = decimal(entry.ok()?.file_name().as_encoded_bytes())?;
            RawFd::try_from(number).ok()
        })
        .filter(|fd| *fd > 2)
        .collect()
}

/// For errors.
#[derive(Debug)]
struct Names {
    program: Vec<u8>,
    base: Vec<u8>,
    directory: Vec<u8>,
    user: Vec<u8>,
    group: Vec<u8>,
    limits: Vec<Vec<u8>>,
    cgroups: Vec<Vec<u8>>,
}

impl Names {
    fn of(spec: &Specification, around: &Around<'_>, run: Option<&cgroup::Run>) -> Self {
        Self {
            program: spec.program.clone(),
            base: around.base.map(|base| base.to_bytes().to_vec()).unwrap_or_default(),
            directory: spec.directory.clone().unwrap_or_default(),
            user: spec.user.clone().unwrap_or_default(),
            group: spec.group.clone().or(spec.user.clone()).unwrap_or_default(),
            limits: spec.rlimits.iter().map(|limit| limit.name.clone()).collect(),
            cgroups: run.map(cgroup::Run::door_names).unwrap_or_default(),
        }
    }

    fn explain(&self, failure: Failure) -> Error {
        let at =
            |list: &[Vec<u8>]| list.get(usize::from(failure.index)).cloned().unwrap_or_default();
        let attribute = |name: &str| (Step::Process, name.as_bytes().to_vec());
        let (step, detail) = match failure.point {
            Point::Exec => (Step::Exec, self.program.clone()),
            Point::Directory if usize::from(failure.index) == BASE => {
                (Step::Directory, self.base.clone())
            }
            Point::Directory => (Step::Directory, self.directory.clone()),
            Point::User => (Step::User, self.user.clone()),
            Point::Group => (Step::Group, self.group.clone()),
            Point::Groups => (Step::Groups, self.user.clone()),
            Point::Cgroup => (Step::Cgroup, at(&self.cgroups)),
            Point::Stdio => {
                let name = stdio::NAMES.get(usize::from(failure.index));
                (Step::Stdio, name.copied().unwrap_or_default().into())
            }
            Point::Limit => (Step::Process, rlimits::attribute(&at(&self.limits))),
            Point::Session => attribute("setsid"),
            Point::Dumpable => attribute("dumpable"),
            Point::OomScoreAdj => attribute("oom_score_adj"),
            Point::Nice => attribute("nice"),
            Point::Capabilities => attribute("capabilities"),
            Point::NoNewPrivs => attribute("no_new_privs"),
            Point::DeathSignal => attribute("parent death signal"),
            Point::Mask => attribute("signal mask"),
            Point::UserNamespace => {
                let file = ["setgroups", "uid_map", "gid_map"].get(usize::from(failure.index));
                let file = file.copied().unwrap_or_default();
                (Step::Namespace, format!("user namespace: {file}").into_bytes())
            }
            Point::Mount => {
                let what = ["mounts", "/proc"].get(usize::from(failure.index));
                (Step::Namespace, what.copied().unwrap_or_default().into())
            }
            Point::Introduction => (Step::Namespace, b"pidfd".to_vec()),
            Point::Fork => (Step::Fork, Vec::new()),
        };
        Error::new(step, failure.errno, detail)
    }
}

/// A program between its fork and its exec. Its descriptor becomes readable when the exec has
/// succeeded or failed.
///
/// Whatever came of it, [`Starting::into_program`] is called and its process collected; dropping
/// this instead leaves a zombie and its cgroup behind.
#[derive(Debug)]
#[must_use = "its process has to be collected: call into_program"]
pub struct Starting {
    report: OwnedFd,
    names: Names,
    known: Option<Result<(), Error>>,
    program: Program,
}

impl Starting {
    /// The pid that the program has, or would have had; `None` while that is not known.
    pub fn pid(&self) -> Option<u32> {
        self.program.pid()
    }

    /// Whether the exec took place; `None` while that is not known. Never blocks.
    pub fn outcome(&mut self) -> Option<Result<(), Error>> {
        if self.known.is_none() {
            self.program.meet();
            let mut bytes = [0_u8; Failure::SIZE];
            self.known = match rustix::io::read(&self.report, &mut bytes) {
                Ok(0) => Some(self.end_of_report()),
                Ok(_) => Some(Err(Failure::decode(bytes).map_or_else(
                    || Error::new(Step::Fork, libc::EIO, b"".as_slice()),
                    |failure| self.names.explain(failure),
                ))),
                Err(_) => None,
            };
        }
        self.known.clone()
    }

    /// The end of the report is a successful exec, or a death before it (an OOM kill in a cgroup
    /// that is too small for the child, a signal): the kernel's flag tells which. It costs as much
    /// as a pipe or two, so without a cgroup only the dead are asked. Whom a signal kills in these
    /// microseconds may then count as started, and as ended by the signal.
    fn end_of_report(&mut self) -> Result<(), Error> {
        // Who introduces the program does so before its end of the report is closed.
        self.program.meet();
        let died = || Err(Error::new(Step::Exec, libc::EINTR, self.names.program.as_slice()));
        let Some(pid) = self.pid() else { return died() };
        if self.program.level() == Level::Tree && !sys::is_dead(pid) {
            return Ok(());
        }
        let stat = Procfs::open(c"/proc").ok().and_then(|procfs| procfs.stat(pid));
        match stat {
            Some(stat) if stat.never_executed() => died(),
            _ => Ok(()),
        }
    }

    /// The process: to be run after a success, to be ended after a failure or a cancelled start.
    pub fn into_program(self) -> Program {
        self.into_parts().0
    }

    /// The same, and what it was started with, which nobody needs any more: giving that back takes
    /// as long as saying that the program runs. What reads the program's output hears of its end
    /// only afterwards.
    pub fn into_parts(mut self) -> (Program, Spent) {
        // Where nothing is known the process may use it still.
        let launch = self.known.is_some().then(|| self.program.take_launch()).flatten();
        (self.program, Spent { launch, _report: self.report })
    }
}

/// What a start has used. It is given back when this is dropped.
#[derive(Debug)]
pub struct Spent {
    launch: Option<Launch>,
    _report: OwnedFd,
}

impl Drop for Spent {
    fn drop(&mut self) {
        if let Some(launch) = self.launch.take() {
            launch.end();
        }
    }
}

impl AsFd for Starting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.report.as_fd()
    }
}
