// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! What can go wrong, by step and errno.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why something was not done.
///
/// A program that ended badly is none of these: that is an [`Exit`](crate::Exit).
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A value that can't be: nothing was started.
    Invalid {
        /// What it is the value of.
        what: &'static str,
        /// The value.
        value: String,
        /// What it may be.
        allowed: &'static str,
    },
    /// The program was not started, and nothing of it runs.
    Start {
        /// What was being done.
        step: Step,
        /// The system's error number, where it gave one.
        errno: Option<i32>,
        /// The path, name or key that failed, or a sentence.
        detail: String,
    },
    /// The start took longer than it may, and was given up.
    StartTimeout(Duration),
    /// There is no guardian. The sentence tells where one was looked for, and what to do.
    NoGuardian(String),
    /// The guardian could not be started, or reached.
    Guardian {
        /// Its executable.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The guardian ended before the program ran.
    GuardianEnded(GuardianEnd),
    /// The program reads no more: what was written, or its last part, was not taken.
    BrokenPipe,
    /// So much waits for the program's stdin that this does not fit.
    StdinFull {
        /// Bytes that would wait.
        queued: usize,
        /// Bytes that may, [`Options::stdin_limit`](crate::Options::stdin_limit).
        limit: usize,
    },
    /// stdin was closed before: nothing can follow the end of file.
    AfterEof,
    /// The program has ended.
    Closed,
    /// The kernel refused to change or tell something of the program's group.
    Group {
        /// The path, name or key that failed.
        what: String,
        /// The system's error number; `None` where the kernel did not keep the value.
        errno: Option<i32>,
    },
    /// There is no tokio runtime here, or it has ended.
    NoRuntime,
    /// A worker did not answer: it has ended, or dropped the reply.
    NoReply,
}

/// What was being done when a start failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Step {
    /// The specification can't be carried out as it stands.
    Specification,
    /// Looking up and executing the program.
    Exec,
    /// Entering the program's directory.
    Directory,
    /// Finding or becoming the user.
    User,
    /// Finding or becoming the group.
    Group,
    /// Finding or setting the supplementary groups.
    Groups,
    /// Making, filling or entering the cgroup.
    Cgroup,
    /// Making the process.
    Fork,
    /// Preparing descriptors 0, 1 and 2.
    Stdio,
    /// Setting an attribute of the process.
    Process,
    /// The start was given up before it was complete.
    Cancelled,
    /// Making the namespaces that the program is to have.
    Namespace,
}

/// How a guardian ended that should not have.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GuardianEnd {
    /// With this status.
    Exited(u8),
    /// By this signal.
    Signalled(u8),
    /// It was told to end the program by this signal, and did.
    Dismissed(u8),
    /// Its connection ended, and nobody knows why.
    Lost,
    /// It did not end the program in time.
    Stuck,
    /// Bytes of output that had been announced were taken by somebody else: a program that reads
    /// its own stdout.
    ShortFrame,
    /// It said what it may not, or could not go on; the sentence tells.
    Protocol(String),
}

impl Step {
    pub(crate) fn from_number(number: u8) -> Self {
        match number {
            2 => Step::Exec,
            3 => Step::Directory,
            4 => Step::User,
            5 => Step::Group,
            6 => Step::Groups,
            7 => Step::Cgroup,
            8 => Step::Fork,
            9 => Step::Stdio,
            10 => Step::Process,
            11 => Step::Cancelled,
            12 => Step::Namespace,
            _ => Step::Specification,
        }
    }

    fn phrase(self) -> &'static str {
        match self {
            Step::Specification => "the specification can't be carried out",
            Step::Exec => "the program can't be executed",
            Step::Directory => "the directory can't be entered",
            Step::User => "the user can't be taken on",
            Step::Group => "the group can't be taken on",
            Step::Groups => "the supplementary groups can't be taken on",
            Step::Cgroup => "the cgroup can't be set up",
            Step::Fork => "no process can be made",
            Step::Stdio => "the standard streams can't be prepared",
            Step::Process => "an attribute of the process can't be set",
            Step::Cancelled => "the start was cancelled",
            Step::Namespace => "the namespace can't be made",
        }
    }

    /// What it means that the system gave no error number.
    fn without_errno(self) -> &'static str {
        match self {
            Step::User => ": no such user",
            Step::Group | Step::Groups => ": no such group",
            Step::Cgroup => ": the kernel did not keep the value",
            _ => "",
        }
    }
}

impl Error {
    /// The step of a start that failed.
    pub fn step(&self) -> Option<Step> {
        match self {
            Error::Start { step, .. } => Some(*step),
            _ => None,
        }
    }

    /// The system's error number, where it gave one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Error::Start { errno, .. } | Error::Group { errno, .. } => *errno,
            Error::Guardian { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    fn kind(&self) -> io::ErrorKind {
        match self {
            Error::Invalid { .. } => io::ErrorKind::InvalidInput,
            Error::StartTimeout(_) => io::ErrorKind::TimedOut,
            Error::NoGuardian(_) => io::ErrorKind::NotFound,
            Error::BrokenPipe | Error::Closed | Error::AfterEof => io::ErrorKind::BrokenPipe,
            Error::StdinFull { .. } => io::ErrorKind::WouldBlock,
            Error::Start { step: Step::User | Step::Group | Step::Groups, errno: None, .. } => {
                io::ErrorKind::NotFound
            }
            Error::Start { step: Step::Specification, errno: None, .. } => {
                io::ErrorKind::InvalidInput
            }
            other => match other.errno() {
                Some(errno) => io::Error::from_raw_os_error(errno).kind(),
                None => io::ErrorKind::Other,
            },
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let system = |errno: &i32| io::Error::from_raw_os_error(*errno);
        match self {
            Error::Invalid { what, value, allowed } => {
                write!(f, "{what} is {value}, allowed is {allowed}")
            }
            Error::Start { step, errno, detail } => {
                f.write_str(step.phrase())?;
                if !detail.is_empty() {
                    write!(f, ": {detail}")?;
                }
                match errno {
                    Some(errno) => write!(f, ": {}", system(errno)),
                    None => f.write_str(step.without_errno()),
                }
            }
            Error::StartTimeout(time) => write!(f, "the start was not complete after {time:?}"),
            Error::NoGuardian(sentence) => f.write_str(sentence),
            Error::Guardian { path, source } => {
                write!(f, "the guardian {} can't be started: {source}", path.display())
            }
            Error::GuardianEnded(end) => write!(f, "the guardian {end}"),
            Error::BrokenPipe => f.write_str("the program reads no more"),
            Error::StdinFull { queued, limit } => {
                write!(f, "{queued} bytes would wait for the program's stdin, allowed are {limit}")
            }
            Error::AfterEof => f.write_str("the program's stdin was closed before"),
            Error::Closed => f.write_str("the program has ended"),
            Error::Group { what, errno } => {
                write!(f, "the program's group: {what}: ")?;
                match errno {
                    Some(errno) => write!(f, "{}", system(errno)),
                    None => f.write_str("the kernel did not keep the value"),
                }
            }
            Error::NoRuntime => f.write_str("there is no tokio runtime here, or it has ended"),
            Error::NoReply => f.write_str("the worker did not reply"),
        }
    }
}

impl fmt::Display for GuardianEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GuardianEnd::Exited(status) => write!(f, "exited with status {status}"),
            GuardianEnd::Signalled(signal) => write!(f, "was killed by signal {signal}"),
            GuardianEnd::Dismissed(signal) => write!(f, "was ended by signal {signal}"),
            GuardianEnd::Lost => f.write_str("is gone, and nobody knows why"),
            GuardianEnd::Stuck => f.write_str("did not end the program in time"),
            GuardianEnd::ShortFrame => f.write_str("lost output that somebody else has read"),
            GuardianEnd::Protocol(sentence) => write!(f, "could not go on: {sentence}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Guardian { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<Error> for io::Error {
    /// Its kind is that of the errno, where there is one; the error itself is inside.
    fn from(error: Error) -> Self {
        io::Error::new(error.kind(), error)
    }
}
