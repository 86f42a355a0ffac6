// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Events of starts and ends, for who has asked for the feature `tracing`. Arguments and
//! environment are nobody's business and are not told.

use std::ffi::OsStr;

use crate::{Error, Exit};

#[cfg(feature = "tracing")]
pub(crate) fn started(program: &OsStr, outcome: Result<Option<u32>, &Error>) {
    let program = program.to_string_lossy();
    match outcome {
        Ok(pid) => tracing::debug!(%program, pid, "program started"),
        Err(error) => tracing::debug!(%program, %error, "program not started"),
    }
}

#[cfg(feature = "tracing")]
pub(crate) fn ended(pid: Option<u32>, exit: &Exit) {
    tracing::debug!(pid, %exit, "program ended");
}

#[cfg(feature = "tracing")]
pub(crate) fn passed_over() {
    tracing::warn!("the nursery doesn't answer: a guardian is started by itself");
}

#[cfg(not(feature = "tracing"))]
pub(crate) fn started(_: &OsStr, _: Result<Option<u32>, &Error>) {}

#[cfg(not(feature = "tracing"))]
pub(crate) fn ended(_: Option<u32>, _: &Exit) {}

#[cfg(not(feature = "tracing"))]
pub(crate) fn passed_over() {}
