// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! A fork of the nursery that is a guardian, and what it tells its nursery.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use proton_stream_containment::Forked;
use rustix::pipe::{pipe_with, PipeFlags};
use rustix::process::{chdir, setsid};

use crate::session;

/// What a guardian needs to know of its connection.
#[derive(Clone, Copy)]
pub(crate) struct Errand {
    pub(crate) run: u64,
    /// The process whose directory is the program's.
    pub(crate) controller: u32,
}

/// The exit status of a guardian that has left somebody alive, whom the nursery goes on to kill.
const LEFT: u8 = 3;

/// The exit status of one that could not begin.
const FAILED: u8 = 125;

/// How many bytes an announcement has; below PIPE_BUF, so that each arrives whole.
const LENGTH: usize = 512;

/// What of them is the path.
const PATH: usize = LENGTH - 10;

/// Serves one connection. What it answers is the exit status.
pub(crate) fn guard(forked: Forked, errand: Errand) -> u8 {
    let Forked { connection, report, signals } = forked;
    // It can't fail: a fork leads no group.
    let _ = setsid();
    // As a port program it would have been started there. The link leads to the directory itself,
    // whatever its name is now, also when it has none any more.
    if chdir(format!("/proc/{}/cwd", errand.controller)).is_err() {
        return FAILED;
    }
    let announce = |path: &[u8]| announce(&report, errand.run, path);
    let connection = connection.as_fd();
    match session::serve(connection, connection, signals, Some(&announce)) {
        Ok(false) => 0,
        Ok(true) => LEFT,
        Err(_) => FAILED,
    }
}

/// A path that is too long, and one for which there is no room because the nursery is stopped, is
/// not announced: should this guardian be killed, the next start on the same place cleans it.
fn announce(report: &OwnedFd, run: u64, path: &[u8]) {
    let Ok(length) = u16::try_from(path.len()) else { return };
    if path.len() > PATH {
        return;
    }
    let mut bytes = [0; LENGTH];
    let (head, rest) = bytes.split_at_mut(LENGTH - PATH);
    head[..8].copy_from_slice(&run.to_be_bytes());
    head[8..].copy_from_slice(&length.to_be_bytes());
    rest[..path.len()].copy_from_slice(path);
    let _ = rustix::io::write(report, &bytes);
}

/// The nursery's end of the pipe.
pub(crate) struct Announcements(OwnedFd);

impl Announcements {
    /// The guardians' end, and the nursery's. Neither blocks.
    pub(crate) fn new() -> rustix::io::Result<(OwnedFd, Self)> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok((writer, Self(reader)))
    }

    /// Runs and paths that were announced.
    pub(crate) fn read(&self) -> Vec<(u64, Box<[u8]>)> {
        let mut all = Vec::new();
        let mut bytes = [0; LENGTH];
        while let Ok(LENGTH) = rustix::io::read(&self.0, &mut bytes) {
            let (head, rest) = bytes.split_at(LENGTH - PATH);
            let run = head[..8].iter().fold(0, |run, byte| run << 8 | u64::from(*byte));
            let length = usize::from(head[8]) << 8 | usize::from(head[9]);
            all.push((run, rest[..length.min(PATH)].into()));
        }
        all
    }
}

impl AsFd for Announcements {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_announced_arrives_whole_and_in_order() {
        let (writer, announcements) = Announcements::new().unwrap();
        announce(&writer, 7, b"base/proton-1-123456789");
        announce(&writer, u64::MAX, &[b'x'; PATH]);
        announce(&writer, 8, &[b'x'; PATH + 1]);
        let read = announcements.read();
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].0, &read[0].1[..]), (7, &b"base/proton-1-123456789"[..]));
        assert_eq!((read[1].0, read[1].1.len()), (u64::MAX, PATH));
        assert!(announcements.read().is_empty());
    }
}
