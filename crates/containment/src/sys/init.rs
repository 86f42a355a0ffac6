// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! The first process of a PID namespace: a fork of the guardian that executes nothing. It starts
//! the program, collects whatever dies, tells the guardian how the program ended, and ends when
//! nobody is left. When it dies, the kernel kills everybody in the namespace; and it dies with the
//! guardian, because it never changes its user (which would clear its parent's death signal).
//!
//! As between fork and exec, async-signal-safe calls only.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use super::child::{self, check, errno, failed, prctl, write_all, Failure, Plan, Point};
use super::process::{Death, Usage};
use super::signals::{block_only, ignore_none};

/// What it needs beside the program's plan. Every descriptor is above 2.
#[derive(Debug)]
pub(crate) struct Namespace {
    /// The one line of `uid_map` and of `gid_map`, where it takes a user namespace.
    pub(crate) maps: Option<[CString; 2]>,
    /// A socket, over which the program is handed to the guardian: a pidfd, and credentials with
    /// its pid, which the kernel translates to the guardian's namespace.
    pub(crate) introduction: OwnedFd,
    /// A pipe, over which goes how the program ended.
    pub(crate) end: OwnedFd,
}

/// Makes the process; it never returns there.
pub(super) fn clone_into(plan: &Plan, namespace: &Namespace) -> io::Result<u32> {
    let user = if namespace.maps.is_some() { libc::CLONE_NEWUSER } else { 0 };
    let flags = libc::CLONE_NEWPID | libc::CLONE_NEWNS | user | libc::SIGCHLD;
    // SAFETY: without CLONE_VM and without a stack this is a fork. The C library isn't told, which
    // matters for its idea of the thread's number only; nothing that the child calls uses that.
    let pid = unsafe {
        // The order of the arguments is the same everywhere but on s390, whose stack comes first.
        #[cfg(target_arch = "s390x")]
        let pid = libc::syscall(libc::SYS_clone, 0, libc::c_long::from(flags), 0, 0, 0);
        #[cfg(not(target_arch = "s390x"))]
        let pid = libc::syscall(libc::SYS_clone, libc::c_long::from(flags), 0, 0, 0, 0);
        pid
    };
    match u32::try_from(pid) {
        Ok(0) => run(plan, namespace),
        Ok(pid) => Ok(pid),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

fn run(plan: &Plan, namespace: &Namespace) -> ! {
    match steps(plan, namespace) {
        Ok(program) => watch(program, namespace.end.as_raw_fd()),
        Err(failure) => child::give_up(plan, failure),
    }
}

fn steps(plan: &Plan, namespace: &Namespace) -> Result<libc::pid_t, Failure> {
    // SAFETY: passes no memory; the copy is this process's own.
    unsafe { libc::close(plan.report_reader) };
    child::lead_session()?;
    // The guardian's 0 was inherited, and makes /proc/self/uid_map root's.
    prctl(libc::PR_SET_DUMPABLE, 1, Point::Dumpable)?;
    if let Some([uid_map, gid_map]) = &namespace.maps {
        write_file(c"/proc/self/setgroups", b"deny", 0)?;
        write_file(c"/proc/self/uid_map", uid_map.as_bytes(), 1)?;
        write_file(c"/proc/self/gid_map", gid_map.as_bytes(), 2)?;
    }
    mounts()?;
    // From here on a program of the same user can't reach in, and fake how it ended.
    prctl(libc::PR_SET_DUMPABLE, 0, Point::Dumpable)?;
    ignore_none();
    if block_only(&[]).is_err() {
        return Err(failed(Point::Mask, 0, errno()));
    }
    child::die_with_guardian(plan.report)?;
    // SAFETY: this process has one thread, and the child is one between fork and exec.
    let program = match unsafe { libc::fork() } {
        0 => child::run(plan),
        pid => pid,
    };
    check(program, Point::Fork, 0)?;
    introduce(program, namespace)?;
    keep_only(namespace.end.as_raw_fd(), plan.close_on_exec.as_deref());
    Ok(program)
}

fn write_file(path: &CStr, bytes: &[u8], index: usize) -> Result<(), Failure> {
    // SAFETY: the path is terminated; passes no other memory.
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
    check(fd, Point::UserNamespace, index)?;
    write_all(fd, bytes, Point::UserNamespace, index)?;
    // SAFETY: `fd` was opened above and is nobody else's.
    unsafe { libc::close(fd) };
    Ok(())
}

/// The program sees its own processes in `/proc`. What the host mounts and unmounts from now on is
/// seen as well, but nothing that is mounted here is seen there.
fn mounts() -> Result<(), Failure> {
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    let none = std::ptr::null();
    // SAFETY: all strings are terminated literals; null is "none" for those that don't matter.
    unsafe {
        let slave = libc::MS_SLAVE | libc::MS_REC;
        let result = libc::mount(none, c"/".as_ptr(), none, slave, std::ptr::null());
        check(result, Point::Mount, 0)?;
        let name = c"proc".as_ptr();
        check(libc::mount(name, c"/proc".as_ptr(), name, flags, std::ptr::null()), Point::Mount, 1)
    }
}

/// Room for a control message with one descriptor and one with credentials, aligned as they are.
#[repr(C, align(8))]
struct Room([u8; 128]);

/// Sends the guardian the program's pidfd and pid. Nobody else waits for the program, so that its
/// number can't have become another's.
fn introduce(program: libc::pid_t, namespace: &Namespace) -> Result<(), Failure> {
    // SAFETY: passes no memory.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::c_long::from(program), 0) };
    let pidfd = RawFd::try_from(pidfd).unwrap_or(-1);
    check(pidfd, Point::Introduction, 0)?;
    let mut byte = 0_u8;
    let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let mut room = Room([0; 128]);
    let descriptors = size_of::<RawFd>() as libc::c_uint;
    let credentials = size_of::<libc::ucred>() as libc::c_uint;
    // SAFETY: all structures are plain integers and pointers, for which zero is valid. The control
    // messages stay inside of `room`, which has more than the two take (CMSG_SPACE below), and
    // everything that is pointed to lives until the call has returned.
    let sent = unsafe {
        let mut message: libc::msghdr = zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut room).cast();
        message.msg_controllen =
            (libc::CMSG_SPACE(descriptors) + libc::CMSG_SPACE(credentials)) as _;
        let first = libc::CMSG_FIRSTHDR(&raw const message);
        (*first).cmsg_level = libc::SOL_SOCKET;
        (*first).cmsg_type = libc::SCM_RIGHTS;
        (*first).cmsg_len = libc::CMSG_LEN(descriptors) as _;
        libc::CMSG_DATA(first).cast::<RawFd>().write_unaligned(pidfd);
        let second = libc::CMSG_NXTHDR(&raw const message, first);
        (*second).cmsg_level = libc::SOL_SOCKET;
        (*second).cmsg_type = libc::SCM_CREDENTIALS;
        (*second).cmsg_len = libc::CMSG_LEN(credentials) as _;
        let who = libc::ucred { pid: program, uid: libc::getuid(), gid: libc::getgid() };
        libc::CMSG_DATA(second).cast::<libc::ucred>().write_unaligned(who);
        libc::sendmsg(namespace.introduction.as_raw_fd(), &raw const message, 0)
    };
    let sent = libc::c_int::try_from(sent).unwrap_or(-1);
    check(sent, Point::Introduction, 1)
}

/// Closes everything but one descriptor, and stays in no directory.
fn keep_only(kept: RawFd, open: Option<&[RawFd]>) {
    let last = libc::c_long::from(u32::MAX);
    // SAFETY: passes no memory but a terminated literal, and changes this process's own table
    // only, none of which is used afterwards.
    unsafe {
        libc::chdir(c"/".as_ptr());
        match open {
            None => {
                let kept = libc::c_long::from(kept);
                libc::syscall(libc::SYS_close_range, 0 as libc::c_long, kept - 1, 0);
                libc::syscall(libc::SYS_close_range, kept + 1, last, 0);
            }
            Some(open) => {
                for fd in [0, 1, 2].iter().chain(open).filter(|fd| **fd != kept) {
                    libc::close(*fd);
                }
            }
        }
    }
}

/// Collects the dead until nobody is left.
fn watch(program: libc::pid_t, end: RawFd) -> ! {
    loop {
        let mut status = 0;
        // SAFETY: rusage is plain integers, for which zero is valid.
        let mut usage: libc::rusage = unsafe { zeroed() };
        // SAFETY: both pointers are to live locals of the types that wait4 fills.
        let pid = unsafe { libc::wait4(-1, &raw mut status, libc::__WALL, &raw mut usage) };
        if pid == program {
            let bytes = Report::new(status, &usage).encode();
            // SAFETY: `bytes` has as many bytes as are written. That the guardian is gone would
            // not be news for long.
            unsafe { libc::write(end, bytes.as_ptr().cast(), bytes.len()) };
        } else if pid < 0 && errno() != libc::EINTR {
            // Nobody is left.
            // SAFETY: ends this process without running anything of the guardian's.
            unsafe { libc::_exit(0) }
        }
    }
}

/// How the program ended, as it goes through the pipe: whole, since it is below PIPE_BUF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Report {
    status: i32,
    /// Microseconds.
    user: u64,
    system: u64,
    max_rss_kib: u64,
}

impl Report {
    pub(crate) const SIZE: usize = 28;

    fn new(status: i32, usage: &libc::rusage) -> Self {
        let usage = Usage::of(usage);
        Self {
            status,
            user: usage.user_micros,
            system: usage.system_micros,
            max_rss_kib: usage.max_rss_kib,
        }
    }

    fn encode(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let parts: [&[u8]; 4] = [
            &self.status.to_le_bytes(),
            &self.user.to_le_bytes(),
            &self.system.to_le_bytes(),
            &self.max_rss_kib.to_le_bytes(),
        ];
        for (into, byte) in bytes.iter_mut().zip(parts.into_iter().flatten()) {
            *into = *byte;
        }
        bytes
    }

    /// `None` for what is no end of a process.
    pub(crate) fn decode(bytes: &[u8; Self::SIZE], pid: u32) -> Option<Death> {
        let (status, rest) = bytes.split_first_chunk::<4>()?;
        let (user, rest) = rest.split_first_chunk::<8>()?;
        let (system, rest) = rest.split_first_chunk::<8>()?;
        let max_rss = rest.first_chunk::<8>()?;
        let usage = Usage {
            user_micros: u64::from_le_bytes(*user),
            system_micros: u64::from_le_bytes(*system),
            max_rss_kib: u64::from_le_bytes(*max_rss),
        };
        Death::of(pid, i32::from_le_bytes(*status), usage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_end_survives_its_way_through_the_pipe() {
        let report = Report { status: 3 << 8, user: 1_500_000, system: 7, max_rss_kib: 42 };
        let death = Report::decode(&report.encode(), 77).expect("an end");
        assert_eq!((death.pid, death.status), (77, Ok(3)));
        assert_eq!(death.user, Duration::from_millis(1500));
        assert_eq!((death.system, death.max_rss_kib), (Duration::from_micros(7), 42));
        let killed = Report { status: 9, ..report };
        let death = Report::decode(&killed.encode(), 77).expect("an end");
        assert_eq!(death.status, Err((9, false)));
        let stopped = Report { status: 0x137f, ..report };
        assert!(Report::decode(&stopped.encode(), 77).is_none());
    }
}
