// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! The vectors of `fixtures/frames.txt`, which the Elixir codec is tested against too.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

use proton_stream_protocol::{
    Cause, Ending, Exit, ExitKind, Field, FromGuardian, FromNursery, Gauge, Header, Limit, Open,
    Rlimit, Stdio, ToGuardian, ToNursery, HEADER_LENGTH,
};

struct Vector {
    name: &'static str,
    wire: Vec<u8>,
    meaning: &'static str,
}

fn vectors() -> Vec<Vector> {
    include_str!("../../../fixtures/frames.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let columns: Vec<&str> = line.split(" | ").collect();
            let [name, hex, meaning, _section] = columns[..] else { panic!("{line}") };
            let wire = hex
                .as_bytes()
                .chunks(2)
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
                .collect();
            Vector { name, wire, meaning }
        })
        .collect()
}

fn text(bytes: &[u8]) -> String {
    let escaped: String = bytes
        .iter()
        .map(|byte| match byte {
            b' '..=b'~' if !b"\"\\|".contains(byte) => char::from(*byte).to_string(),
            other => format!("\\x{other:02x}"),
        })
        .collect();
    format!("\"{escaped}\"")
}

fn field(field: &Field<'_>) -> String {
    let limit = |limit: Option<u64>| limit.map_or("unlimited".into(), |limit| limit.to_string());
    match field {
        Field::Program(bytes) => format!("program={}", text(bytes)),
        Field::Argument(bytes) => format!("argument={}", text(bytes)),
        Field::Arg0(bytes) => format!("arg0={}", text(bytes)),
        Field::Inherited(bytes) => format!("inherited={}", text(bytes)),
        Field::Set(bytes) => format!("set={}", text(bytes)),
        Field::Unset(bytes) => format!("unset={}", text(bytes)),
        Field::Directory(bytes) => format!("directory={}", text(bytes)),
        Field::User(bytes) => format!("user={}", text(bytes)),
        Field::Group(bytes) => format!("group={}", text(bytes)),
        Field::Groups(bytes) => format!("groups={}", text(bytes)),
        Field::Stdio(each) => {
            let names = each.map(|stdio| match stdio {
                Stdio::Piped => "piped",
                Stdio::Null => "null",
                Stdio::Passed => "passed",
                Stdio::SameAsStdout => "same",
            });
            format!("stdio={}", names.join(","))
        }
        Field::Credit { stdout, stderr } => format!("credit={stdout},{stderr}"),
        Field::KillDelay(number) => format!("kill_delay={number}"),
        Field::DrainTimeout(number) => format!("drain_timeout={number}"),
        Field::OnExitWait(wait) => format!("on_exit={}", u8::from(*wait)),
        Field::CgroupController(bytes) => format!("cgroup_controller={}", text(bytes)),
        Field::CgroupBase(bytes) => format!("cgroup_base={}", text(bytes)),
        Field::CgroupPath(bytes) => format!("cgroup_path={}", text(bytes)),
        Field::CgroupSet { controller, file, value } => {
            format!("cgroup_set={},{},{}", text(controller), text(file), text(value))
        }
        Field::Umask(number) => format!("umask={number}"),
        Field::Nice(number) => format!("nice={number}"),
        Field::Rlimit(Rlimit { name, soft, hard }) => {
            format!("rlimit={},{},{}", text(name), limit(*soft), limit(*hard))
        }
        Field::OomScoreAdj(number) => format!("oom_score_adj={number}"),
        Field::NoNewPrivs => "no_new_privs".into(),
        Field::Limit(limit) => self::limit(limit),
        Field::PidNamespace => "pid_namespace".into(),
    }
}

fn limit(Limit { name, value }: &Limit<'_>) -> String {
    format!("limit={},{}", text(name), text(value))
}

fn opened(Open { package, fields }: &Open<'_>) -> String {
    let mut words = vec![format!("package={}", text(package))];
    words.extend(fields.iter().map(field));
    words.join(" ")
}

fn to_guardian(frame: &ToGuardian<'_>) -> String {
    match frame {
        ToGuardian::Open(open) => format!("open {}", opened(open)),
        ToGuardian::Again { run, open } => format!("again run={run} {}", opened(open)),
        ToGuardian::Stdin(bytes) => format!("stdin {}", text(bytes)),
        ToGuardian::Credit { stream, bytes } => {
            format!("credit stream={} bytes={bytes}", stream.number())
        }
        ToGuardian::Eof => "eof".into(),
        ToGuardian::Signal { number, tree } => {
            format!("signal number={number} scope={}", u8::from(*tree))
        }
        ToGuardian::Close => "close".into(),
        ToGuardian::Sync => "sync".into(),
        ToGuardian::Query => "query".into(),
        ToGuardian::Limits(limits) => {
            let limits: Vec<String> = limits.iter().map(limit).collect();
            format!("limits {}", limits.join(" "))
        }
        ToGuardian::Freeze(frozen) => format!("freeze {}", u8::from(*frozen)),
        ToGuardian::OutputGone(stream) => format!("output_gone stream={}", stream.number()),
    }
}

fn from_guardian(frame: &FromGuardian<'_>) -> String {
    match frame {
        FromGuardian::Hello { package } => format!("hello package={}", text(package)),
        FromGuardian::Started { pid, level, stdin_credit, cgroup } => format!(
            "started pid={pid} level={level} stdin_credit={stdin_credit} cgroup={}",
            text(cgroup)
        ),
        FromGuardian::StartError { step, errno, detail } => {
            format!("start_error step={step} errno={errno} detail={}", text(detail))
        }
        FromGuardian::Output { stream, bytes } => {
            format!("{} {}", ["stdout", "stderr"][usize::from(stream.number()) - 1], text(bytes))
        }
        FromGuardian::StdinCredit { bytes } => format!("stdin_credit bytes={bytes}"),
        FromGuardian::StdinGone => "stdin_gone".into(),
        FromGuardian::Reaped => "reaped".into(),
        FromGuardian::EndOfOutput(stream) => format!("end_of_output stream={}", stream.number()),
        FromGuardian::Exit(exit) => exit_words(exit),
        FromGuardian::Error { code, message } => {
            format!("error code={code} message={}", text(message))
        }
        FromGuardian::Stats(gauges) => {
            let mut words = vec!["stats".to_owned()];
            words.extend(gauges.iter().map(|(of, value)| format!("{}={value}", gauge(*of))));
            words.join(" ")
        }
        FromGuardian::Done => "done".into(),
        FromGuardian::Refused { errno, detail } => {
            format!("refused errno={errno} detail={}", text(detail))
        }
    }
}

/// `CpuSome` as `cpu_some`.
fn gauge(gauge: Gauge) -> String {
    let mut name = String::new();
    for letter in format!("{gauge:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

fn exit_words(exit: &Exit) -> String {
    let (kind, core) = match exit.kind {
        ExitKind::Exited(status) => (format!("exited={status}"), false),
        ExitKind::Signalled { signal, core } => (format!("signalled={signal}"), core),
        ExitKind::Unknown => ("unknown".into(), false),
    };
    let cause = match exit.cause {
        Cause::Program => "program".into(),
        Cause::Close => "close".into(),
        Cause::Signal(number) => format!("signal-{number}"),
    };
    let survivors: Vec<String> = exit.survivors.iter().map(u32::to_string).collect();
    format!(
        "exit {kind} core={core} oom={} cause={cause} user={} system={} rss={} survivors={}",
        exit.oom_killed,
        exit.user_time,
        exit.system_time,
        exit.max_rss,
        survivors.join(",")
    )
}

fn to_nursery(frame: &ToNursery<'_>) -> String {
    match frame {
        ToNursery::Nurse { package, controller, secret } => format!(
            "nurse package={} controller={controller} secret={}",
            text(package),
            text(secret)
        ),
        ToNursery::Kill { run } => format!("kill run={run}"),
    }
}

fn from_nursery(frame: &FromNursery<'_>) -> String {
    match frame {
        FromNursery::Ready { package, path } => {
            format!("ready package={} path={}", text(package), text(path))
        }
        FromNursery::Died { run, ending, survivors } => {
            let ending = match ending {
                Ending::Exited(status) => format!("exited={status}"),
                Ending::Signalled(signal) => format!("signalled={signal}"),
                Ending::Unknown => "unknown".to_owned(),
            };
            let survivors: Vec<String> = survivors.iter().map(u32::to_string).collect();
            format!("died run={run} {ending} survivors={}", survivors.join(","))
        }
        FromNursery::Error { code, message } => {
            format!("error code={code} message={}", text(message))
        }
    }
}

fn read_nursery(
    head: [u8; HEADER_LENGTH],
    wire: &[u8],
) -> Option<Result<(String, Vec<u8>), String>> {
    let upstream = head[4] >= 0x80;
    let header = if upstream { Header::from_nursery(head) } else { Header::to_nursery(head) };
    let header = match header {
        Ok(header) => header,
        Err(error) => return Some(Err(error.to_string())),
    };
    let body = wire.get(HEADER_LENGTH..HEADER_LENGTH + header.body_length)?;
    let mut again = Vec::new();
    let rendered = if upstream {
        FromNursery::decode(header.kind, body).map(|frame| {
            frame.encode(&mut again);
            from_nursery(&frame)
        })
    } else {
        ToNursery::decode(header.kind, body).map(|frame| {
            frame.encode(&mut again);
            to_nursery(&frame)
        })
    };
    Some(rendered.map(|text| (text, again)).map_err(|error| error.to_string()))
}

/// The frame that `wire` holds whole, rendered, with its second encoding.
fn read(wire: &[u8]) -> Option<Result<(String, Vec<u8>), String>> {
    let head: [u8; HEADER_LENGTH] = wire.get(..HEADER_LENGTH)?.try_into().unwrap();
    let upstream = head[4] >= 0x80;
    if matches!(head[4], 0x20 | 0x21 | 0xa0 | 0xa1) {
        return read_nursery(head, wire);
    }
    let header = if upstream { Header::from_guardian(head) } else { Header::to_guardian(head) };
    let header = match header {
        Ok(header) => header,
        Err(error) => return Some(Err(error.to_string())),
    };
    let body = wire.get(HEADER_LENGTH..HEADER_LENGTH + header.body_length)?;
    let mut again = Vec::new();
    let rendered = if upstream {
        FromGuardian::decode(header.kind, body).map(|frame| {
            frame.encode(&mut again);
            from_guardian(&frame)
        })
    } else {
        ToGuardian::decode(header.kind, body).map(|frame| {
            frame.encode(&mut again);
            to_guardian(&frame)
        })
    };
    Some(rendered.map(|text| (text, again)).map_err(|error| error.to_string()))
}

#[test]
fn every_vector_means_what_its_line_says_and_is_encoded_to_the_same_bytes() {
    let vectors = vectors();
    assert!(vectors.len() > 80, "only {} vectors", vectors.len());
    for Vector { name, wire, meaning } in vectors {
        match (read(&wire), meaning.strip_prefix("malformed: ")) {
            (Some(Ok((rendered, again))), None) => {
                assert_eq!(rendered, meaning, "{name}");
                // A vector's package is its own; the codec writes what it was given.
                assert_eq!(again, wire, "{name}");
            }
            (Some(Err(sentence)), Some(expected)) => assert_eq!(sentence, expected, "{name}"),
            (got, _) => panic!("{name}: expected {meaning}, got {got:?}"),
        }
    }
}

#[test]
fn a_vector_cut_at_any_byte_is_incomplete_or_malformed() {
    for Vector { name, wire, .. } in vectors() {
        for cut in 0..wire.len() {
            assert!(!matches!(read(&wire[..cut]), Some(Ok(_))), "{name} cut at {cut}");
        }
    }
}

#[test]
fn a_body_cut_at_any_byte_never_panics() {
    for Vector { wire, .. } in vectors() {
        for cut in HEADER_LENGTH..wire.len() {
            let mut shorter = wire[..cut].to_vec();
            shorter[..4].copy_from_slice(&(cut as u32 - 4).to_be_bytes());
            assert!(read(&shorter).is_some());
        }
    }
}
