// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Every byte, in order, before the exit.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

mod support;

use std::time::Duration;

use proton_stream_protocol::{ExitKind, Field, Stream, ToGuardian};
use support::{
    await_death, eventually, is_alive, numbered, pid_in, state, switches, Guardian, Said,
};

/// `size` bytes that tell their place, on the descriptors named.
fn writer(size: usize, descriptors: &str) -> String {
    let to = descriptors.split(',').map(|fd| format!("    write({fd}, block)\n"));
    let writes: String = to.collect();
    format!(
        "import os
def write(fd, block):
    while block: block = block[os.write(fd, block):]
left = {size}
n = 0
while left:
    block = b''.join(b'%07d\\n' % i for i in range(n, n + 500))[:left]
    n += 500; left -= len(block)
{writes}"
    )
}

#[test]
fn what_is_written_right_before_the_exit_arrives_whole() {
    for (size, runs) in [(1, 10), (9_000, 10), (20_000, 10), (65_536, 10), (1_000_000, 2)] {
        for descriptors in ["1", "2", "1,2"] {
            for _ in 0..runs {
                let (mut guardian, _) =
                    Guardian::run(&["python3", "-c", &writer(size, descriptors)]);
                let outcome = guardian.hear_out();
                let all = numbered(size);
                assert!(!descriptors.contains('1') || outcome.stdout == all, "stdout {size}");
                assert!(!descriptors.contains('2') || outcome.stderr == all, "stderr {size}");
                assert_eq!(outcome.exit.unwrap().kind, ExitKind::Exited(0));
                assert_eq!(outcome.ended.len(), 2);
                guardian.part();
            }
        }
    }
}

#[test]
fn what_is_in_the_pipe_at_the_exit_waits_for_credit() {
    let credit = Field::Credit { stdout: 0, stderr: 0 };
    let (mut guardian, pid) =
        Guardian::run_with(&["sh", "-c", "head -c 50000 /dev/zero; printf end >&2"], &[credit]);
    support::await_death(pid);
    assert_eq!(
        guardian.heard().filter(|said| !matches!(said, Said::StdinGone | Said::Reaped)),
        None
    );
    for stream in Stream::BOTH {
        guardian.say(&ToGuardian::Credit { stream, bytes: 1 << 20 });
    }
    let outcome = guardian.hear_out();
    assert_eq!((outcome.stdout.len(), &outcome.stderr[..]), (50_000, &b"end"[..]));
    guardian.part();
}

#[test]
fn the_end_of_an_empty_stream_needs_no_credit() {
    let credit = Field::Credit { stdout: 0, stderr: 0 };
    let (mut guardian, _) = Guardian::run_with(&["true"], &[credit]);
    assert_eq!(guardian.hear_out().exit.unwrap().kind, ExitKind::Exited(0));
    guardian.part();
}

#[test]
fn the_last_frame_that_credit_allows_comes_whole_also_to_a_slow_controller() {
    // As much as the controller's pipe holds, and headers: the frame can't be written at once.
    let credit = Field::Credit { stdout: 65_536, stderr: 0 };
    for _ in 0..20 {
        let program = ["sh", "-c", "dd if=/dev/zero bs=65536 count=1 2>/dev/null; read x"];
        let (mut guardian, _) = Guardian::run_unheard(&program, &[credit]);
        let pid = guardian.child().id();
        let mut before = String::new();
        // It does not wake up again and again for what it can't do, either.
        eventually("it waits", || {
            std::thread::sleep(Duration::from_millis(5));
            let now = switches(pid);
            state(pid) == Some('S') && std::mem::replace(&mut before, now.clone()) == now
        });
        guardian.listen();
        let mut length = 0;
        while length < 65_536 {
            if let Said::Output(_, bytes) = guardian.hear() {
                length += bytes.len();
            }
        }
        guardian.say(&ToGuardian::Eof);
        assert_eq!(guardian.hear_out().exit.unwrap().kind, ExitKind::Exited(1));
    }
}

#[test]
fn credit_is_never_exceeded_and_one_stream_does_not_hold_up_the_other() {
    let credit = Field::Credit { stdout: 10, stderr: 1_000_000 };
    let script = "while :; do echo 0123456789abcdef; echo x >&2; done";
    let (mut guardian, _) = Guardian::run_with(&["sh", "-c", script], &[credit]);
    let (mut stdout, mut stderr) = (0, 0);
    // The shell blocks on its full stdout pipe in the end, so only what fits there is certain.
    while stderr < 4_000 {
        match guardian.hear() {
            Said::Output(Stream::Stdout, bytes) => stdout += bytes.len(),
            Said::Output(Stream::Stderr, bytes) => stderr += bytes.len(),
            other => panic!("{other:?}"),
        }
        assert!(stdout <= 10);
    }
    guardian.say(&ToGuardian::Credit { stream: Stream::Stdout, bytes: 7 });
    while stdout < 17 {
        if let Said::Output(Stream::Stdout, bytes) = guardian.hear() {
            stdout += bytes.len();
        }
        assert!(stdout <= 17);
    }
}

#[test]
fn more_than_a_window_of_stderr_flows() {
    // Others account stderr to a window that nobody returns.
    let credit = Field::Credit { stdout: 10_240, stderr: 10_240 };
    let (mut guardian, _) =
        Guardian::run_with(&["sh", "-c", "head -c 200000 /dev/zero >&2"], &[credit]);
    let mut got = 0;
    while got < 200_000 {
        if let Said::Output(Stream::Stderr, bytes) = guardian.hear() {
            got += bytes.len();
            let bytes = bytes.len() as u32;
            guardian.say(&ToGuardian::Credit { stream: Stream::Stderr, bytes });
        }
    }
    assert_eq!(guardian.hear_out().exit.unwrap().kind, ExitKind::Exited(0));
    guardian.part();
}

#[test]
fn stderr_to_stdout_keeps_the_order_of_the_writes() {
    use proton_stream_protocol::Stdio;
    let stdio = Field::Stdio([Stdio::Piped, Stdio::Piped, Stdio::SameAsStdout]);
    let script = "for i in 1 2 3; do echo o$i; echo e$i >&2; done";
    let (mut guardian, _) = Guardian::run_with(&["sh", "-c", script], &[stdio]);
    assert_eq!(guardian.hear_out().stdout, b"o1\ne1\no2\ne2\no3\ne3\n");
    guardian.part();
}

#[test]
fn a_grandchild_that_holds_the_pipe_delays_the_exit_by_the_drain_timeout_only() {
    let (mut guardian, _) = Guardian::sh("head -c 64000 /dev/zero; sleep 1000 & exit 3");
    let outcome = guardian.hear_out();
    assert_eq!(outcome.stdout.len(), 64_000);
    assert_eq!(outcome.exit.unwrap().kind, ExitKind::Exited(3));
    guardian.part();
}

#[test]
fn a_grandchild_that_floods_the_pipe_does_not_keep_the_run_alive() {
    let (mut guardian, _) = Guardian::sh("echo mine; yes & exit 0");
    let outcome = guardian.hear_out();
    assert!(outcome.stdout.starts_with(b"mine\n"));
    assert_eq!(outcome.exit.unwrap().kind, ExitKind::Exited(0));
    guardian.part();
}

#[test]
fn a_grandchild_that_floods_a_pipe_nobody_reads_does_not_live_on() {
    let fields = [Field::Credit { stdout: 1000, stderr: 1000 }];
    let script = "yes & echo $! >&2; exit 0";
    let (mut guardian, _) = Guardian::run_with(&["sh", "-c", script], &fields);
    let (mut text, mut is_reaped) = (String::new(), false);
    while !is_reaped || !text.ends_with('\n') {
        match guardian.hear() {
            Said::Output(Stream::Stderr, bytes) => text += &String::from_utf8(bytes).unwrap(),
            said => is_reaped |= said == Said::Reaped,
        }
    }
    let pid = pid_in(&text);
    assert!(is_alive(pid));
    // Whose it is that was in the pipe when the program ended can't be told: so it is delivered.
    guardian.say(&ToGuardian::Credit { stream: Stream::Stdout, bytes: 100_000 });
    await_death(pid);
    guardian.say(&ToGuardian::Credit { stream: Stream::Stdout, bytes: 1 << 30 });
    assert_eq!(guardian.hear_out().exit.unwrap().kind, ExitKind::Exited(0));
    guardian.part();
}

#[test]
fn a_descendants_last_words_within_the_drain_timeout_are_delivered() {
    let fields = [Field::DrainTimeout(10_000)];
    let script = "(sleep 0.2; echo late) & echo first";
    let (mut guardian, _) = Guardian::run_with(&["sh", "-c", script], &fields);
    let outcome = guardian.hear_out();
    assert_eq!(outcome.stdout, b"first\nlate\n");
    guardian.part();
}

#[test]
fn a_tree_that_is_waited_for_ends_by_itself() {
    let fields = [Field::OnExitWait(true), Field::DrainTimeout(1)];
    let script = "(sleep 0.3; echo late; exit 9) & echo first; exit 4";
    let (mut guardian, _) = Guardian::run_with(&["sh", "-c", script], &fields);
    let outcome = guardian.hear_out();
    assert_eq!(outcome.stdout, b"first\nlate\n");
    assert_eq!(outcome.exit.unwrap().kind, ExitKind::Exited(4));
    guardian.part();
}

#[test]
fn great_output_arrives_whole_whatever_the_credit() {
    // From one frame of copied bytes to many of spliced ones, and everything between.
    for credit in [1_000, 20_000, 262_144, 5_000_000_u32] {
        let field = Field::Credit { stdout: credit, stderr: 0 };
        let size = if credit < 10_000 { 300_000 } else { 8 << 20 };
        let program = writer(size, "1");
        let (mut guardian, _) = Guardian::run_with(&["python3", "-c", &program], &[field]);
        let mut all = Vec::new();
        loop {
            match guardian.hear() {
                Said::Output(Stream::Stdout, bytes) => {
                    assert!(bytes.len() <= credit as usize);
                    let back = bytes.len() as u32;
                    all.extend(bytes);
                    guardian.say(&ToGuardian::Credit { stream: Stream::Stdout, bytes: back });
                }
                Said::Exit(exit) => {
                    assert_eq!(exit.kind, ExitKind::Exited(0));
                    break;
                }
                Said::StdinGone | Said::Reaped | Said::EndOfOutput(_) => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(all == numbered(size), "credit {credit}");
        guardian.part();
    }
}

#[test]
fn who_says_much_in_little_pieces_is_heard_to_the_last_and_then_left_in_peace() {
    let chatty =
        "import os\nfor n in range(20000): os.write(1 + n % 2, b'%07d\\n' % n)\nos.read(0, 1)
for n in range(64): os.write(1, b'answer %07d' % n); os.read(0, 1)";
    let credit = Field::Credit { stdout: 1 << 20, stderr: 1 << 20 };
    let (mut guardian, pid) = Guardian::run_with(&["python3", "-c", chatty], &[credit]);
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while stdout.len() + stderr.len() < 160_000 {
        match guardian.hear() {
            Said::Output(Stream::Stdout, bytes) => stdout.extend(bytes),
            Said::Output(Stream::Stderr, bytes) => stderr.extend(bytes),
            other => panic!("{other:?}"),
        }
    }
    let every_other = |first: usize| -> Vec<u8> {
        (first..20_000).step_by(2).flat_map(|n| format!("{n:07}\n").into_bytes()).collect()
    };
    assert!(stdout == every_other(0) && stderr == every_other(1));
    let all = [pid, guardian.child().id()];
    let mut before = Vec::new();
    eventually("nothing has run for 100 ms", || {
        std::thread::sleep(Duration::from_millis(100));
        let now = all.map(switches).to_vec();
        std::mem::replace(&mut before, now.clone()) == now
    });
    // One answer for each question, as quick as they come.
    for n in 0..64 {
        guardian.say(&ToGuardian::Stdin(b"?"));
        let answer = format!("answer {n:07}").into_bytes();
        assert_eq!(guardian.hear(), Said::Output(Stream::Stdout, answer));
    }
    guardian.say(&ToGuardian::Stdin(b"?"));
    guardian.hear_out();
    guardian.part();
}

#[test]
fn a_program_that_reads_its_own_output_ends_the_run_not_the_frames() {
    // It takes back what the guardian may have announced already.
    let program = "import os\nout = os.open('/proc/self/fd/1', os.O_RDONLY | os.O_NONBLOCK)\n\
        while True:\n  os.write(1, b'x' * 40000)\n  try: os.read(out, 40000)\n  except BlockingIOError: pass";
    let (mut guardian, pid) = Guardian::run(&["python3", "-c", program]);
    loop {
        match guardian.hear() {
            Said::Output(..) | Said::StdinGone | Said::Reaped => {}
            Said::Error { code, message } => {
                assert_eq!((code, &message[..]), (3, "an output stream was read by somebody else"));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(guardian.wait().success());
    assert!(!support::is_alive(pid));
}

#[test]
fn a_program_that_ends_in_the_middle_of_a_frame_ends_the_run() {
    // The controller's pipe is full, so that of the second stream's frame a part is still in the
    // program's pipe when the program dies and what it left there is counted.
    let program = "import os, subprocess\n\
        os.write(1, b'o' * 50000); os.write(2, b'e' * 60000)\n\
        subprocess.Popen(['sleep', '1000']); os._exit(3)";
    let (mut guardian, pid) = Guardian::run_unheard(&["python3", "-c", program], &[]);
    support::await_death(pid);
    guardian.listen();
    let outcome = guardian.hear_out();
    assert_eq!((outcome.stdout.len(), outcome.stderr.len()), (50_000, 60_000));
    assert_eq!(outcome.exit.unwrap().kind, ExitKind::Exited(3));
    guardian.part();
}

#[test]
fn a_controller_that_is_slower_than_the_drain_timeout_loses_nothing() {
    let program = "import os\nos.write(1, b'o' * 50000); os.write(2, b'e' * 60000); os._exit(3)";
    let fields = [Field::DrainTimeout(0)];
    let (mut guardian, pid) = Guardian::run_unheard(&["python3", "-c", program], &fields);
    support::eventually("it was reaped", || {
        !std::path::Path::new(&format!("/proc/{pid}")).exists()
    });
    guardian.listen();
    let outcome = guardian.hear_out();
    assert!(outcome.stdout == [b'o'; 50_000] && outcome.stderr == [b'e'; 60_000]);
    assert_eq!(outcome.exit.unwrap().kind, ExitKind::Exited(3));
    guardian.part();
}
