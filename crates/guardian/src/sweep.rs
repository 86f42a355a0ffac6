// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! `proton-guardian sweep PATH`: after a guardian's own death its controller has its
//! run's cgroup killed and removed at once. Not for people: there the next start does it.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;
use std::time::Duration;

use proton_stream_containment::cgroup::clean_after;

use crate::shell::fail;

/// As long as a guardian itself goes on killing.
const PATIENCE: Duration = Duration::from_secs(2);

/// Prints the pids of what could not be killed, one a line.
pub(crate) fn main(arguments: &[OsString]) -> ExitCode {
    let [path] = arguments else {
        return fail("sweep takes one path");
    };
    let path = path.as_bytes();
    match clean_after(path, PATIENCE) {
        Ok(left) => {
            let lines: String = left.iter().map(|pid| format!("{pid}\n")).collect();
            match std::io::stdout().write_all(lines.as_bytes()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(&format!("sweep: {error}")),
            }
        }
        Err(error) => fail(&format!("sweep: {}: {error}", path.escape_ascii())),
    }
}
