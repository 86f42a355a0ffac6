// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! `proton-guardian group PATH ...`: what sessions ask of their guardian about a run's cgroup, for
//! people in a shell, of a run that another guardian holds.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;
use std::time::Instant;

use proton_stream_containment::cgroup::{Attached, Limit};
use proton_stream_containment::Error;

use crate::account;
use crate::requests::{LOOK, PATIENCE};
use crate::shell::fail;

const USAGE: &str = "group takes the path of a run and one of: stats, freeze, thaw, \
                     limit NAME=VALUE...";

pub(crate) fn main(arguments: &[OsString]) -> ExitCode {
    let words: Vec<&[u8]> = arguments.iter().map(|word| word.as_bytes()).collect();
    let [path, what, rest @ ..] = words.as_slice() else { return fail(USAGE) };
    let group = match Attached::to(path) {
        Ok(group) => group,
        Err(error) => return fail(&format!("group: {error}")),
    };
    match (*what, rest) {
        (b"stats", []) => stats(&group),
        (b"freeze", []) => told(freeze(&group)),
        (b"thaw", []) => told(group.freeze(false).map_err(|error| said(&error))),
        (b"limit", [_, ..]) => told(limit(&group, rest)),
        _ => fail(USAGE),
    }
}

fn said(error: &Error) -> String {
    error.to_string()
}

fn told(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => fail(&format!("group: {sentence}")),
    }
}

fn stats(group: &Attached) -> ExitCode {
    let lines = account::counted(&group.stats());
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    told(std::io::stdout().write_all(text.as_bytes()).map_err(|error| error.to_string()))
}

fn freeze(group: &Attached) -> Result<(), String> {
    group.freeze(true).map_err(|error| said(&error))?;
    let give_up = Instant::now() + PATIENCE;
    while !group.is_frozen() {
        if Instant::now() >= give_up {
            // Nobody is left half frozen by a request that failed.
            let _ = group.freeze(false);
            return Err("its processes did not stop in time".into());
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

fn limit(group: &Attached, words: &[&[u8]]) -> Result<(), String> {
    let limits = words.iter().map(|word| {
        let at = word.iter().position(|byte| *byte == b'=');
        let at = at.ok_or_else(|| format!("{} is not NAME=VALUE", word.escape_ascii()))?;
        let (name, value) = (word[..at].to_vec(), word[at + 1..].to_vec());
        Ok(Limit { name, value })
    });
    let limits = limits.collect::<Result<Vec<_>, String>>()?;
    group.update_limits(&limits).map_err(|error| said(&error))
}
