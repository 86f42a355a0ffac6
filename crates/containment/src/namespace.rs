// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! The guardian's side of a PID namespace: what its first process (`sys/init.rs`) tells.
//!
//! Root makes the namespace as it is. Others, and root without CAP_SYS_ADMIN, make it in a user
//! namespace of their own, in which they are who they are and nobody else exists; so there they
//! can't become somebody else, either.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    recvmsg, socketpair, sockopt::set_socket_passcred, AddressFamily, RecvAncillaryBuffer,
    RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
};
use rustix::process::{getegid, geteuid};
use rustix::thread::{capabilities, CapabilitySet};

use crate::specification::Specification;
use crate::stdio::{above_stdio, pipe, without_blocking};
use crate::sys::{self, Death, Namespace, Report};
use crate::{Error, Step};

/// The first process, while the namespace exists.
#[derive(Debug)]
pub(crate) struct Init {
    pid: u32,
    introduction: OwnedFd,
    /// Closed when it has told, or can't any more.
    end: Option<OwnedFd>,
    is_dead: bool,
}

fn failed(error: &io::Error) -> Error {
    Error::new(Step::Namespace, error.raw_os_error().unwrap_or(libc::EIO), "PID namespace")
}

/// What the kernel has refused to make.
pub(crate) fn refused(namespace: &Namespace, error: &io::Error) -> Error {
    let detail = if namespace.maps.is_some() { "user namespace" } else { "PID namespace" };
    Error { detail: detail.into(), ..failed(error) }
}

/// What is needed to make one, and what listens to it.
pub(crate) fn prepare(spec: &Specification) -> Result<(Namespace, Init), Error> {
    let capable =
        capabilities(None).is_ok_and(|own| own.effective.contains(CapabilitySet::SYS_ADMIN));
    let needs_user_namespace = !capable;
    if needs_user_namespace
        && (spec.user.is_some() || spec.group.is_some() || spec.groups.is_some())
    {
        return Err(Error::specification(
            "without root a PID namespace takes a user namespace, in which the program can't become \
             another user or group",
        ));
    }
    let maps = needs_user_namespace
        .then(|| [geteuid().as_raw(), getegid().as_raw()])
        // Digits and spaces have no NUL.
        .map(|ids| ids.map(|id| CString::new(format!("{id} {id} 1")).unwrap_or_default()));
    let (introduction, theirs) = sockets().map_err(|error| failed(&error))?;
    let (end, their_end) = pipe().map_err(|error| failed(&error))?;
    without_blocking(&end).map_err(|error| failed(&error))?;
    let namespace = Namespace { maps, introduction: theirs, end: their_end };
    Ok((namespace, Init { pid: 0, introduction, end: Some(end), is_dead: false }))
}

fn sockets() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    set_socket_passcred(&ours, true)?;
    Ok((above_stdio(ours)?, above_stdio(theirs)?))
}

impl Init {
    /// It was made.
    pub(crate) fn was_born(&mut self, pid: u32) {
        self.pid = pid;
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// The program's pid, as it is here, and what holds it; once.
    pub(crate) fn introduced(&self) -> Option<(u32, OwnedFd)> {
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1), ScmCredentials(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0_u8; 1];
        let mut parts = [io::IoSliceMut::new(&mut byte)];
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        recvmsg(&self.introduction, &mut parts, &mut control, flags).ok()?;
        let (mut pid, mut held) = (None, None);
        for message in control.drain() {
            match message {
                RecvAncillaryMessage::ScmCredentials(who) => pid = Some(who.pid),
                RecvAncillaryMessage::ScmRights(mut descriptors) => held = descriptors.next(),
                _ => {}
            }
        }
        Some((pid?.as_raw_nonzero().get().unsigned_abs(), held?))
    }

    /// What to poll for: it tells how the program ended.
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.end.as_ref().map(AsFd::as_fd)
    }

    /// How the program, which has this pid, has ended, once that is known. Never blocks.
    pub(crate) fn end_of(&mut self, program: u32) -> Option<Death> {
        let mut bytes = [0; Report::SIZE];
        let told = match rustix::io::read(self.end.as_ref()?, &mut bytes) {
            Ok(Report::SIZE) => Report::decode(&bytes, program),
            Ok(_) => None,
            Err(_) => return None,
        };
        self.end = None;
        told
    }

    /// It was collected, and with it everybody is dead.
    pub(crate) fn was_collected(&mut self) {
        self.is_dead = true;
    }

    /// Kills it; the kernel kills the others.
    pub(crate) fn kill(&self) {
        if !self.is_dead {
            // It is our child, and was not collected. Should it be dead, nothing happens.
            let _ = sys::kill_direct_child(self.pid, libc::SIGKILL);
        }
    }
}
