// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! `proton-guardian doctor`: what this host offers, and how to get what is missing.

use std::io::Write;
use std::process::ExitCode;

use proton_stream_containment::{become_guardian, survey, Check};

use crate::shell::fail;

/// Prints it. The status is 0 also where something is missing: the least that is needed for level
/// `tree` is a kernel, and that is there.
pub(crate) fn main() -> ExitCode {
    let mut signals = match become_guardian() {
        Ok(signals) => signals,
        Err(error) => return fail(&format!("doctor: {error}")),
    };
    let checks = survey("/proc/self/exe", &mut signals);
    let version = env!("CARGO_PKG_VERSION");
    let lines: String = checks.iter().map(line).collect();
    let text = format!("proton-guardian {version}\n\n{lines}");
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("doctor: {error}")),
    }
}

fn line(check: &Check) -> String {
    let state = if check.is_there { "yes" } else { "NO" };
    let mut text = format!("{:<14} {state:<4} {}\n", check.name, check.found);
    if let Some(remedy) = &check.remedy {
        text.push_str(&format!("{:<19} -> {remedy}\n", ""));
    }
    text
}
