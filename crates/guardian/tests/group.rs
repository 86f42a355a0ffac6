// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Requests about the program's cgroup (PROTOCOL §9), and the namespace as an option.

mod support;

use std::fs;
use std::path::PathBuf;

use proton_stream_protocol::{Cause, ExitKind, Field, Gauge, Limit, Stream, ToGuardian};
use support::{await_death, eventually, is_root, pid_in, Guardian, Said};

const EOPNOTSUPP: u32 = 95;

/// Groups of one name at several mounts of cgroup version 1.
struct Bases(String, Vec<PathBuf>);

impl Bases {
    fn new(name: &str) -> Self {
        let name = format!("proton_stream_test_{}_{name}", std::process::id());
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        let mount = |controller: &str| -> PathBuf {
            let mut lines = mounts.lines().filter(|line| line.contains(" - cgroup "));
            let line = lines.find(|line| line.rsplit([' ', ',']).any(|word| word == controller));
            line.expect("cgroup version 1").split(' ').nth(4).expect("a mount").into()
        };
        let paths = ["memory", "cpu", "pids", "freezer"].map(mount);
        let mut paths: Vec<PathBuf> = paths.iter().map(|mount| mount.join(&name)).collect();
        paths.dedup();
        for path in &paths {
            fs::create_dir(path).expect("a group of our own");
        }
        Bases(name, paths)
    }

    fn field(&self) -> Field<'_> {
        Field::CgroupBase(self.0.as_bytes())
    }

    fn assert_empty(&self) {
        for path in &self.1 {
            let groups = fs::read_dir(path).expect("the base").flatten();
            assert_eq!(groups.filter(|entry| entry.path().is_dir()).count(), 0);
        }
    }
}

impl Drop for Bases {
    fn drop(&mut self) {
        for path in &self.1 {
            if std::thread::panicking() {
                let _ = fs::remove_dir(path);
            } else {
                eventually("the base can be removed", || fs::remove_dir(path).is_ok());
            }
        }
    }
}

fn limit<'a>(name: &'a str, value: &'a str) -> Limit<'a> {
    Limit { name: name.as_bytes(), value: value.as_bytes() }
}

/// The answer to a request, which may come after output.
fn answer(guardian: &mut Guardian, request: &ToGuardian<'_>) -> Said {
    guardian.say(request);
    loop {
        match guardian.hear() {
            Said::Output(..) => {}
            other => return other,
        }
    }
}

fn gauge(said: &Said, wanted: Gauge) -> Option<u64> {
    let Said::Stats(gauges) = said else { panic!("no counts: {said:?}") };
    gauges.iter().find(|(gauge, _)| *gauge == wanted).map(|(_, value)| *value)
}

#[test]
fn without_a_group_each_request_is_refused() {
    let (mut guardian, _) = Guardian::run(&["sleep", "60"]);
    for request in [
        ToGuardian::Query,
        ToGuardian::Limits(vec![limit("memory", "1G")]),
        ToGuardian::Freeze(true),
        ToGuardian::Freeze(false),
    ] {
        let Said::Refused { errno, detail } = answer(&mut guardian, &request) else {
            panic!("{request:?} was not refused")
        };
        assert_eq!(errno, EOPNOTSUPP);
        assert!(detail.contains("no cgroup"), "{detail}");
    }
    guardian.say(&ToGuardian::Close);
    guardian.hear_out();
    // EXIT was the answer.
    guardian.say(&ToGuardian::Query);
    guardian.part();
}

#[test]
fn a_second_request_before_the_answer_is_malformed() {
    let (mut guardian, pid) = Guardian::run(&["sleep", "60"]);
    let mut wire = Vec::new();
    ToGuardian::Query.encode(&mut wire);
    ToGuardian::Query.encode(&mut wire);
    guardian.say_bytes(&wire);
    assert!(matches!(guardian.hear(), Said::Refused { .. }));
    let Said::Error { code: 2, message } = guardian.hear() else { panic!("it was taken") };
    assert!(message.contains("a request before the answer"), "{message}");
    await_death(pid);
}

#[test]
fn a_request_before_the_start_is_malformed() {
    let mut guardian = Guardian::new();
    assert_eq!(guardian.hear(), Said::Hello);
    guardian.say(&ToGuardian::Query);
    assert!(matches!(guardian.hear(), Said::Error { code: 2, .. }));
}

#[test]
fn limits_are_counted_changed_and_refused_by_name() {
    if !is_root() {
        return;
    }
    let bases = Bases::new("limits");
    let fields = [
        bases.field(),
        Field::Limit(limit("memory", "64M")),
        Field::Limit(limit("cpu", "0.5")),
        Field::Limit(limit("pids", "20")),
    ];
    let (mut guardian, _) = Guardian::run_with(&["sleep", "60"], &fields);
    let counts = answer(&mut guardian, &ToGuardian::Query);
    assert_eq!(gauge(&counts, Gauge::MemoryLimit), Some(64 << 20));
    assert_eq!(gauge(&counts, Gauge::PidsLimit), Some(20));
    assert_eq!(gauge(&counts, Gauge::Pids), Some(1));
    let more = ToGuardian::Limits(vec![limit("memory", "128M"), limit("pids", "max")]);
    assert_eq!(answer(&mut guardian, &more), Said::Done);
    let counts = answer(&mut guardian, &ToGuardian::Query);
    assert_eq!(gauge(&counts, Gauge::MemoryLimit), Some(128 << 20));
    assert_eq!(gauge(&counts, Gauge::PidsLimit), None);
    let other = ToGuardian::Limits(vec![limit("cpus", "0")]);
    let Said::Refused { errno: EOPNOTSUPP, detail } = answer(&mut guardian, &other) else {
        panic!("it has no cpuset")
    };
    assert!(detail.starts_with("cpus: "), "{detail}");
    guardian.say(&ToGuardian::Close);
    guardian.hear_out();
    guardian.part();
    bases.assert_empty();
}

#[test]
fn a_frozen_program_answers_nothing_until_it_is_thawed() {
    if !is_root() {
        return;
    }
    let bases = Bases::new("freeze");
    let fields = [bases.field(), Field::Limit(limit("pids", "20"))];
    let (mut guardian, pid) = Guardian::run_with(&["cat"], &fields);
    guardian.say(&ToGuardian::Stdin(b"one\n"));
    guardian.hear_until("one\n");
    assert_eq!(answer(&mut guardian, &ToGuardian::Freeze(true)), Said::Done);
    guardian.say(&ToGuardian::Stdin(b"two\n"));
    // Asked while it stands still; what it could have said would come first.
    let counts = answer(&mut guardian, &ToGuardian::Query);
    assert_eq!(gauge(&counts, Gauge::Pids), Some(1));
    assert_eq!(guardian.heard(), None);
    assert_eq!(answer(&mut guardian, &ToGuardian::Freeze(false)), Said::Done);
    guardian.hear_until("two\n");
    // One that is frozen is thawed for its end: `cat` dies of SIGTERM.
    assert_eq!(answer(&mut guardian, &ToGuardian::Freeze(true)), Said::Done);
    guardian.say(&ToGuardian::Close);
    let exit = guardian.hear_out().exit.expect("an exit");
    assert_eq!(exit.kind, ExitKind::Signalled { signal: 15, core: false });
    await_death(pid);
    guardian.part();
    bases.assert_empty();
}

#[test]
fn a_namespace_is_told_as_such_and_ends_as_a_whole() {
    let mut guardian = Guardian::open_with(
        &["sh", "-c", "setsid sh -c 'trap \"\" TERM; echo; sleep 60' & echo $$; exit 3"],
        &[Field::PidNamespace],
    );
    assert_eq!(guardian.hear(), Said::Hello);
    let Said::Started { pid, level: 2, .. } = guardian.hear() else { panic!("not in a namespace") };
    assert!(pid > 2);
    let outcome = guardian.hear_out();
    let text = String::from_utf8(outcome.stdout).expect("text");
    assert_eq!(pid_in(&text), 2);
    let exit = outcome.exit.expect("an exit");
    assert_eq!((exit.kind, exit.cause), (ExitKind::Exited(3), Cause::Program));
    assert!(exit.survivors.is_empty());
    await_death(pid);
    guardian.part();
}

#[test]
fn a_namespace_relays_and_closes_as_everything_else() {
    let (mut guardian, pid) = Guardian::run_with(&["cat"], &[Field::PidNamespace]);
    guardian.say(&ToGuardian::Stdin(b"hello\n"));
    assert_eq!(guardian.hear(), Said::Output(Stream::Stdout, b"hello\n".to_vec()));
    guardian.say(&ToGuardian::Close);
    let exit = guardian.hear_out().exit.expect("an exit");
    assert_eq!(exit.kind, ExitKind::Signalled { signal: 15, core: false });
    await_death(pid);
    guardian.part();
}
