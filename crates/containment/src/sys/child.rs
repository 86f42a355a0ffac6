// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! What the child does between fork and exec: async-signal-safe calls only. Nothing here may
//! allocate, lock, or panic; everything that needs that was done before the fork.

use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::process::chdir;

use super::exec::{execve, Strings, HAS_OWN_EXECVE};
use super::init::Namespace;
use super::signals::{block_only, ignore_none};
use super::slice::Slice;

/// One resource limit, ready to be set.
#[derive(Debug)]
pub(crate) struct Limit {
    pub(crate) resource: u32,
    pub(crate) soft: Option<u64>,
    pub(crate) hard: Option<u64>,
}

/// What becomes of one of descriptors 0, 1 and 2.
#[derive(Debug)]
pub(crate) enum End {
    /// This descriptor, which is above 2.
    Owned(OwnedFd),
    /// It stays what it is.
    Inherited,
    /// The same as descriptor 1.
    SameAsStdout,
}

/// Everything the child needs. Every descriptor in it is above 2.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) candidates: Vec<CString>,
    pub(crate) arguments: Strings,
    pub(crate) environment: Strings,
    pub(crate) stdio: [End; 3],
    pub(crate) cgroups: Vec<OwnedFd>,
    pub(crate) oom_score_adj: Option<CString>,
    pub(crate) nice: Option<i32>,
    /// Where the guardian's own isn't the program's.
    pub(crate) slice: Option<Slice>,
    pub(crate) umask: Option<u32>,
    pub(crate) limits: Vec<Limit>,
    pub(crate) groups: Option<Vec<u32>>,
    pub(crate) gid: Option<u32>,
    pub(crate) uid: Option<u32>,
    /// Entered before the process becomes somebody else's; the guardian's own where there is none.
    pub(crate) base: Option<CString>,
    /// Entered after that.
    pub(crate) directory: Option<CString>,
    pub(crate) no_new_privs: bool,
    /// Descriptors to be closed by the exec, where `close_range` can't do it.
    pub(crate) close_on_exec: Option<Vec<RawFd>>,
    /// Where the program gets a PID namespace of its own.
    pub(crate) namespace: Option<Namespace>,
    /// Takes the failure; closed by the exec. The child's copy of a descriptor that the guardian
    /// closes at once.
    pub(crate) report: RawFd,
    /// Where the guardian reads it, which ends with the guardian: the child must keep no copy.
    pub(crate) report_reader: RawFd,
}

/// Which of the two directories a failure is about: not that of the program.
pub(crate) const BASE: usize = 1;

/// Where the child failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Point {
    Session = 1,
    Stdio,
    Dumpable,
    Cgroup,
    OomScoreAdj,
    Nice,
    Limit,
    Groups,
    Group,
    User,
    Capabilities,
    Directory,
    NoNewPrivs,
    DeathSignal,
    Mask,
    Exec,
    UserNamespace,
    Mount,
    Fork,
    Introduction,
}

const POINTS: [Point; 20] = [
    Point::Session,
    Point::Stdio,
    Point::Dumpable,
    Point::Cgroup,
    Point::OomScoreAdj,
    Point::Nice,
    Point::Limit,
    Point::Groups,
    Point::Group,
    Point::User,
    Point::Capabilities,
    Point::Directory,
    Point::NoNewPrivs,
    Point::DeathSignal,
    Point::Mask,
    Point::Exec,
    Point::UserNamespace,
    Point::Mount,
    Point::Fork,
    Point::Introduction,
];

/// A failure on its way from the child to the guardian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) point: Point,
    /// Which of several (a limit, a cgroup, a stream).
    pub(crate) index: u16,
    pub(crate) errno: i32,
}

impl Failure {
    /// Its size in the pipe, far below PIPE_BUF: it arrives whole or not at all.
    pub(crate) const SIZE: usize = 7;

    fn encode(self) -> [u8; Self::SIZE] {
        let [i0, i1] = self.index.to_le_bytes();
        let [e0, e1, e2, e3] = self.errno.to_le_bytes();
        [self.point as u8, i0, i1, e0, e1, e2, e3]
    }

    pub(crate) fn decode(bytes: [u8; Self::SIZE]) -> Option<Self> {
        let [point, i0, i1, e0, e1, e2, e3] = bytes;
        Some(Self {
            point: POINTS.into_iter().find(|known| *known as u8 == point)?,
            index: u16::from_le_bytes([i0, i1]),
            errno: i32::from_le_bytes([e0, e1, e2, e3]),
        })
    }
}

/// The errno of the call that has just failed.
pub(super) fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

pub(super) fn check(result: libc::c_int, point: Point, index: usize) -> Result<(), Failure> {
    if result >= 0 {
        return Ok(());
    }
    Err(failed(point, index, errno()))
}

pub(super) fn failed(point: Point, index: usize, errno: i32) -> Failure {
    Failure { point, index: u16::try_from(index).unwrap_or(u16::MAX), errno }
}

impl Plan {
    /// Whether nothing in it touches what the child would share with the guardian, or lets others
    /// reach into that: a change of user, or of who may look into `/proc/self`, is one of the
    /// memory; and a cgroup's limit could have the guardian killed for the child. Nor what fails
    /// for a reason that only `errno` tells.
    pub(super) fn can_share_memory(&self) -> bool {
        HAS_OWN_EXECVE
            && self.namespace.is_none()
            && self.cgroups.is_empty()
            && self.oom_score_adj.is_none()
            && self.nice.is_none()
            && self.limits.is_empty()
            && self.groups.is_none()
            && self.gid.is_none()
            && self.uid.is_none()
    }
}

/// Carries out the plan. Never returns.
///
/// Where [`Plan::can_share_memory`] says so, `errno` is the guardian's, too: so what may fail there
/// is called in a way that doesn't use it.
pub(super) fn run(plan: &Plan) -> ! {
    // SAFETY: passes no memory. The copy is this process's own since the fork; were it kept, the
    // guardian's death would not be seen.
    unsafe { libc::close(plan.report_reader) };
    go_on(plan, lead_session())
}

/// The same, for a process that has no copy of the report's other end, and leads a session if
/// `begun` says so.
pub(super) fn go_on(plan: &Plan, begun: Result<(), Failure>) -> ! {
    let failure = match begun {
        Ok(()) => {
            let Err(failure) = steps(plan);
            failure
        }
        Err(failure) => failure,
    };
    give_up(plan, failure)
}

/// Reports a failure and ends this process.
pub(super) fn give_up(plan: &Plan, failure: Failure) -> ! {
    let bytes = failure.encode();
    // SAFETY: `bytes` has as many bytes as are written; _exit ends this process, which is the
    // child, without running anything of the parent's.
    unsafe {
        libc::write(plan.report, bytes.as_ptr().cast(), bytes.len());
        libc::_exit(127)
    }
}

pub(super) fn lead_session() -> Result<(), Failure> {
    // SAFETY: passes no memory.
    check(unsafe { libc::setsid() }, Point::Session, 0)
}

/// The guardian's death is this process's, from now on, and until it changes its user.
pub(super) fn die_with_guardian(report: RawFd) -> Result<(), Failure> {
    prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL.unsigned_abs().into(), Point::DeathSignal)?;
    // Had it died before that, nothing would ever be sent.
    leave_without_guardian(report);
    Ok(())
}

fn steps(plan: &Plan) -> Result<Infallible, Failure> {
    stdio(plan)?;
    if let Some(base) = &plan.base {
        let entered = chdir(base.as_c_str());
        entered.map_err(|error| failed(Point::Directory, BASE, error.raw_os_error()))?;
    }
    for (index, group) in plan.cgroups.iter().enumerate() {
        write_all(group.as_raw_fd(), b"0", Point::Cgroup, index)?;
    }
    attributes(plan)?;
    credentials(plan)?;
    if let Some(directory) = &plan.directory {
        let entered = chdir(directory.as_c_str());
        entered.map_err(|error| failed(Point::Directory, 0, error.raw_os_error()))?;
    }
    if plan.no_new_privs {
        prctl(libc::PR_SET_NO_NEW_PRIVS, 1, Point::NoNewPrivs)?;
    }
    // After the change of user, which clears it.
    die_with_guardian(plan.report)?;
    if let Some(slice) = &plan.slice {
        // So late because what comes before is soon done, and waited for. It doesn't fail: nothing
        // but the slice changes, and the guardian could change its own.
        slice.set();
    }
    ignore_none();
    if block_only(&[]).is_err() {
        return Err(failed(Point::Mask, 0, errno()));
    }
    close_on_exec(plan);
    Err(execute(plan))
}

/// Puts descriptors 0, 1 and 2 in place, which also drops a controller that was on them. All
/// sources are above 2, so that none is overwritten before its turn; dup2 clears close-on-exec.
fn stdio(plan: &Plan) -> Result<(), Failure> {
    for (index, end) in plan.stdio.iter().enumerate() {
        let Ok(target) = RawFd::try_from(index) else {
            continue;
        };
        // SAFETY: these change the child's own descriptor table only, and pass no memory.
        let result = unsafe {
            match end {
                End::Owned(fd) => libc::dup2(fd.as_raw_fd(), target),
                End::SameAsStdout => libc::dup2(1, target),
                End::Inherited => libc::fcntl(target, libc::F_SETFD, 0),
            }
        };
        check(result, Point::Stdio, index)?;
    }
    Ok(())
}

fn attributes(plan: &Plan) -> Result<(), Failure> {
    if let Some(value) = &plan.oom_score_adj {
        // The guardian's 0 was inherited and makes /proc/self/* root's.
        prctl(libc::PR_SET_DUMPABLE, 1, Point::Dumpable)?;
        // SAFETY: the path is a terminated literal; passes no other memory.
        let fd = unsafe {
            libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC)
        };
        check(fd, Point::OomScoreAdj, 0)?;
        write_all(fd, value.as_bytes(), Point::OomScoreAdj, 0)?;
        // SAFETY: `fd` was opened above and is nobody else's.
        unsafe { libc::close(fd) };
    }
    if let Some(nice) = plan.nice {
        // SAFETY: passes no memory; process 0 is this one.
        let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
        check(result, Point::Nice, 0)?;
    }
    if let Some(umask) = plan.umask {
        // SAFETY: passes no memory and can't fail.
        unsafe { libc::umask(umask as libc::mode_t) };
    }
    // After the last open that isn't exec's own: a small RLIMIT_NOFILE would have broken it.
    for (index, limit) in plan.limits.iter().enumerate() {
        let value =
            |limit: Option<u64>| limit.map_or(libc::RLIM_INFINITY, |number| number as libc::rlim_t);
        let pair = libc::rlimit { rlim_cur: value(limit.soft), rlim_max: value(limit.hard) };
        // SAFETY: `pair` lives across the call.
        let result = unsafe { libc::setrlimit(limit.resource as _, &pair) };
        check(result, Point::Limit, index)?;
    }
    Ok(())
}

/// Groups before user, because afterwards there is no right to change them; then what the kernel
/// says is compared with what was asked.
fn credentials(plan: &Plan) -> Result<(), Failure> {
    if let Some(groups) = &plan.groups {
        // SAFETY: the pointer and the length are of one live vector of gid_t (u32).
        let result = unsafe { libc::setgroups(groups.len() as _, groups.as_ptr()) };
        check(result, Point::Groups, 0)?;
    }
    if let Some(gid) = plan.gid {
        // SAFETY: passes no memory.
        check(unsafe { libc::setresgid(gid, gid, gid) }, Point::Group, 0)?;
        let (mut real, mut effective, mut saved) = (0, 0, 0);
        // SAFETY: three live locals that getresgid fills.
        let got = unsafe { libc::getresgid(&mut real, &mut effective, &mut saved) };
        check(got, Point::Group, 0)?;
        if (real, effective, saved) != (gid, gid, gid) {
            return Err(failed(Point::Group, 0, libc::EPERM));
        }
    }
    if let Some(uid) = plan.uid {
        // SAFETY: passes no memory.
        let before = unsafe { libc::geteuid() };
        // SAFETY: passes no memory.
        check(unsafe { libc::setresuid(uid, uid, uid) }, Point::User, 0)?;
        let (mut real, mut effective, mut saved) = (0, 0, 0);
        // SAFETY: three live locals that getresuid fills.
        let got = unsafe { libc::getresuid(&mut real, &mut effective, &mut saved) };
        check(got, Point::User, 0)?;
        if (real, effective, saved) != (uid, uid, uid) {
            return Err(failed(Point::User, 0, libc::EPERM));
        }
        if before != uid {
            drop_ambient_capabilities()?;
        }
    }
    Ok(())
}

/// The kernel clears capabilities on the way from user 0 to another. A guardian that is somebody
/// else and changes users by ambient capabilities would hand them to the program.
fn drop_ambient_capabilities() -> Result<(), Failure> {
    // SAFETY: passes no memory.
    let result = unsafe {
        libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong, 0, 0, 0)
    };
    check(result, Point::Capabilities, 0)
}

pub(super) fn prctl(
    option: libc::c_int,
    value: libc::c_ulong,
    point: Point,
) -> Result<(), Failure> {
    // SAFETY: the options used here take numbers, no memory.
    check(unsafe { libc::prctl(option, value, 0, 0, 0) }, point, 0)
}

pub(super) fn write_all(
    fd: RawFd,
    bytes: &[u8],
    point: Point,
    index: usize,
) -> Result<(), Failure> {
    // SAFETY: `bytes` is a live slice of that length.
    let result = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
    if usize::try_from(result) == Ok(bytes.len()) {
        return Ok(());
    }
    Err(failed(point, index, if result < 0 { errno() } else { libc::EIO }))
}

/// Ends this process when nobody can read the report any more (POLLERR, poll(2)): the guardian is
/// gone. Not by getppid, which is 0 where the parent is in another PID namespace.
fn leave_without_guardian(report: RawFd) {
    // SAFETY: it is open until the exec.
    let report = unsafe { BorrowedFd::borrow_raw(report) };
    let mut fds = [PollFd::from_borrowed_fd(report, PollFlags::empty())];
    if poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) == Ok(1) {
        // SAFETY: runs nothing of the parent's.
        unsafe { libc::_exit(127) }
    }
}

/// Nothing that somebody opened without close-on-exec reaches the program. The report must stay
/// open until the exec itself closes it, so nothing is closed at once.
fn close_on_exec(plan: &Plan) {
    match &plan.close_on_exec {
        // SAFETY: passes no memory; changes flags in the child's own table. That it works was
        // tried before the fork.
        None => unsafe {
            libc::syscall(
                libc::SYS_close_range,
                3 as libc::c_ulong,
                libc::c_ulong::from(u32::MAX),
                libc::c_ulong::from(libc::CLOSE_RANGE_CLOEXEC),
            );
        },
        Some(descriptors) => {
            for &fd in descriptors {
                // SAFETY: passes no memory; a number that is closed by now is only an error.
                unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
            }
        }
    }
}

/// Tries the candidates as execvp(3) does, but without its fallback to a shell. In the child, so
/// that a directory on a dead network mount hangs nobody else.
fn execute(plan: &Plan) -> Failure {
    let mut denied = false;
    let mut reason = libc::ENOENT;
    for candidate in &plan.candidates {
        reason = execve(candidate, &plan.arguments, &plan.environment);
        match reason {
            libc::EACCES => denied = true,
            libc::ENOENT | libc::ENOTDIR | libc::ENAMETOOLONG => {}
            // A directory on a file system that is gone.
            libc::ESTALE | libc::ENODEV | libc::ETIMEDOUT => {}
            _ => return failed(Point::Exec, 0, reason),
        }
    }
    if denied {
        reason = libc::EACCES;
    } else if plan.candidates.len() > 1 {
        reason = libc::ENOENT;
    }
    failed(Point::Exec, 0, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_survives_its_way_through_the_pipe() {
        for point in POINTS {
            let failure = Failure { point, index: 300, errno: libc::E2BIG };
            assert_eq!(Failure::decode(failure.encode()), Some(failure));
        }
        assert_eq!(Failure::decode([0; Failure::SIZE]), None);
        assert_eq!(Failure::decode([255; Failure::SIZE]), None);
    }
}
