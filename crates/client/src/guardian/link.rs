// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! The socket to one guardian, and who can be asked about it.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use proton_stream_protocol::{Ending, Preamble};
use rustix::io::Errno;
use rustix::net::{
    connect, sendmsg, socket_with, socketpair, AddressFamily, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use tokio::net::UnixStream;

use super::locate::Executable;
use super::nursery::{Nursery, Ticket};
use super::process::Process;
use crate::GuardianEnd;

/// Between two tries when too many connect at once.
const AGAIN: Duration = Duration::from_millis(1);

/// Killing is given up after two seconds, and somebody has to tell.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection on which OPEN has begun.
pub(crate) struct Link {
    pub(crate) socket: UnixStream,
    pub(crate) way: Way,
    /// What of OPEN is still to be sent.
    pub(crate) unsent: Vec<u8>,
}

/// Who has made the guardian.
pub(crate) enum Way {
    Nursery { ticket: Ticket, executable: Executable },
    Process { process: Process, executable: Executable },
}

/// Has a nursery's guardian take the run.
pub(crate) async fn fork(
    nursery: &Arc<Nursery>,
    executable: &Executable,
    open: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<Link> {
    let ticket = nursery.enrol();
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let address = SocketAddrUnix::new(nursery.path().as_os_str().as_bytes())?;
    loop {
        match connect(&socket, &address) {
            Ok(()) => break,
            Err(Errno::INTR) => {}
            // The backlog is full.
            Err(Errno::AGAIN) => tokio::time::sleep(AGAIN).await,
            Err(error) => return Err(error.into()),
        }
    }
    let preamble = Preamble { secret: nursery.secret(), run: ticket.run() }.encode();
    // An empty socket has room for it. By itself: descriptors come with OPEN's first byte.
    if rustix::net::send(&socket, &preamble, SendFlags::NOSIGNAL)? != preamble.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    let way = Way::Nursery { ticket, executable: executable.clone() };
    begin(socket, way, open, descriptors)
}

/// Starts a guardian as a process of its own, which has `patience` to end once it is let go.
pub(crate) fn exec(
    executable: &Executable,
    open: &[u8],
    descriptors: &[BorrowedFd<'_>],
    patience: Duration,
) -> io::Result<Link> {
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let mut command = executable.command("session");
    command.stdin(Stdio::from(theirs.try_clone()?)).stdout(Stdio::from(theirs));
    let child = command.spawn()?;
    // The guardian's ends, which would keep ours from ending.
    drop(command);
    let process = Process::watch(child, patience)?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    let way = Way::Process { process, executable: executable.clone() };
    begin(ours, way, open, descriptors)
}

/// Sends the first bytes of OPEN, and the descriptors with them.
fn begin(
    socket: OwnedFd,
    way: Way,
    open: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<Link> {
    let sent = match descriptors {
        [] => 0,
        some => pass(socket.as_fd(), open, some)?,
    };
    let socket = UnixStream::from_std(socket.into())?;
    Ok(Link { socket, way, unsent: open[sent..].to_vec() })
}

fn pass(socket: BorrowedFd<'_>, open: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    Ok(sendmsg(socket, &[IoSlice::new(open)], &mut ancillary, SendFlags::NOSIGNAL)?)
}

impl Way {
    pub(crate) fn is_nursery(&self) -> bool {
        matches!(self, Way::Nursery { .. })
    }

    /// The guardian is stuck.
    pub(crate) fn kill(&self) {
        match self {
            Way::Nursery { ticket, .. } => ticket.kill(),
            Way::Process { process, .. } => process.kill(),
        }
    }

    /// The connection was closed. A nursery sees to its guardians by itself.
    pub(crate) fn let_go(&self) {
        if let Way::Process { process, .. } = self {
            process.let_go();
        }
    }

    /// What became of a guardian whose connection has ended without a last word, once what it has
    /// left is dead; with those that could not be killed.
    pub(crate) async fn fate(&self, cgroup: &[u8]) -> (GuardianEnd, Vec<u32>) {
        let known = tokio::time::timeout(PATIENCE, async {
            match self {
                Way::Nursery { ticket, .. } => match ticket.fate().await? {
                    (Ending::Exited(status), left) => {
                        Some((GuardianEnd::Exited(status), Some(left)))
                    }
                    (Ending::Signalled(signal), left) => {
                        Some((GuardianEnd::Signalled(signal), Some(left)))
                    }
                    (Ending::Unknown, _) => Some((GuardianEnd::Lost, None)),
                },
                Way::Process { process, .. } => Some((process.end().await, None)),
            }
        });
        let (end, left) = match known.await {
            Ok(Some(known)) => known,
            Ok(None) | Err(_) => (GuardianEnd::Lost, None),
        };
        match left {
            Some(left) => (end, left),
            // The program has died with its guardian; in its group somebody may live on.
            None => (end, self.sweep(cgroup).await),
        }
    }

    /// Has the run's group killed and removed, by a guardian that does no more than that.
    async fn sweep(&self, cgroup: &[u8]) -> Vec<u32> {
        let (Way::Nursery { executable, .. } | Way::Process { executable, .. }) = self;
        if cgroup.is_empty() {
            return Vec::new();
        }
        let mut command = executable.command("sweep");
        command.arg(std::ffi::OsStr::from_bytes(cgroup)).stdin(Stdio::null());
        // It may take two seconds, which is not for a runtime's thread. Where it can't be done the
        // next start in the same base does it.
        let swept = tokio::task::spawn_blocking(move || command.output());
        let Ok(Ok(output)) = swept.await else { return Vec::new() };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }
}
