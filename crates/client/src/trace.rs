// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Events of starts and ends, for who has asked for the feature `tracing`. Arguments and
//! environment are nobody's business and are not told.

#[cfg(feature = "tracing")]
pub(crate) use told::{not_started, passed_over, Run};

#[cfg(not(feature = "tracing"))]
pub(crate) use silent::{not_started, passed_over, Run};

#[cfg(feature = "tracing")]
mod told {
    use std::ffi::OsStr;

    use crate::{Error, Exit};

    /// What is told of one run, by whoever hears its guardian: so the start comes before the end,
    /// however short it was.
    pub(crate) struct Run {
        program: String,
        pid: u32,
    }

    impl Run {
        pub(crate) fn of(program: &OsStr) -> Self {
            Self { program: program.to_string_lossy().into_owned(), pid: 0 }
        }

        pub(crate) fn started(&mut self, pid: u32) {
            self.pid = pid;
            tracing::debug!(program = %self.program, pid, "program started");
        }

        pub(crate) fn ended(&self, exit: &Exit) {
            tracing::debug!(program = %self.program, pid = self.pid, %exit, "program ended");
        }
    }

    pub(crate) fn not_started(program: &OsStr, error: &Error) {
        let program = program.to_string_lossy();
        tracing::debug!(%program, %error, "program not started");
    }

    pub(crate) fn passed_over() {
        tracing::warn!("the nursery doesn't answer: a guardian is started by itself");
    }
}

#[cfg(not(feature = "tracing"))]
mod silent {
    use std::ffi::OsStr;

    use crate::{Error, Exit};

    pub(crate) struct Run;

    impl Run {
        pub(crate) fn of(_: &OsStr) -> Self {
            Self
        }

        pub(crate) fn started(&mut self, _: u32) {}

        pub(crate) fn ended(&self, _: &Exit) {}
    }

    pub(crate) fn not_started(_: &OsStr, _: &Error) {}

    pub(crate) fn passed_over() {}
}
