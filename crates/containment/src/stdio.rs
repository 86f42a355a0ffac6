// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Descriptors 0, 1 and 2 of the program, and our ends of them.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{fcntl_setfl, Mode, OFlags};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::pipe::{pipe_with, PipeFlags};

use crate::specification::Stdio;
use crate::sys::End;
use crate::{Around, Error, Pipes, Step};

/// How the three are called in errors.
pub(crate) const NAMES: [&str; 3] = ["stdin", "stdout", "stderr"];

/// The same open file at a number above 2, so that putting the three in place can't overwrite it.
pub(crate) fn above_stdio(fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() > 2 {
        return Ok(fd);
    }
    Ok(fcntl_dupfd_cloexec(&fd, 3)?)
}

/// A pipe, read end first, both ends close-on-exec and above 2.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok((above_stdio(reader)?, above_stdio(writer)?))
}

/// Makes one end of a new pipe, which has no other flag, non-blocking. The flag belongs to the open
/// file, and the two ends are different ones: the other end stays as it is.
pub(crate) fn without_blocking(fd: &OwnedFd) -> io::Result<()> {
    Ok(fcntl_setfl(fd, OFlags::NONBLOCK)?)
}

/// Pipes that are made before a program is asked for, so that its start finds them made. Those that
/// nobody has a use for are closed with this.
#[derive(Debug, Default)]
pub struct SparePipes(RefCell<Vec<(OwnedFd, OwnedFd)>>);

impl SparePipes {
    /// What a start takes at most: for descriptors 0, 1 and 2, and to hear of the exec.
    const MOST: usize = 4;

    /// Makes those that are missing. Where they can't be had, the start will say so.
    pub fn fill(&self) {
        let mut made = self.0.borrow_mut();
        while made.len() < Self::MOST {
            let Ok(one) = pipe() else { return };
            made.push(one);
        }
    }

    fn take(&self) -> Option<(OwnedFd, OwnedFd)> {
        self.0.borrow_mut().pop()
    }
}

/// A pipe as [`pipe`] makes it: one that is there, or a new one.
pub(crate) fn pipe_for(around: &Around<'_>) -> io::Result<(OwnedFd, OwnedFd)> {
    around.pipes.and_then(SparePipes::take).map_or_else(pipe, Ok)
}

fn null(index: usize) -> io::Result<OwnedFd> {
    let access = if index == 0 { OFlags::RDONLY } else { OFlags::WRONLY };
    let fd = rustix::fs::open("/dev/null", access | OFlags::CLOEXEC, Mode::empty())?;
    above_stdio(fd)
}

fn prepare_one(
    index: usize,
    wanted: Stdio,
    around: &Around<'_>,
) -> io::Result<(End, Option<OwnedFd>)> {
    match wanted {
        Stdio::Passed => {
            let passed = around.passed.get(index).copied().flatten();
            let passed = passed.ok_or(io::Error::from_raw_os_error(libc::EBADF))?;
            Ok((End::Owned(fcntl_dupfd_cloexec(passed, 3)?), None))
        }
        Stdio::Inherit => Ok((End::Inherited, None)),
        Stdio::SameAsStdout => Ok((End::SameAsStdout, None)),
        Stdio::Null => Ok((End::Owned(null(index)?), None)),
        Stdio::Piped => {
            let (reader, writer) = pipe_for(around)?;
            let (theirs, ours) = if index == 0 { (reader, writer) } else { (writer, reader) };
            without_blocking(&ours)?;
            Ok((End::Owned(theirs), Some(ours)))
        }
    }
}

/// The program's three ends, and ours.
pub(crate) fn prepare(
    wanted: &[Stdio; 3],
    around: &Around<'_>,
) -> Result<([End; 3], Pipes), Error> {
    let [stdin, stdout, _] = wanted;
    if [stdin, stdout].contains(&&Stdio::SameAsStdout) {
        return Err(Error::specification("only stderr can be the same as stdout"));
    }
    let prepare = |index: usize| {
        let wanted = wanted.get(index).copied().unwrap_or_default();
        prepare_one(index, wanted, around).map_err(|error| {
            let name = NAMES.get(index).copied().unwrap_or_default();
            Error::new(Step::Stdio, error.raw_os_error().unwrap_or(0), name)
        })
    };
    let (theirs_0, stdin) = prepare(0)?;
    let (theirs_1, stdout) = prepare(1)?;
    let (theirs_2, stderr) = prepare(2)?;
    let ours = Pipes { stdin, stdout, stderr };
    Ok(([theirs_0, theirs_1, theirs_2], ours))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipes_that_were_made_ahead_are_taken_before_new_ones_are_made() {
        let spare = SparePipes::default();
        let around = Around { pipes: Some(&spare), ..Around::default() };
        for (others, left) in [(Stdio::Piped, 0), (Stdio::Null, 2)] {
            spare.fill();
            spare.fill();
            assert_eq!(spare.0.borrow().len(), SparePipes::MOST);
            let made = spare.0.borrow().last().map(|(reader, _)| reader.as_raw_fd());
            let (theirs, _ours) = prepare(&[Stdio::Piped, others, others], &around).expect("pipes");
            assert!(matches!(&theirs[0], End::Owned(fd) if Some(fd.as_raw_fd()) == made));
            let _report = pipe_for(&around).expect("a pipe");
            assert_eq!(spare.0.borrow().len(), left);
        }
        spare.0.borrow_mut().clear();
        prepare(&[Stdio::Piped; 3], &around).expect("pipes that are made now");
    }
}
