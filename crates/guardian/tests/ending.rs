// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! The end of a program, in every state, whoever asks for it.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

mod support;

use proton_stream_protocol::{Cause, ExitKind, Field, Stream, ToGuardian};
use rustix::process::{kill_process, Pid, Signal};
use support::{at_signal, await_death, eventually, is_alive, pid_in, state, Guardian, Said};

const IGNORE_TERM: &str = "trap '' TERM; echo ready; exec sleep 1000";

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid as i32).expect("a pid that a guardian told");
    kill_process(pid, signal).expect("it is alive");
}

#[test]
fn a_program_that_ignores_sigterm_is_gone_after_the_delay() {
    let fields = [Field::KillDelay(50)];
    let (mut guardian, pid) = Guardian::run_with(&["sh", "-c", IGNORE_TERM], &fields);
    guardian.hear_until("ready\n");
    guardian.say(&ToGuardian::Close);
    let exit = guardian.hear_out().exit.unwrap();
    assert_eq!(exit.kind, ExitKind::Signalled { signal: 9, core: false });
    assert_eq!(exit.cause, Cause::Close);
    assert!(!is_alive(pid));
    guardian.part();
}

#[test]
fn a_program_that_heeds_sigterm_ends_its_own_way() {
    let fields = [Field::KillDelay(600_000)];
    let script = at_signal(15, "say('bye'); os._exit(7)");
    let (mut guardian, _) = Guardian::run_with(&["python3", "-c", &script], &fields);
    guardian.hear_until("\n");
    guardian.say(&ToGuardian::Close);
    let outcome = guardian.hear_out();
    // It could write, though nobody reads: a closed pipe would have killed it.
    assert_eq!(outcome.exit.unwrap().kind, ExitKind::Exited(7));
    assert_eq!(outcome.stdout, b"");
    guardian.part();
}

#[test]
fn a_delay_of_zero_is_sigkill_at_once() {
    let fields = [Field::KillDelay(0)];
    let (mut guardian, _) = Guardian::run_with(&["sleep", "1000"], &fields);
    guardian.say(&ToGuardian::Close);
    let exit = guardian.hear_out().exit.unwrap();
    assert_eq!(exit.kind, ExitKind::Signalled { signal: 9, core: false });
    guardian.part();
}

#[test]
fn a_kill_delay_of_more_than_36_minutes_is_kept() {
    // In microseconds it is more than 32 bits hold.
    let fields = [Field::KillDelay(3_600_000)];
    let file = std::env::temp_dir().join(format!("proton-term-{}", std::process::id()));
    let script = at_signal(15, &format!("open('{}', 'w').close()", file.display()));
    let (mut guardian, pid) = Guardian::run_with(&["python3", "-c", &script], &fields);
    guardian.hear_until("\n");
    guardian.say(&ToGuardian::Close);
    eventually("SIGTERM has come", || file.exists());
    std::fs::remove_file(&file).unwrap();
    assert!(is_alive(pid));
    guardian.say(&ToGuardian::Signal { number: 12, tree: false });
    let exit = guardian.hear_out().exit.unwrap();
    assert_eq!(exit.kind, ExitKind::Signalled { signal: 12, core: false });
    assert_eq!(exit.cause, Cause::Close);
    guardian.part();
}

#[test]
fn a_stopped_program_is_continued_to_hear_sigterm() {
    let fields = [Field::KillDelay(600_000)];
    let script = at_signal(15, "os._exit(5)");
    let (mut guardian, pid) = Guardian::run_with(&["python3", "-c", &script], &fields);
    guardian.hear_until("\n");
    signal(pid, Signal::STOP);
    eventually("it is stopped", || state(pid) == Some('T'));
    guardian.say(&ToGuardian::Close);
    assert_eq!(guardian.hear_out().exit.unwrap().kind, ExitKind::Exited(5));
    guardian.part();
}

#[test]
fn a_stopped_and_continued_program_does_not_make_the_guardian_deaf() {
    let (mut guardian, pid) = Guardian::run(&["cat"]);
    signal(pid, Signal::STOP);
    eventually("it is stopped", || state(pid) == Some('T'));
    guardian.say(&ToGuardian::Stdin(b"while stopped\n"));
    signal(pid, Signal::CONT);
    guardian.hear_until("while stopped\n");
    guardian.say(&ToGuardian::Eof);
    assert_eq!(guardian.hear_out().exit.unwrap().kind, ExitKind::Exited(0));
    guardian.part();
}

#[test]
fn closing_twice_and_while_the_program_exits_is_one_exit() {
    for _ in 0..50 {
        let (mut guardian, _) = Guardian::run(&["true"]);
        guardian.say(&ToGuardian::Close);
        guardian.say(&ToGuardian::Close);
        guardian.hear_out();
        guardian.part();
    }
}

#[test]
fn close_before_the_start_is_known_leaves_nothing() {
    for _ in 0..50 {
        let mut guardian = Guardian::open_with(&["sleep", "1000"], &[]);
        guardian.say(&ToGuardian::Close);
        assert_eq!(guardian.hear(), Said::Hello);
        match guardian.hear() {
            Said::StartError { step: 11, .. } => {}
            Said::Started { pid, .. } => {
                guardian.hear_out();
                assert!(!is_alive(pid));
            }
            other => panic!("{other:?}"),
        }
        guardian.part();
    }
}

/// The guardian and its program are gone after the controller is.
fn vanishing_ends(mut guardian: Guardian, pid: u32) {
    assert!(is_alive(pid));
    guardian.vanish();
    assert!(guardian.wait().success());
    assert!(!is_alive(pid), "the guardian left before its program");
}

#[test]
fn a_controller_that_vanishes_ends_a_running_program() {
    let (guardian, pid) = Guardian::run(&["sleep", "1000"]);
    vanishing_ends(guardian, pid);
}

#[test]
fn a_controller_that_vanishes_ends_a_stopped_program() {
    let (guardian, pid) = Guardian::run(&["sleep", "1000"]);
    signal(pid, Signal::STOP);
    eventually("it is stopped", || state(pid) == Some('T'));
    vanishing_ends(guardian, pid);
}

#[test]
fn a_controller_that_vanishes_ends_a_program_whose_output_is_stalled() {
    let credit = Field::Credit { stdout: 100, stderr: 100 };
    let (mut guardian, pid) = Guardian::run_with(&["yes"], &[credit]);
    assert!(matches!(guardian.hear(), Said::Output(Stream::Stdout, _)));
    vanishing_ends(guardian, pid);
}

#[test]
fn a_controller_that_vanishes_ends_a_program_that_ignores_sigterm() {
    let (mut guardian, pid) = Guardian::sh(IGNORE_TERM);
    guardian.hear_until("ready\n");
    vanishing_ends(guardian, pid);
}

#[test]
fn a_controller_that_vanishes_during_the_kill_delay_does_not_stop_the_kill() {
    let (mut guardian, pid) = Guardian::sh(IGNORE_TERM);
    guardian.hear_until("ready\n");
    guardian.say(&ToGuardian::Close);
    vanishing_ends(guardian, pid);
}

#[test]
fn a_controller_that_vanishes_ends_a_program_that_never_reads() {
    let (mut guardian, pid) = Guardian::run(&["sleep", "1000"]);
    guardian.say(&ToGuardian::Stdin(&[0; 200_000]));
    vanishing_ends(guardian, pid);
}

#[test]
fn a_controller_that_vanishes_before_open_ends_the_guardian() {
    let mut guardian = Guardian::new();
    assert_eq!(guardian.hear(), Said::Hello);
    guardian.part();
}

#[test]
fn a_program_that_never_reads_can_still_be_signalled_and_closed() {
    let script = at_signal(10, "say('usr1\\n')");
    let (mut guardian, pid) = Guardian::run(&["python3", "-c", &script]);
    guardian.hear_until("\n");
    // All the credit there is; the program's pipe takes 64 KiB of it.
    for _ in 0..4 {
        guardian.say(&ToGuardian::Stdin(&[0; 65_536]));
    }
    guardian.say(&ToGuardian::Signal { number: 10, tree: false });
    guardian.hear_until("usr1\n");
    guardian.say(&ToGuardian::Close);
    guardian.hear_out();
    assert!(!is_alive(pid));
    guardian.part();
}

#[test]
fn a_signal_to_the_guardian_ends_the_program_and_is_reported_as_what_it_is() {
    for (number, sent) in [
        (1, Signal::HUP),
        (2, Signal::INT),
        (3, Signal::QUIT),
        (10, Signal::USR1),
        (12, Signal::USR2),
        (15, Signal::TERM),
    ] {
        let (mut guardian, pid) = Guardian::run(&["sleep", "1000"]);
        signal(guardian.child().id(), sent);
        let exit = guardian.hear_out().exit.unwrap();
        assert_eq!(exit.cause, Cause::Signal(number));
        assert_eq!(exit.kind, ExitKind::Signalled { signal: 15, core: false });
        assert!(!is_alive(pid));
        guardian.part();
    }
}

#[test]
fn a_guardian_that_is_killed_takes_its_program_with_it() {
    let (mut guardian, pid) = Guardian::sh(IGNORE_TERM);
    guardian.hear_until("ready\n");
    guardian.child().kill().unwrap();
    await_death(pid);
}

#[test]
fn a_guardian_that_is_killed_takes_another_users_program_with_it() {
    // A change of user clears what binds the program to its guardian (prctl(2), PR_SET_PDEATHSIG).
    if !support::is_root() {
        return;
    }
    let fields = [Field::User(b"nobody")];
    let (mut guardian, pid) = Guardian::run_with(&["sh", "-c", IGNORE_TERM], &fields);
    guardian.hear_until("ready\n");
    guardian.child().kill().unwrap();
    await_death(pid);
}

#[test]
fn the_program_shares_neither_session_nor_group_with_the_guardian() {
    let (mut guardian, pid) = Guardian::sh("ps -o sid=,pgid= -p $$");
    let said = guardian.hear_until("\n");
    let ids: Vec<u32> = said.split_whitespace().map(pid_in).collect();
    assert_eq!(ids, [pid, pid]);
    assert_eq!(guardian.hear_out().exit.unwrap().kind, ExitKind::Exited(0));
    guardian.part();
}

#[test]
fn a_program_that_signals_its_own_group_reaches_only_itself() {
    // `kill 0` means the caller's group; with a shared group it was the helper's end too.
    let (mut guardian, _) = Guardian::sh("kill -TERM 0; sleep 1000");
    let exit = guardian.hear_out().exit.unwrap();
    assert_eq!(exit.kind, ExitKind::Signalled { signal: 15, core: false });
    assert_eq!(exit.cause, Cause::Program);
    guardian.part();
}

#[test]
fn descendants_die_with_the_program() {
    for script in [
        "sleep 1000 & echo $!; sleep 1000",
        "setsid sleep 1000 & echo $!; sleep 1000",
        "(trap '' TERM; exec sleep 1000) & echo $!; sleep 1000",
        "(setsid sh -c 'sleep 1000 >/dev/null 2>&1 & echo $!'); sleep 1000",
        "sleep 1000 & kill -STOP $!; echo $!; sleep 1000",
    ] {
        let (mut guardian, pid) =
            Guardian::run_with(&["sh", "-c", script], &[Field::KillDelay(50)]);
        let descendant = pid_in(&guardian.hear_until("\n"));
        assert!(is_alive(descendant));
        guardian.say(&ToGuardian::Close);
        let exit = guardian.hear_out().exit.unwrap();
        assert!(!is_alive(descendant) && !is_alive(pid), "{script}");
        assert_eq!(exit.survivors, []);
        guardian.part();
    }
}

#[test]
fn descendants_die_when_the_program_exits_by_itself() {
    for script in [
        "sleep 1000 & echo $!",
        "setsid sleep 1000 >/dev/null 2>&1 & echo $!",
        "(trap '' TERM; exec sleep 1000) & echo $!",
    ] {
        let (mut guardian, _) = Guardian::run_with(&["sh", "-c", script], &[Field::KillDelay(50)]);
        let outcome = guardian.hear_out();
        let descendant = pid_in(&String::from_utf8(outcome.stdout).unwrap());
        assert!(!is_alive(descendant), "{script}");
        assert_eq!(outcome.exit.unwrap().kind, ExitKind::Exited(0));
        guardian.part();
    }
}

#[test]
fn a_controller_that_does_not_read_does_not_keep_the_program_alive() {
    let (mut guardian, pid) = Guardian::run_unheard(&["yes"], &[]);
    eventually("the program is blocked in its write", || state(pid) == Some('S'));
    guardian.vanish();
    assert!(guardian.wait().success());
    assert!(!is_alive(pid));
}

/// How much CPU time a process has used, in ticks of 10 ms (proc(5)).
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn a_guardian_that_waits_uses_no_time() {
    // Each waits in another way: for a program that has closed a stream or both, for a descendant
    // that floods a stream without credit, for credit.
    let credit = |bytes| Field::Credit { stdout: bytes, stderr: bytes };
    for (script, credit) in [
        ("exec sleep 1000", credit(1 << 20)),
        ("exec >/dev/null; exec sleep 1000", credit(1 << 20)),
        ("exec >/dev/null 2>&1; exec sleep 1000", credit(1 << 20)),
        ("exec <&-; exec sleep 1000", credit(1 << 20)),
        ("yes & exit 0", credit(1)),
        ("exec yes", credit(100)),
        ("printf x; exec sleep 1000", credit(1)),
    ] {
        let (mut guardian, _) = Guardian::run_with(&["sh", "-c", script], &[credit]);
        let guardian_pid = guardian.child().id();
        // A window without a tick, where a spinning loop has 20 of them.
        eventually(&format!("the guardian of `{script}` is idle"), || {
            let before = ticks(guardian_pid);
            std::thread::sleep(std::time::Duration::from_millis(200));
            ticks(guardian_pid) == before
        });
        guardian.vanish();
        assert!(guardian.wait().success());
    }
}

#[test]
fn a_program_that_became_another_user_and_can_not_be_killed_is_named() {
    use std::os::unix::fs::PermissionsExt;
    if !support::is_root() {
        return;
    }
    // A setuid program that takes on root altogether, started by a guardian that is not root.
    let directory = std::env::temp_dir().join(format!("proton-setuid-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let become_root = directory.join("become-root");
    std::fs::copy("/usr/bin/setpriv", &become_root).unwrap();
    for (path, mode) in [(&directory, 0o755), (&become_root, 0o4755)] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }
    let become_root = become_root.to_str().unwrap();
    let script = "echo root; exec sleep 60";
    let ids = ["--reuid", "0", "--regid", "0", "--clear-groups", "--"];
    let program = [&[become_root][..], &ids, &["sh", "-c", script]].concat();
    let mut guardian = Guardian::of_nobody(&directory);
    guardian.open(&program, &[Field::KillDelay(10)]);
    let pid = guardian.started(&program);
    guardian.hear_until("root\n");
    guardian.say(&ToGuardian::Close);
    let exit = guardian.hear_out().exit.unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    signal(pid, Signal::KILL);
    await_death(pid);
    assert_eq!((exit.kind, exit.survivors), (ExitKind::Unknown, vec![pid]));
    assert_eq!(exit.cause, Cause::Close);
}
