// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! From OPEN's fields to what containment starts, and to what the session itself goes by.

use std::time::Duration;

use proton_stream_containment::{cgroup, Error, Rlimit, Specification, Stdio, Step};
use proton_stream_protocol::{Credit, Field, Limit, Open, Stdio as WireStdio};

/// What the session goes by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) credit: [Credit; 2],
    pub(crate) kill_delay: Duration,
    pub(crate) drain_timeout: Duration,
    /// The tree is waited for, not killed, when the program has exited.
    pub(crate) wait_for_tree: bool,
}

impl Default for Terms {
    /// The defaults of PROTOCOL §3.
    fn default() -> Self {
        Terms {
            credit: [Credit::new(0); 2],
            kill_delay: Duration::from_millis(500),
            drain_timeout: Duration::from_millis(100),
            wait_for_tree: false,
        }
    }
}

/// # Errors
/// For what the protocol allows and this guardian can't do.
pub(crate) fn read(open: &Open<'_>) -> Result<(Specification, Terms), Error> {
    let mut specification = Specification::default();
    let mut terms = Terms::default();
    for field in &open.fields {
        match *field {
            Field::Program(program) => specification.program = program.to_vec(),
            Field::Argument(argument) => specification.arguments.push(argument.to_vec()),
            Field::Arg0(name) => specification.arg0 = Some(name.to_vec()),
            Field::Inherited(entries) => {
                specification.inherited.extend_from_slice(entries);
                specification.inherited.push(0);
            }
            Field::Set(entry) => specification.set.push(entry.to_vec()),
            Field::Unset(key) => specification.unset.push(key.to_vec()),
            Field::Directory(path) => specification.directory = Some(path.to_vec()),
            Field::User(name) => specification.user = Some(name.to_vec()),
            Field::Group(name) => specification.group = Some(name.to_vec()),
            Field::Groups(names) => {
                let names = names.split_inclusive(|byte| *byte == 0);
                specification.groups =
                    Some(names.map(|name| name[..name.len() - 1].to_vec()).collect());
            }
            Field::Stdio(each) => {
                for (ours, theirs) in specification.stdio.iter_mut().zip(each) {
                    *ours = stdio(theirs);
                }
            }
            Field::Credit { stdout, stderr } => {
                terms.credit = [Credit::new(stdout), Credit::new(stderr)];
            }
            Field::KillDelay(milliseconds) => terms.kill_delay = duration(milliseconds),
            Field::DrainTimeout(milliseconds) => terms.drain_timeout = duration(milliseconds),
            Field::OnExitWait(wait) => terms.wait_for_tree = wait,
            Field::CgroupController(name) => specification.cgroup.controllers.push(name.to_vec()),
            Field::CgroupBase(path) => {
                place(&mut specification, cgroup::Place::Base(path.to_vec()))?
            }
            Field::CgroupPath(path) => {
                place(&mut specification, cgroup::Place::Path(path.to_vec()))?
            }
            Field::CgroupSet { controller, file, value } => {
                specification.cgroup.settings.push(cgroup::Setting {
                    controller: controller.to_vec(),
                    file: file.to_vec(),
                    value: value.to_vec(),
                });
            }
            Field::Umask(mask) => specification.umask = Some(mask),
            Field::Nice(nice) => specification.nice = Some(nice),
            Field::Rlimit(limit) => specification.rlimits.push(Rlimit {
                name: limit.name.to_vec(),
                soft: limit.soft,
                hard: limit.hard,
            }),
            Field::OomScoreAdj(score) => specification.oom_score_adj = Some(score),
            Field::NoNewPrivs => specification.no_new_privs = true,
            Field::Limit(limit) => specification.cgroup.limits.push(self::limit(limit)),
            Field::PidNamespace => specification.pid_namespace = true,
        }
    }
    // A run that is ending on the same path may take its kill delay, and then until its survivors
    // would be given up.
    specification.cgroup.wait = terms.kill_delay + Duration::from_secs(2);
    Ok((specification, terms))
}

fn duration(milliseconds: u32) -> Duration {
    Duration::from_millis(u64::from(milliseconds))
}

fn stdio(wire: WireStdio) -> Stdio {
    match wire {
        WireStdio::Piped => Stdio::Piped,
        WireStdio::Null => Stdio::Null,
        WireStdio::SameAsStdout => Stdio::SameAsStdout,
        WireStdio::Passed => Stdio::Passed,
    }
}

/// A limit as containment has it.
pub(crate) fn limit(limit: Limit<'_>) -> cgroup::Limit {
    cgroup::Limit { name: limit.name.to_vec(), value: limit.value.to_vec() }
}

fn place(specification: &mut Specification, place: cgroup::Place) -> Result<(), Error> {
    match specification.cgroup.place.replace(place) {
        None => Ok(()),
        Some(_) => Err(refusal("cgroup_base and cgroup_path can't be given together")),
    }
}

pub(crate) fn refusal(sentence: &str) -> Error {
    Error { step: Step::Specification, errno: 0, detail: sentence.into() }
}
