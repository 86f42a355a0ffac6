// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! How a program ended.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use proton_stream_protocol::{Cause, Exit as Report, ExitKind};

use crate::{GuardianEnd, Signal};

/// How a program ended, and what became of its tree. Told once, when all of it is dead.
///
/// [`status`](Exit::status) is the kernel's word on the program itself; [`reason`](Exit::reason)
/// is what it comes to for whoever has started it: a program that was closed on purpose and died
/// of SIGTERM ended [`Reason::Normal`].
///
/// ```
/// use proton_stream::{Command, Reason, Signal};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let exit = Command::new("sh").args(["-c", "exit 200"]).status().await?;
/// assert_eq!((exit.reason(), exit.code()), (&Reason::Status(200), Some(200)));
/// let exit = Command::new("sh").args(["-c", "kill -9 $$"]).status().await?;
/// assert_eq!((exit.signal(), exit.code()), (Some(Signal::KILL), None));
/// assert!(exit.survivors().is_empty());
/// # Ok(())
/// # }
/// # fn main() {
/// #     proton_stream::maybe_run();
/// #     tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    pub(crate) reason: Reason,
    pub(crate) status: Option<ExitStatus>,
    pub(crate) oom_killed: bool,
    pub(crate) usage: Option<Usage>,
    pub(crate) survivors: Vec<u32>,
}

/// Why a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// Exit status 0, or a close that was asked for.
    Normal,
    /// An exit status from 1 to 255.
    Status(u8),
    /// Killed by a signal.
    Signal(Signal),
    /// The guardian failed, or was ended itself; the program was ended with it.
    Guardian(GuardianEnd),
    /// It could not be killed in time, also where a close was asked for: it is one of the
    /// [`survivors`](Exit::survivors).
    Unknown,
}

/// What the program and the children that it waited for used: `getrusage(2)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Time on a CPU in user mode.
    pub user_time: Duration,
    /// Time on a CPU in the kernel.
    pub system_time: Duration,
    /// The largest resident set, in KiB.
    pub max_rss_kib: u64,
}

impl Exit {
    /// Why it ended.
    pub fn reason(&self) -> &Reason {
        &self.reason
    }

    /// The program's own status, as `wait(2)` has it; `None` where nobody knows it, because the
    /// guardian died or the program could not be killed.
    pub fn status(&self) -> Option<ExitStatus> {
        self.status
    }

    /// Whether the program ended by itself with status 0, and nothing of it was left.
    pub fn success(&self) -> bool {
        self.status.is_some_and(|status| status.success()) && self.survivors.is_empty()
    }

    /// The program's exit status, where it has exited.
    pub fn code(&self) -> Option<i32> {
        self.status?.code()
    }

    /// The signal that killed the program, where one did.
    pub fn signal(&self) -> Option<Signal> {
        Signal::new(self.status?.signal()?).ok()
    }

    /// Whether it left a core.
    pub fn core_dumped(&self) -> bool {
        self.status.is_some_and(|status| status.core_dumped())
    }

    /// Whether the kernel's OOM killer struck in its cgroup.
    pub fn oom_killed(&self) -> bool {
        self.oom_killed
    }

    /// What it used; `None` where the guardian died.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// Processes of the tree that could not be killed in time. Nearly always none.
    pub fn survivors(&self) -> &[u32] {
        &self.survivors
    }

    /// From a guardian's report. `is_asked` says that a close was asked for.
    pub(crate) fn reported(report: Report, is_asked: bool) -> Self {
        let status = match report.kind {
            ExitKind::Exited(code) => Some(ExitStatus::from_raw(i32::from(code) << 8)),
            ExitKind::Signalled { signal, core } => {
                Some(ExitStatus::from_raw(i32::from(signal) | if core { 0x80 } else { 0 }))
            }
            ExitKind::Unknown => None,
        };
        let reason = match (report.cause, report.kind) {
            (Cause::Signal(number), _) => Reason::Guardian(GuardianEnd::Dismissed(number)),
            (_, ExitKind::Unknown) => Reason::Unknown,
            _ if is_asked => Reason::Normal,
            (_, ExitKind::Exited(0)) => Reason::Normal,
            (_, ExitKind::Exited(code)) => Reason::Status(code),
            (_, ExitKind::Signalled { signal, .. }) => {
                Signal::new(i32::from(signal)).map_or(Reason::Unknown, Reason::Signal)
            }
        };
        Self {
            reason,
            status,
            oom_killed: report.oom_killed,
            usage: Some(Usage {
                user_time: Duration::from_micros(report.user_time),
                system_time: Duration::from_micros(report.system_time),
                max_rss_kib: report.max_rss,
            }),
            survivors: report.survivors,
        }
    }

    /// When the guardian has ended without a report.
    pub(crate) fn unreported(end: GuardianEnd, survivors: Vec<u32>) -> Self {
        Self {
            reason: Reason::Guardian(end),
            status: None,
            oom_killed: false,
            usage: None,
            survivors,
        }
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.reason {
            Reason::Normal => f.write_str("ended normally"),
            Reason::Status(status) => write!(f, "exited with status {status}"),
            Reason::Signal(signal) => write!(f, "was killed by {signal:?}"),
            Reason::Guardian(end) => write!(f, "was ended: its guardian {end}"),
            Reason::Unknown => f.write_str("could not be killed in time"),
        }?;
        if self.oom_killed {
            f.write_str(", out of memory")?;
        }
        if !self.survivors.is_empty() {
            write!(f, ", and left {:?}", self.survivors)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(kind: ExitKind, cause: Cause) -> Report {
        Report {
            kind,
            oom_killed: false,
            cause,
            user_time: 1,
            system_time: 2,
            max_rss: 3,
            survivors: vec![],
        }
    }

    #[test]
    fn a_status_is_a_status_and_a_signal_a_signal() {
        let exit = Exit::reported(report(ExitKind::Exited(200), Cause::Program), false);
        assert_eq!((exit.code(), exit.signal()), (Some(200), None));
        assert_eq!(exit.reason(), &Reason::Status(200));
        let kind = ExitKind::Signalled { signal: 11, core: true };
        let exit = Exit::reported(report(kind, Cause::Program), false);
        assert_eq!((exit.code(), exit.signal()), (None, Some(Signal::SEGV)));
        assert!(exit.core_dumped() && !exit.success());
    }

    #[test]
    fn a_close_that_was_asked_for_is_normal_and_its_status_still_told() {
        let kind = ExitKind::Signalled { signal: 15, core: false };
        let exit = Exit::reported(report(kind, Cause::Close), true);
        assert_eq!(exit.reason(), &Reason::Normal);
        assert_eq!(exit.signal(), Some(Signal::TERM));
        assert!(!exit.success());
    }

    #[test]
    fn a_program_that_lives_on_after_a_close_has_not_ended_normally() {
        let exit = Exit::reported(report(ExitKind::Unknown, Cause::Close), true);
        assert_eq!((exit.reason(), exit.status()), (&Reason::Unknown, None));
    }

    #[test]
    fn a_signal_to_the_guardian_is_its_own_end() {
        let kind = ExitKind::Signalled { signal: 15, core: false };
        let exit = Exit::reported(report(kind, Cause::Signal(15)), false);
        assert_eq!(exit.reason(), &Reason::Guardian(GuardianEnd::Dismissed(15)));
    }
}
