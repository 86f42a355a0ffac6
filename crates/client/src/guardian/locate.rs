// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Where the guardian's executable is.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Error;

const NAME: &str = "proton-guardian";

const VARIABLE: &str = "PROTON_GUARDIAN";

/// What is executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Executable {
    File(PathBuf),
    /// This program itself, which has called `maybe_run`.
    #[cfg(feature = "embed")]
    Embedded,
}

impl Executable {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Executable::File(path) => path,
            #[cfg(feature = "embed")]
            Executable::Embedded => Path::new("/proc/self/exe"),
        }
    }

    /// A guardian that is told what it is by its first argument, in a process group of its own: a
    /// terminal's Ctrl-C is for this program, which may want to end others its own way.
    pub(crate) fn command(&self, what: &str) -> Command {
        let mut command = Command::new(self.path());
        #[cfg(feature = "embed")]
        if *self == Executable::Embedded {
            command.arg0(proton_stream_guardian::EMBEDDED);
        }
        command.arg(what).process_group(0);
        command
    }
}

/// In the documented order: what was given, `PROTON_GUARDIAN`, this program itself, beside it, in
/// `PATH`.
pub(crate) fn locate(given: Option<&Path>) -> Result<Executable, Error> {
    if let Some(path) = given {
        return Ok(Executable::File(path.to_owned()));
    }
    if let Some(path) = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        return Ok(Executable::File(path.into()));
    }
    #[cfg(feature = "embed")]
    if proton_stream_guardian::is_embedded() {
        return Ok(Executable::Embedded);
    }
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(NAME)));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(NAME));
    match beside.into_iter().chain(in_path).find(|path| is_executable(path)) {
        Some(path) => Ok(Executable::File(path)),
        None => Err(Error::NoGuardian(sentence())),
    }
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

fn sentence() -> String {
    let embed = match () {
        #[cfg(feature = "embed")]
        () => match proton_stream_guardian::came_too_late() {
            true => {
                "`proton_stream::maybe_run()` was called when this program had more than one \
                 thread: it has to be the first line of a plain `fn main`, before any runtime"
            }
            false => {
                "this program carries one (feature `embed`), but did not call \
                 `proton_stream::maybe_run()`: make it the first line of `fn main`, before any \
                 runtime"
            }
        },
        #[cfg(not(feature = "embed"))]
        () => "enable the feature `embed`, or install one: cargo install proton-stream-guardian",
    };
    format!(
        "no guardian was given, {VARIABLE} is not set, and there is no {NAME} beside this program \
         or in PATH; {embed}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_comes_first() {
        let given = Path::new("/nowhere/guardian");
        assert_eq!(locate(Some(given)).unwrap(), Executable::File(given.into()));
    }

    #[test]
    fn a_directory_or_a_text_is_no_executable() {
        assert!(!is_executable(Path::new("/tmp")));
        assert!(!is_executable(Path::new("/etc/passwd")));
        assert!(is_executable(Path::new("/bin/sh")));
    }

    #[test]
    fn who_has_forgotten_the_call_is_told_to_add_it() {
        let said = sentence();
        assert!(said.contains("PROTON_GUARDIAN"), "{said}");
        #[cfg(feature = "embed")]
        assert!(said.contains("proton_stream::maybe_run()"), "{said}");
    }
}
