// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Descriptors 0, 1 and 2 of the program, and our ends of them.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{fcntl_setfl, Mode, OFlags};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::pipe::{pipe_with, PipeFlags};

use crate::ahead::Ends;
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
pub(crate) fn pipe() -> io::Result<Ends> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok((above_stdio(reader)?, above_stdio(writer)?))
}

/// Makes one end of a new pipe, which has no other flag, non-blocking. The flag belongs to the open
/// file, and the two ends are different ones: the other end stays as it is.
pub(crate) fn without_blocking(fd: &OwnedFd) -> io::Result<()> {
    Ok(fcntl_setfl(fd, OFlags::NONBLOCK)?)
}

/// A pipe for the program's descriptor of that number, or for the report. Our end never blocks.
pub(crate) fn new_pipe(index: usize) -> io::Result<Ends> {
    let (reader, writer) = pipe()?;
    without_blocking(if index == 0 { &writer } else { &reader })?;
    Ok((reader, writer))
}

/// The same, which may have been made ahead.
pub(crate) fn pipe_for(index: usize, around: &Around<'_>) -> io::Result<Ends> {
    around.ahead.and_then(|ahead| ahead.pipe(index)).map_or_else(|| new_pipe(index), Ok)
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
            let (reader, writer) = pipe_for(index, around)?;
            let (theirs, ours) = if index == 0 { (reader, writer) } else { (writer, reader) };
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
