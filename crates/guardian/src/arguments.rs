// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! The shell command's arguments.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::Duration;

use lexopt::prelude::*;
use lexopt::{Error, Parser};
use proton_stream_containment::{cgroup, Rlimit, Specification, Stdio};

const HELP: &str = "\
Runs a program and ends it with everything that it started.

Usage: proton-guardian [options] [--] program [argument...]
       proton-guardian doctor          what this host offers, and what is missing
       proton-guardian group PATH stats|freeze|thaw|limit NAME=VALUE...
                                       of the run in that cgroup (see /proc/PID/cgroup),
                                       or with that --cgroup-path: what it uses, stop it,
                                       let it go on, change its limits

  --cd DIR                  enter DIR first
  --env KEY=VALUE           set a variable (many)
  --unset KEY               remove a variable (many)
  --arg0 NAME               the program's argv[0]
  --uid USER                run as USER, a name or a number, with its groups
  --gid GROUP               run with GROUP, a name or a number
  --groups A,B              supplementary groups in place of the user's; \"\" for none
  --umask OCTAL             file mode creation mask
  --nice N                  nice value, -20 to 19
  --rlimit NAME=SOFT[:HARD] resource limit as in getrlimit(2), nofile=1024 (many);
                            a number or unlimited
  --oom-score-adj N         -1000 to 1000
  --no-new-privs            no privileges by setuid programs
  --on-exit kill-tree|wait  what becomes of what the program leaves running when
                            it has exited: killed (the default), or waited for
  --delay-to-sigkill MS     milliseconds from the first signal to SIGKILL (500)
  --containment pid-namespace
                            in a PID namespace, which the kernel kills as a whole
  --limit NAME=VALUE        a limit, also without a base where this process's own
                            cgroup is delegated (many): memory, memory_high, swap
                            (bytes, or 256M), cpu (0.5), cpu_weight, io_weight
                            (1 to 10000), cpus, mems (0-3,7), pids
  --cgroup-controller NAME  contain with this controller (many)
  --cgroup-base PATH        in a new group below PATH
  --cgroup-path PATH        in the group PATH
  --cgroup-set C:FILE:VALUE set a parameter of controller C (many)
  --report                  in the end tell on stderr the level of containment, the
                            cgroup, and what was used: bytes and seconds
  --help, --version

Options end at the program. SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGUSR1 and SIGUSR2
end the whole tree with that signal first; SIGTSTP, SIGCONT and SIGWINCH are passed
on. The program has a session of its own: one that takes over the whole terminal
can't be run in it. A program that is called doctor, group, nursery, session or
sweep comes after --.

The exit status is the program's, 128+N if signal N killed it, 127 if it was not
found, 126 if it could not be executed, 125 if something else failed first.
";

/// A program to be run.
pub(crate) struct Command {
    pub(crate) specification: Specification,
    pub(crate) kill_delay: Duration,
    /// The tree is waited for, not killed, when the program has exited.
    pub(crate) wait_for_tree: bool,
    /// In the end it is told how it was contained and what it used.
    pub(crate) report: bool,
}

/// What the arguments ask for.
pub(crate) enum Request {
    Run(Box<Command>),
    Print(String),
}

pub(crate) fn parse(arguments: Vec<OsString>) -> Result<Request, Error> {
    let specification = Specification {
        stdio: [Stdio::Inherit, Stdio::Inherit, Stdio::Inherit],
        inherited: std::env::vars_os()
            .flat_map(|(key, value)| [key.as_bytes(), b"=", value.as_bytes(), b"\0"].concat())
            .collect(),
        ..Specification::default()
    };
    let kill_delay = Duration::from_millis(500);
    let mut command = Command { specification, kill_delay, wait_for_tree: false, report: false };
    let mut parser = Parser::from_args(arguments);
    let program = loop {
        match parser.next()? {
            None => return Err("no program is named".into()),
            Some(Value(program)) => break program,
            Some(Long("help") | Short('h')) => return Ok(Request::Print(HELP.into())),
            Some(Long("version") | Short('V')) => {
                let version = env!("CARGO_PKG_VERSION");
                return Ok(Request::Print(format!("proton-guardian {version}\n")));
            }
            Some(Long(option)) => {
                let option = option.to_owned();
                take(&option, &mut command, &mut parser)?;
            }
            Some(other) => return Err(other.unexpected()),
        }
    };
    command.specification.program = program.into_vec();
    // Whatever follows is the program's, also what looks like an option.
    command.specification.arguments = parser.raw_args()?.map(OsString::into_vec).collect();
    // As long as a run that is ending on the same path may take.
    command.specification.cgroup.wait = command.kill_delay + Duration::from_secs(2);
    Ok(Request::Run(Box::new(command)))
}

fn take(option: &str, command: &mut Command, parser: &mut Parser) -> Result<(), Error> {
    let specification = &mut command.specification;
    match option {
        "cd" => specification.directory = Some(bytes(parser)?),
        "env" => {
            let entry = bytes(parser)?;
            if matches!(entry.iter().position(|byte| *byte == b'='), None | Some(0)) {
                return Err(wrong(option, &entry, "KEY=VALUE"));
            }
            specification.set.push(entry);
        }
        "unset" => specification.unset.push(bytes(parser)?),
        "arg0" => specification.arg0 = Some(bytes(parser)?),
        "uid" => specification.user = Some(bytes(parser)?),
        "gid" => specification.group = Some(bytes(parser)?),
        "groups" => {
            let names = bytes(parser)?;
            let names = names.split(|byte| *byte == b',').filter(|name| !name.is_empty());
            specification.groups = Some(names.map(<[u8]>::to_vec).collect());
        }
        "umask" => {
            let text = bytes(parser)?;
            let mask = std::str::from_utf8(&text).ok();
            let mask = mask.and_then(|text| u32::from_str_radix(text, 8).ok());
            let mask = mask.filter(|mask| *mask <= 0o777);
            specification.umask = Some(mask.ok_or_else(|| wrong(option, &text, "0 to 777"))?);
        }
        "nice" => specification.nice = Some(parser.value()?.parse()?),
        "rlimit" => specification.rlimits.push(rlimit(option, &bytes(parser)?)?),
        "oom-score-adj" => specification.oom_score_adj = Some(parser.value()?.parse()?),
        "no-new-privs" => specification.no_new_privs = true,
        "on-exit" => {
            let what = bytes(parser)?;
            command.wait_for_tree = match what.as_slice() {
                b"kill-tree" => false,
                b"wait" => true,
                _ => return Err(wrong(option, &what, "kill-tree or wait")),
            };
        }
        "delay-to-sigkill" => {
            let milliseconds: u32 = parser.value()?.parse()?;
            command.kill_delay = Duration::from_millis(milliseconds.into());
        }
        "containment" => {
            let level = bytes(parser)?;
            if level != b"pid-namespace" {
                return Err(wrong(option, &level, "pid-namespace"));
            }
            specification.pid_namespace = true;
        }
        "limit" => {
            let text = bytes(parser)?;
            let (name, value) =
                split(&text, b'=').ok_or_else(|| wrong(option, &text, "NAME=VALUE"))?;
            specification.cgroup.limits.push(cgroup::Limit { name, value });
        }
        "cgroup-controller" => specification.cgroup.controllers.push(bytes(parser)?),
        "cgroup-base" => place(command, cgroup::Place::Base(bytes(parser)?))?,
        "cgroup-path" => place(command, cgroup::Place::Path(bytes(parser)?))?,
        "cgroup-set" => specification.cgroup.settings.push(setting(option, &bytes(parser)?)?),
        "report" => command.report = true,
        other => return Err(Long(other).unexpected()),
    }
    Ok(())
}

fn place(command: &mut Command, place: cgroup::Place) -> Result<(), Error> {
    match command.specification.cgroup.place.replace(place) {
        None => Ok(()),
        Some(_) => Err("there can be only one --cgroup-base or --cgroup-path".into()),
    }
}

fn bytes(parser: &mut Parser) -> Result<Vec<u8>, Error> {
    parser.value().map(OsString::into_vec)
}

fn wrong(option: &str, value: &[u8], allowed: &str) -> Error {
    format!("--{option} {} is not {allowed}", value.escape_ascii()).into()
}

/// What is before and after the first such byte.
fn split(text: &[u8], at: u8) -> Option<(Vec<u8>, Vec<u8>)> {
    let place = text.iter().position(|byte| *byte == at)?;
    Some((text[..place].to_vec(), text[place + 1..].to_vec()))
}

fn rlimit(option: &str, text: &[u8]) -> Result<Rlimit, Error> {
    let wrong = || wrong(option, text, "NAME=SOFT[:HARD], each a number or unlimited");
    let (name, limits) = split(text, b'=').ok_or_else(wrong)?;
    let limit = |text: &[u8]| match text {
        b"unlimited" => Ok(None),
        // `u64::from_str` would take a sign.
        [b'0'..=b'9', ..] => {
            let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
            number.map(Some).ok_or_else(wrong)
        }
        _ => Err(wrong()),
    };
    let (soft, hard) = split(&limits, b':').unwrap_or((limits.clone(), limits));
    Ok(Rlimit { name, soft: limit(&soft)?, hard: limit(&hard)? })
}

fn setting(option: &str, text: &[u8]) -> Result<cgroup::Setting, Error> {
    let mut parts = text.splitn(3, |byte| *byte == b':').map(<[u8]>::to_vec);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(controller), Some(file), Some(value)) => {
            Ok(cgroup::Setting { controller, file, value })
        }
        _ => Err(wrong(option, text, "CONTROLLER:FILE:VALUE")),
    }
}
