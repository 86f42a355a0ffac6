// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! What a guardian leaves, and one that is stopped, are the nursery's (PROTOCOL §10).

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

mod support;

use std::path::Path;
use std::time::Duration;

use proton_stream_protocol::{Ending, Field, Limit, ToGuardian, ToNursery};
use rustix::process::{kill_process, Pid, Signal};
use support::nursery::{children, parent_of, signal, Nursery, Told};
use support::{eventually, is_alive, pid_in, state, Said};

#[test]
fn what_a_killed_guardian_leaves_is_killed_before_that_is_told() {
    let nursery = Nursery::new();
    let script = "setsid sh -c 'trap \"\" TERM HUP; echo $$; while :; do sleep 9; done' & \
                  sleep 60 & echo $!; trap '' TERM HUP; while :; do sleep 9; done";
    let (mut guardian, pid, forked) = nursery.sh(7, script);
    let mut text = String::new();
    while text.lines().count() < 2 {
        if let Said::Output(_, bytes) = guardian.hear() {
            text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }
    let pids: Vec<u32> = text.lines().map(pid_in).chain([pid]).collect();
    let (mut other, other_pid, _) = nursery.run(8, &["cat"], &[]);
    signal(forked, Signal::KILL);
    assert_eq!(nursery.hear(), Told::Died(7, Ending::Signalled(9), vec![]));
    assert!(pids.iter().all(|pid| !is_alive(*pid)), "{pids:?}");
    // Others are not concerned.
    assert!(is_alive(other_pid));
    other.say(&ToGuardian::Stdin(b"still here\n"));
    other.hear_until("still here\n");
}

#[test]
fn a_killed_guardian_at_any_moment_leaves_nobody() {
    let mut nursery = Nursery::new();
    let mut killed = 0;
    for run in 1..=150_u64 {
        let tag = format!("PROTON_NURSERY_TEST={}-{run}", std::process::id());
        let mut guardian = nursery.guardian(run);
        guardian.open(
            &["sh", "-c", "setsid sleep 60 & sleep 60 & sleep 60"],
            &[Field::Set(tag.as_bytes())],
        );
        // From before its start to after that.
        std::thread::sleep(Duration::from_micros(run * 20));
        // The one that has it, and one that may wait.
        for pid in children(nursery.pid()) {
            if parent_of(pid) == Some(nursery.pid()) {
                let _ = kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL);
            }
        }
        // Where neither had it yet, a third one has; and one that had only just got it has told
        // nobody. So the nursery is asked, and answers in any case when nobody is left.
        while let Some(said) = guardian.hear_or_lose() {
            if matches!(said, Said::Started { .. }) {
                nursery.say(&ToNursery::Kill { run });
            }
        }
        nursery.say(&ToNursery::Kill { run });
        let ending = loop {
            match nursery.hear() {
                Told::Died(died, ending, survivors) if died == run => {
                    assert_eq!(survivors, []);
                    break ending;
                }
                Told::Died(earlier, Ending::Unknown, _) => assert!(earlier < run),
                other => panic!("{other:?}"),
            }
        };
        killed += u32::from(ending == Ending::Signalled(9));
        assert_eq!(tagged(&tag), Vec::<u32>::new(), "after {} us", run * 20);
    }
    assert!(killed > 100, "{killed}");
}

/// The processes that have a variable.
fn tagged(variable: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes())
            && is_alive(*pid)
    })
    .collect()
}

#[test]
fn a_killed_guardians_cgroup_is_removed_before_that_is_told() {
    if !support::is_root() {
        return;
    }
    let nursery = Nursery::new();
    let base = format!("proton_stream_test_{}_nursery", std::process::id());
    let paths = ["pids", "freezer"].map(|controller| Path::new("/sys/fs/cgroup").join(controller));
    let paths = paths.map(|path| path.join(&base));
    paths.iter().for_each(|path| std::fs::create_dir(path).unwrap());
    let groups = || {
        let entries = paths.iter().flat_map(|path| std::fs::read_dir(path).unwrap().flatten());
        entries.filter(|entry| entry.path().is_dir()).count()
    };
    let fields =
        [Field::CgroupBase(base.as_bytes()), Field::Limit(Limit { name: b"pids", value: b"20" })];
    let (_guardian, pid, forked) = nursery.run(3, &["sleep", "60"], &fields);
    assert_eq!(groups(), 2);
    signal(forked, Signal::KILL);
    assert_eq!(nursery.hear(), Told::Died(3, Ending::Signalled(9), vec![]));
    assert!(!is_alive(pid));
    assert_eq!(groups(), 0);
    paths.iter().for_each(|path| std::fs::remove_dir(path).unwrap());
}

#[test]
fn a_guardian_is_killed_on_demand() {
    let mut nursery = Nursery::new();
    let (_guardian, pid, _) = nursery.sh(5, "trap '' TERM; while :; do sleep 9; done");
    // None has number 0, least of all the guardian that waits.
    for run in [4, 0] {
        nursery.say(&ToNursery::Kill { run });
        assert_eq!(nursery.hear(), Told::Died(run, Ending::Unknown, vec![]));
    }
    nursery.say(&ToNursery::Kill { run: 5 });
    // Its guardian is dead already, or will be: it is told of once.
    nursery.say(&ToNursery::Kill { run: 5 });
    assert_eq!(nursery.hear(), Told::Died(5, Ending::Signalled(9), vec![]));
    assert!(!is_alive(pid));
    nursery.say(&ToNursery::Kill { run: 5 });
    while nursery.hear() != Told::Died(5, Ending::Unknown, vec![]) {}
}

#[test]
fn a_stopped_guardian_is_continued_and_a_stubborn_one_killed() {
    let nursery = Nursery::new();
    let (mut guardian, pid, forked) = nursery.run(1, &["cat"], &[]);
    signal(forked, Signal::STOP);
    guardian.say(&ToGuardian::Stdin(b"hello\n"));
    guardian.hear_until("hello\n");
    eventually("it runs", || state(forked) != Some('T'));
    // Until twice within a second: whoever does that does it again.
    eventually("it is dead", || {
        if is_alive(forked) {
            let _ = kill_process(Pid::from_raw(forked as i32).unwrap(), Signal::STOP);
        }
        !is_alive(forked)
    });
    assert_eq!(nursery.hear(), Told::Died(1, Ending::Signalled(9), vec![]));
    assert!(!is_alive(pid));
}
