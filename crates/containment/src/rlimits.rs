// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Resource limits by name.

use crate::specification::Rlimit;
use crate::sys::Limit;
use crate::{Error, Step};

/// Not every C library has the numbers in the same type.
const RESOURCES: [(&str, u32); 16] = [
    ("as", libc::RLIMIT_AS as _),
    ("core", libc::RLIMIT_CORE as _),
    ("cpu", libc::RLIMIT_CPU as _),
    ("data", libc::RLIMIT_DATA as _),
    ("fsize", libc::RLIMIT_FSIZE as _),
    ("locks", libc::RLIMIT_LOCKS as _),
    ("memlock", libc::RLIMIT_MEMLOCK as _),
    ("msgqueue", libc::RLIMIT_MSGQUEUE as _),
    ("nice", libc::RLIMIT_NICE as _),
    ("nofile", libc::RLIMIT_NOFILE as _),
    ("nproc", libc::RLIMIT_NPROC as _),
    ("rss", libc::RLIMIT_RSS as _),
    ("rtprio", libc::RLIMIT_RTPRIO as _),
    ("rttime", libc::RLIMIT_RTTIME as _),
    ("sigpending", libc::RLIMIT_SIGPENDING as _),
    ("stack", libc::RLIMIT_STACK as _),
];

/// The limits as the kernel numbers them.
pub(crate) fn resolve(limits: &[Rlimit]) -> Result<Vec<Limit>, Error> {
    limits
        .iter()
        .map(|limit| {
            let resource = RESOURCES
                .iter()
                .find(|(name, _)| name.as_bytes() == limit.name)
                .map(|(_, resource)| *resource);
            let resource = resource
                .ok_or_else(|| Error::new(Step::Process, libc::EINVAL, attribute(&limit.name)))?;
            Ok(Limit { resource, soft: limit.soft, hard: limit.hard })
        })
        .collect()
}

/// How a limit is called in an error.
pub(crate) fn attribute(name: &[u8]) -> Vec<u8> {
    [b"rlimit ", name].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_the_kernel_does_not_have_is_named() {
        let unknown = [Rlimit { name: b"nofiles".to_vec(), soft: None, hard: None }];
        let error = resolve(&unknown).expect_err("unknown");
        assert_eq!((error.step, error.errno), (Step::Process, libc::EINVAL));
        assert_eq!(error.detail, b"rlimit nofiles");
    }
}
