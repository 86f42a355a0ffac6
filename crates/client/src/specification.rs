// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! From what a user says to the frame that a guardian reads; what can't be is found here.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::Duration;

use proton_stream_protocol::{
    Field, Limit, Open, Rlimit, Stdio, ToGuardian, MAX_CREDIT, MAX_OPEN, PACKAGE_VERSION,
};

use crate::options::{Containment, OnExit, Options};
use crate::{Error, Step};

/// E2BIG: larger than Linux would take, too.
const TOO_BIG: i32 = 7;

const LIMITS: [&str; 9] =
    ["memory", "memory_high", "swap", "cpu", "cpu_weight", "io_weight", "cpus", "mems", "pids"];

fn invalid(what: &'static str, value: impl std::fmt::Debug, allowed: &'static str) -> Error {
    Error::Invalid { what, value: format!("{value:?}"), allowed }
}

/// Bytes that the kernel would not cut.
fn text<'a>(what: &'static str, value: &'a OsStr) -> Result<&'a [u8], Error> {
    match value.as_bytes() {
        bytes if bytes.contains(&0) => Err(invalid(what, value, "text without NUL")),
        bytes => Ok(bytes),
    }
}

fn name<'a>(what: &'static str, value: &'a OsStr) -> Result<&'a [u8], Error> {
    match text(what, value)? {
        [] => Err(invalid(what, value, "not empty")),
        bytes => Ok(bytes),
    }
}

fn within<T: PartialOrd + std::fmt::Debug>(
    what: &'static str,
    value: T,
    range: std::ops::RangeInclusive<T>,
    allowed: &'static str,
) -> Result<T, Error> {
    if range.contains(&value) {
        Ok(value)
    } else {
        Err(invalid(what, value, allowed))
    }
}

fn milliseconds(what: &'static str, time: Duration) -> Result<u32, Error> {
    match i32::try_from(time.as_millis()) {
        Ok(milliseconds) => Ok(milliseconds.unsigned_abs()),
        Err(_) => Err(invalid(what, time, "up to 2147483647 ms")),
    }
}

fn variable(key: &OsStr, value: &OsStr) -> Result<Vec<u8>, Error> {
    let (key, value) = (variable_name(key)?, text("the value of a variable", value)?);
    Ok([key, b"=", value].concat())
}

fn variable_name(key: &OsStr) -> Result<&[u8], Error> {
    match name("the name of a variable", key)? {
        bytes if bytes.contains(&b'=') => {
            Err(invalid("the name of a variable", key, "a name without `=`"))
        }
        bytes => Ok(bytes),
    }
}

/// Limits as the protocol has them.
pub(crate) fn limits(limits: &[(String, String)]) -> Result<Vec<Limit<'_>>, Error> {
    let limit = |(name, value): &'_ (String, String)| {
        if !LIMITS.contains(&name.as_str()) {
            let allowed =
                "memory, memory_high, swap, cpu, cpu_weight, io_weight, cpus, mems or pids";
            return Err(invalid("the name of a limit", name, allowed));
        }
        self::name("the value of a limit", OsStr::new(value)).map(|_| ())
    };
    limits
        .iter()
        .map(|pair| {
            limit(pair)?;
            Ok(Limit { name: pair.0.as_bytes(), value: pair.1.as_bytes() })
        })
        .collect()
}

/// The OPEN frame.
pub(crate) fn open(
    program: &OsStr,
    arguments: &[OsString],
    stdio: [Stdio; 3],
    options: &Options,
) -> Result<Vec<u8>, Error> {
    let inherited: Vec<Vec<u8>> = match options.is_env_clear {
        true => Vec::new(),
        false => std::env::vars_os().map(|(key, value)| joined(key, value)).collect(),
    };
    let mut set = Vec::new();
    let mut unset = Vec::new();
    for (index, (key, value)) in options.env.iter().enumerate() {
        // The last word on a variable counts.
        if options.env[index + 1..].iter().any(|(later, _)| later == key) {
            continue;
        }
        match value {
            Some(value) => set.push(variable(key, value)?),
            None => unset.push(variable_name(key)?),
        }
    }
    let groups = options.groups.as_deref().map(group_list).transpose()?;
    let mut fields = vec![Field::Program(name("the program", program)?), Field::Stdio(stdio)];
    for argument in arguments {
        fields.push(Field::Argument(text("an argument", argument)?));
    }
    fields.extend(inherited.iter().map(|variable| Field::Inherited(variable)));
    fields.extend(set.iter().map(|variable| Field::Set(variable)));
    fields.extend(unset.into_iter().map(Field::Unset));
    if let Some(arg0) = &options.arg0 {
        fields.push(Field::Arg0(text("arg0", arg0)?));
    }
    if let Some(directory) = &options.directory {
        fields.push(Field::Directory(name("the directory", directory.as_os_str())?));
    }
    if let Some(user) = &options.user {
        fields.push(Field::User(name("the user", user)?));
    }
    if let Some(group) = &options.group {
        fields.push(Field::Group(name("the group", group)?));
    }
    fields.extend(groups.as_deref().map(Field::Groups));
    attributes(options, &mut fields)?;
    group(options, &mut fields)?;
    flow(options, &mut fields)?;
    let mut frame = Vec::new();
    ToGuardian::Open(Open { package: PACKAGE_VERSION.as_bytes(), fields }).encode(&mut frame);
    if frame.len() > MAX_OPEN {
        let detail = "arguments and environment".to_owned();
        return Err(Error::Start { step: Step::Exec, errno: Some(TOO_BIG), detail });
    }
    Ok(frame)
}

fn joined(key: OsString, value: OsString) -> Vec<u8> {
    let mut variable = key.into_vec();
    variable.push(b'=');
    variable.extend_from_slice(value.as_bytes());
    variable
}

fn group_list(groups: &[OsString]) -> Result<Vec<u8>, Error> {
    let mut list = Vec::new();
    for group in groups {
        list.extend_from_slice(name("a group", group)?);
        list.push(0);
    }
    Ok(list)
}

fn attributes<'a>(options: &'a Options, fields: &mut Vec<Field<'a>>) -> Result<(), Error> {
    if let Some(mask) = options.umask {
        fields.push(Field::Umask(within("the umask", mask, 0..=0o777, "0 to 0o777")?));
    }
    if let Some(nice) = options.nice {
        fields.push(Field::Nice(within("nice", nice, -20..=19, "-20 to 19")?));
    }
    if let Some(score) = options.oom_score_adj {
        let score = within("oom_score_adj", score, -1000..=1000, "-1000 to 1000")?;
        fields.push(Field::OomScoreAdj(score));
    }
    for (name, [soft, hard]) in &options.rlimits {
        let name = self::name("the name of a resource limit", OsStr::new(name))?;
        fields.push(Field::Rlimit(Rlimit { name, soft: *soft, hard: *hard }));
    }
    if options.no_new_privs {
        fields.push(Field::NoNewPrivs);
    }
    if options.on_exit == OnExit::Wait {
        fields.push(Field::OnExitWait(true));
    }
    if options.containment == Containment::PidNamespace {
        fields.push(Field::PidNamespace);
    }
    Ok(())
}

fn group<'a>(options: &'a Options, fields: &mut Vec<Field<'a>>) -> Result<(), Error> {
    let is_placed = options.cgroup_base.is_some() || options.cgroup_path.is_some();
    if let (Some(base), Some(_)) = (&options.cgroup_base, &options.cgroup_path) {
        return Err(invalid("cgroup_base", base, "none where cgroup_path is given"));
    }
    if is_placed && options.cgroup_controllers.is_empty() && options.limits.is_empty() {
        let place = options.cgroup_base.as_ref().or(options.cgroup_path.as_ref());
        return Err(invalid("the cgroup", place, "one with limits or controllers"));
    }
    for controller in &options.cgroup_controllers {
        if !is_placed {
            let allowed = "none without cgroup_base or cgroup_path";
            return Err(invalid("a cgroup controller", controller, allowed));
        }
        let name = name("a cgroup controller", OsStr::new(controller))?;
        fields.push(Field::CgroupController(name));
    }
    if let Some(base) = &options.cgroup_base {
        fields.push(Field::CgroupBase(name("cgroup_base", base.as_os_str())?));
    }
    if let Some(path) = &options.cgroup_path {
        fields.push(Field::CgroupPath(name("cgroup_path", path.as_os_str())?));
    }
    for [controller, file, value] in &options.cgroup_sets {
        if !options.cgroup_controllers.contains(controller) {
            let allowed = "one that cgroup_controller has named";
            return Err(invalid("the controller of a cgroup setting", controller, allowed));
        }
        fields.push(Field::CgroupSet {
            controller: controller.as_bytes(),
            file: name("the file of a cgroup setting", OsStr::new(file))?,
            value: text("the value of a cgroup setting", OsStr::new(value))?,
        });
    }
    fields.extend(limits(&options.limits)?.into_iter().map(Field::Limit));
    Ok(())
}

fn flow(options: &Options, fields: &mut Vec<Field<'_>>) -> Result<(), Error> {
    for window in options.window {
        within("the window", window, 1..=MAX_CREDIT, "1 to 2147483647 bytes")?;
    }
    if options.stdin_limit == 0 {
        return Err(invalid("stdin_limit", 0, "at least 1 byte"));
    }
    let [stdout, stderr] = options.window;
    fields.push(Field::Credit { stdout, stderr });
    fields.push(Field::KillDelay(milliseconds("kill_delay", options.kill_delay)?));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(program: &str, options: Options) -> String {
        match open(OsStr::new(program), &[], [Stdio::Piped; 3], &options) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("it was taken"),
        }
    }

    #[test]
    fn what_can_not_be_is_named_with_what_is_allowed() {
        let new = Options::new;
        for (refused, said) in [
            (refusal("", new()), "the program is \"\", allowed is not empty"),
            (refusal("a\0b", new()), "the program is \"a\\0b\", allowed is text without NUL"),
            (
                refusal("x", new().env("A=B", "")),
                "the name of a variable is \"A=B\", allowed is a name without `=`",
            ),
            (refusal("x", new().nice(20)), "nice is 20, allowed is -20 to 19"),
            (refusal("x", new().umask(0o1000)), "the umask is 512, allowed is 0 to 0o777"),
            (
                refusal("x", new().window(0, 1)),
                "the window is 0, allowed is 1 to 2147483647 bytes",
            ),
            (
                refusal("x", new().limit("speed", 1)),
                "the name of a limit is \"speed\", allowed is memory, memory_high, swap, cpu, \
                 cpu_weight, io_weight, cpus, mems or pids",
            ),
            (
                refusal("x", new().cgroup_controller("cpu")),
                "a cgroup controller is \"cpu\", allowed is none without cgroup_base or cgroup_path",
            ),
            (
                refusal("x", new().kill_delay(Duration::from_secs(1 << 40))),
                "kill_delay is 1099511627776s, allowed is up to 2147483647 ms",
            ),
        ] {
            assert_eq!(refused, said);
        }
    }

    #[test]
    fn the_last_word_on_a_variable_counts() {
        let options =
            Options::new().env("GONE", "0").env_clear().env("A", "1").env("A", "2").env_remove("B");
        let frame = open(OsStr::new("x"), &[], [Stdio::Piped; 3], &options).unwrap();
        let header = proton_stream_protocol::HEADER_LENGTH;
        let Ok(ToGuardian::Open(open)) = ToGuardian::decode(1, &frame[header..]) else {
            panic!("no OPEN")
        };
        let of_env: Vec<_> = open
            .fields
            .iter()
            .filter(|field| matches!(field, Field::Set(_) | Field::Unset(_) | Field::Inherited(_)))
            .collect();
        assert_eq!(of_env, [&Field::Set(b"A=2"), &Field::Unset(b"B")]);
    }
}
