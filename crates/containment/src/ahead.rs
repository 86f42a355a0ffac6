// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! What a start takes that can be made before it is asked for: pipes, and the process that is to
//! become the program.

use std::cell::RefCell;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use crate::pipe::{capacity, DEFAULT};
use crate::stdio::new_pipe;
use crate::sys::Waiting;

/// A pipe, read end first.
pub(crate) type Ends = (OwnedFd, OwnedFd);

/// Which of the pipes is not for a descriptor of the program's, but to hear of its exec.
pub(crate) const REPORT: usize = 3;

/// What is made ahead of a start, which finds the pipes made, and the process where it has a
/// [`base`](crate::Around::base). What that start has no use for is gone before it makes a process
/// itself; the rest goes with this.
///
/// The process is a child of the caller's and dies with it. It has descriptors 0, 1 and 2 and its
/// ends of the pipes, and waits. It is not for times in which there is a
/// [`Program`](crate::Program), which collects whatever child has died.
#[derive(Debug, Default)]
pub struct Ahead(RefCell<Made>);

#[derive(Debug, Default)]
struct Made {
    pipes: [Option<Ends>; 4],
    process: Option<Waiting>,
}

impl Ahead {
    /// Makes all of it, if nothing is made. Where it can't be had, the start will say so.
    pub fn fill(&self) {
        let mut made = self.0.borrow_mut();
        if made.pipes.iter().all(Option::is_none) && made.process.is_none() {
            *made = Made::new().unwrap_or_default();
        }
    }

    /// Ends all of it.
    pub fn clear(&self) {
        self.0.replace(Made::default());
    }

    /// For the descriptor of this number, or [`REPORT`].
    pub(crate) fn pipe(&self, index: usize) -> Option<Ends> {
        self.0.borrow_mut().pipes.get_mut(index)?.take()
    }

    /// The process, where the start is to use it; and nothing is left then.
    pub(crate) fn process(&self) -> Option<Waiting> {
        self.0.take().process
    }
}

impl Made {
    fn new() -> Option<Self> {
        let mut pipes = [const { None }; 4];
        for (index, slot) in pipes.iter_mut().enumerate() {
            *slot = Some(new_pipe(index).ok()?);
        }
        let [Some(stdin), Some(stdout), Some(stderr), Some(report)] = &pipes else { return None };
        // Pipes of a user who has too many of them are small, and the program would keep them.
        if capacity(stderr.0.as_fd()).is_ok_and(|size| size < DEFAULT) {
            return None;
        }
        let theirs = [&stdin.0, &stdout.1, &stderr.1].map(AsRawFd::as_raw_fd);
        let process = Waiting::new(theirs, report.1.as_raw_fd()).ok();
        Some(Self { pipes, process })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::End;
    use crate::{stdio, Around, Stdio};

    #[test]
    fn pipes_that_were_made_ahead_are_taken_before_new_ones_are_made() {
        let ahead = Ahead(RefCell::default());
        let around = Around { ahead: Some(&ahead), ..Around::default() };
        for others in [Stdio::Piped, Stdio::Null] {
            ahead.0.borrow_mut().pipes = [0, 1, 2, REPORT].map(|index| new_pipe(index).ok());
            let made = ahead.0.borrow().pipes[0].as_ref().map(|(reader, _)| reader.as_raw_fd());
            let wanted = [Stdio::Piped, others, others];
            let (theirs, _ours) = stdio::prepare(&wanted, &around).expect("pipes");
            assert!(matches!(&theirs[0], End::Owned(fd) if Some(fd.as_raw_fd()) == made));
            assert!(ahead.pipe(REPORT).is_some());
            assert_eq!(ahead.pipe(1).is_some(), others == Stdio::Null);
            assert!(ahead.process().is_none());
            assert!(ahead.pipe(2).is_none(), "what is left is closed");
        }
        stdio::prepare(&[Stdio::Piped; 3], &around).expect("pipes that are made now");
    }
}
