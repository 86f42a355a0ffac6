// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! A start may fail at any step after its group was made. No group of it stays behind.

use std::fs;

use proton_stream_containment::cgroup::Place;
use proton_stream_containment::{start, Around, Rlimit, Specification, Step};

use crate::bases::{inside, setting, Bases};
use crate::guard;
use crate::host::{apart, cases, eventually, program, sh, Host};

cases! {
    Root no_step_that_fails_leaves_a_group;
    Root a_start_that_is_given_up_leaves_no_group;
    Root a_value_refused_after_others_were_kept_leaves_no_group;
    RootGuarded a_fork_that_fails_leaves_no_group;
}

const CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];

/// Below a base, and on a path that has to be made.
fn places(bases: &Bases) -> [Place; 2] {
    [bases.place(), bases.path("made/deep")]
}

fn no_step_that_fails_leaves_a_group() {
    let bases = Bases::new(&CONTROLLERS);
    let mut host = Host::new();
    let limit = Rlimit { name: b"nofile".to_vec(), soft: Some(1 << 40), hard: Some(1 << 40) };
    let nowhere = || Some(b"/nonexistent".to_vec());
    let nobody = || Some(b"no-such-user".to_vec());
    for (spec, step, errno) in [
        (program("/nonexistent", &[]), Step::Exec, libc::ENOENT),
        (program("/etc/passwd", &[]), Step::Exec, libc::EACCES),
        (Specification { directory: nowhere(), ..sh("exit") }, Step::Directory, libc::ENOENT),
        (Specification { user: nobody(), ..sh("exit") }, Step::User, libc::ENOENT),
        (Specification { group: nobody(), ..sh("exit") }, Step::Group, libc::ENOENT),
        (Specification { rlimits: vec![limit], ..sh("exit") }, Step::Process, libc::EPERM),
        (apart(program("/nonexistent", &[])), Step::Exec, libc::ENOENT),
        (
            Specification { directory: nowhere(), ..apart(sh("exit")) },
            Step::Directory,
            libc::ENOENT,
        ),
    ] {
        for place in places(&bases) {
            let error = host.refused(&inside(spec.clone(), &CONTROLLERS, place, vec![]));
            assert_eq!(error.step, step, "{error}");
            // An unknown name has no errno where there is no database that fails.
            assert!(error.errno == errno || error.errno == 0, "{error}");
            assert_eq!(bases.groups(), Vec::<String>::new(), "{error}");
        }
    }
}

fn a_start_that_is_given_up_leaves_no_group() {
    let bases = Bases::new(&CONTROLLERS);
    let mut host = Host::new();
    for place in places(&bases) {
        let spec = inside(sh("sleep 60"), &CONTROLLERS, place, vec![]);
        // Nobody has asked what came of it.
        let mut program = start(&spec, &Around::default()).expect("forked").into_program();
        host.end(&mut program);
        assert_eq!(bases.groups(), Vec::<String>::new());
    }
}

fn a_value_refused_after_others_were_kept_leaves_no_group() {
    let bases = Bases::new(&CONTROLLERS);
    let settings = vec![
        setting("cpu", "cpu.shares", "512"),
        setting("memory", "memory.limit_in_bytes", "64M"),
        setting("pids", "pids.max", "-5"),
    ];
    for place in places(&bases) {
        let spec = inside(sh("exit"), &CONTROLLERS, place, settings.clone());
        let error = Host::new().refused(&spec);
        assert_eq!((error.step, error.detail.as_slice()), (Step::Cgroup, &b"pids.max"[..]));
        assert_eq!(bases.groups(), Vec::<String>::new());
    }
}

fn a_fork_that_fails_leaves_no_group() {
    guard::confirm();
    let bases = Bases::new(&["cpu"]);
    let limit = guard::group().join("pids.max");
    let before = fs::read(&limit).expect("the limit");
    // Who is about to go counts as well.
    eventually("no process can be made", || {
        fs::write(&limit, "1").expect("the limit");
        fs::read(guard::group().join("pids.current")).is_ok_and(|count| count != b"1\n")
    });
    let errors: Vec<_> = places(&bases)
        .into_iter()
        .flat_map(|place| [sh("exit"), apart(sh("exit"))].map(|spec| (spec, place.clone())))
        .map(|(spec, place)| start(&inside(spec, &["cpu"], place, vec![]), &Around::default()))
        .map(|result| result.err())
        .collect();
    fs::write(&limit, before).expect("the limit");
    for error in errors {
        let error = error.expect("no process can be made");
        assert_eq!(error.errno, libc::EAGAIN, "{error}");
    }
    assert_eq!(bases.groups(), Vec::<String>::new());
}
