// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! The nursery's stdin and stdout, over which its controller orders it and is told.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use proton_stream_protocol::{
    FromNursery, Header, Malformed, ToNursery, HEADER_LENGTH, SECRET_LENGTH,
};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::fs::{fcntl_getfl, fcntl_setfl, open, Mode, OFlags};
use rustix::io::{fcntl_dupfd_cloexec, read, write, Errno};
use rustix::stdio::{dup2_stdin, dup2_stdout, stdin, stdout};

/// How long the controller may take to say whom it is.
const PATIENCE: i64 = 10;

/// ERROR's codes (PROTOCOL §8).
const ERROR_VERSION: u8 = 1;
const ERROR_MALFORMED: u8 = 2;
const ERROR_INTERNAL: u8 = 4;

/// Whom a nursery serves.
#[derive(Clone, Copy)]
pub(crate) struct Charge {
    pub(crate) controller: u32,
    pub(crate) secret: [u8; SECRET_LENGTH],
}

pub(crate) struct Control {
    input: Option<OwnedFd>,
    output: OwnedFd,
    heard: Vec<u8>,
    /// How much of it was understood.
    used: usize,
    /// Bounded by the number of guardians, each of which dies once.
    unwritten: Vec<u8>,
}

impl Control {
    /// Moves both away from 0 and 1, which the forks keep, and puts `/dev/null` there.
    pub(crate) fn take() -> io::Result<Self> {
        let input = fcntl_dupfd_cloexec(stdin(), 3)?;
        let output = fcntl_dupfd_cloexec(stdout(), 3)?;
        for fd in [&input, &output] {
            fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)?;
        }
        let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        dup2_stdin(&null)?;
        dup2_stdout(&null)?;
        Ok(Self { input: Some(input), output, heard: Vec::new(), used: 0, unwritten: Vec::new() })
    }

    pub(crate) fn input(&self) -> Option<BorrowedFd<'_>> {
        self.input.as_ref().map(AsFd::as_fd)
    }

    /// Where something waits to be written.
    pub(crate) fn unwritten(&self) -> Option<BorrowedFd<'_>> {
        (!self.unwritten.is_empty()).then(|| self.output.as_fd())
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.input.is_none()
    }

    /// Waits for the first frame. `None` when the controller is gone, or is refused.
    pub(crate) fn charge(&mut self) -> io::Result<Option<Charge>> {
        let (code, message) = loop {
            let heard = match self.next() {
                Ok(Some(ToNursery::Nurse { controller, secret, .. })) => {
                    Ok(Some(Charge { controller, secret }))
                }
                Ok(Some(ToNursery::Kill { .. })) => Err(Malformed::Order("a frame before NURSE")),
                Ok(None) => Ok(None),
                Err(malformed) => Err(malformed),
            };
            match heard {
                Ok(Some(charge)) => match sees_directory_of(charge.controller) {
                    Ok(()) => return Ok(Some(charge)),
                    Err(error) => {
                        break (ERROR_INTERNAL, format!("the controller's directory: {error}"));
                    }
                },
                Ok(None) => {}
                Err(error @ Malformed::Version { .. }) => break (ERROR_VERSION, error.to_string()),
                Err(error) => break (ERROR_MALFORMED, error.to_string()),
            }
            if self.is_gone() || !self.wait()? {
                return Ok(None);
            }
        };
        self.say(&FromNursery::Error { code, message: message.as_bytes() });
        // The controller closes first: a port whose reader is gone loses what it has not read.
        while !self.is_gone() && self.wait()? {
            let _ = self.next();
            self.used = self.heard.len();
        }
        Ok(None)
    }

    /// Whether there is something to read.
    fn wait(&self) -> io::Result<bool> {
        let Some(input) = self.input() else { return Ok(false) };
        let mut fds = [PollFd::from_borrowed_fd(input, PollFlags::IN)];
        match poll(&mut fds, Some(&Timespec { tv_sec: PATIENCE, tv_nsec: 0 })) {
            Ok(count) => Ok(count > 0),
            Err(Errno::INTR) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// The next frame that has come. Never blocks.
    pub(crate) fn next(&mut self) -> Result<Option<ToNursery<'_>>, Malformed> {
        self.heard.drain(..self.used);
        self.used = 0;
        let mut chunk = [0; 4096];
        while let Some(input) = &self.input {
            match read(input, &mut chunk) {
                Ok(0) => self.input = None,
                Ok(length) => self.heard.extend_from_slice(&chunk[..length]),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => self.input = None,
            }
        }
        let Some(head) = self.heard.first_chunk::<HEADER_LENGTH>() else { return Ok(None) };
        let header = Header::to_nursery(*head)?;
        let end = HEADER_LENGTH + header.body_length;
        let Some(body) = self.heard.get(HEADER_LENGTH..end) else { return Ok(None) };
        self.used = end;
        ToNursery::decode(header.kind, body).map(Some)
    }

    /// Says something, now or as soon as there is room.
    pub(crate) fn say(&mut self, frame: &FromNursery<'_>) {
        if !self.is_gone() {
            frame.encode(&mut self.unwritten);
            self.flush();
        }
    }

    pub(crate) fn flush(&mut self) {
        while !self.unwritten.is_empty() {
            match write(&self.output, &self.unwritten) {
                Ok(written) => {
                    self.unwritten.drain(..written);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => {
                    self.unwritten.clear();
                    self.input = None;
                }
            }
        }
    }
}

/// Programs start in it; where they can't, a nursery is of no use.
fn sees_directory_of(controller: u32) -> io::Result<()> {
    open(
        format!("/proc/{controller}/cwd"),
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    Ok(())
}
