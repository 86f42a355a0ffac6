// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Descriptors that travel with OPEN (PROTOCOL §3), where the controller is at the other end of a
//! local socket.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use proton_stream_containment::{Error, Stdio};
use rustix::io::{read, Errno};
use rustix::net::{recvmsg, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

use crate::specification::refusal;

/// One for each of the program's first three; those beyond are closed by the kernel.
const MOST: usize = 3;

/// What has come and was not used yet. Dropped, they are closed.
#[derive(Default)]
pub(crate) struct Passed {
    descriptors: Vec<OwnedFd>,
    /// The controller is no socket, so none can come.
    is_pipe: bool,
}

impl Passed {
    /// Reads the controller, with the descriptors that come along.
    #[doc(alias = "SCM_RIGHTS")]
    pub(crate) fn read(
        &mut self,
        controller: BorrowedFd<'_>,
        buffer: &mut [u8],
    ) -> Result<usize, Errno> {
        if self.is_pipe {
            return read(controller, buffer);
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [IoSliceMut::new(buffer)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let length = match recvmsg(controller, &mut slices, &mut ancillary, flags) {
            Ok(message) => message.bytes,
            Err(Errno::NOTSOCK) => {
                self.is_pipe = true;
                return read(controller, buffer);
            }
            Err(error) => return Err(error),
        };
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.descriptors.extend(descriptors);
            }
        }
        Ok(length)
    }

    /// Deals them out to those of `stdio` that are passed, in order.
    ///
    /// # Errors
    /// Where there are more or fewer of them.
    pub(crate) fn deal(&self, stdio: &[Stdio; 3]) -> Result<[Option<BorrowedFd<'_>>; 3], Error> {
        let wanted = stdio.iter().filter(|stdio| **stdio == Stdio::Passed).count();
        let come = self.descriptors.len();
        if wanted != come {
            return Err(refusal(&format!(
                "{come} descriptors came with the specification, stdio names {wanted}"
            )));
        }
        let mut next = self.descriptors.iter().map(AsFd::as_fd);
        Ok(stdio.map(|stdio| if stdio == Stdio::Passed { next.next() } else { None }))
    }
}
