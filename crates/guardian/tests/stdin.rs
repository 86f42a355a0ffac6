// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! The program's stdin: every byte, in order, whatever else is said meanwhile.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

mod support;

use proton_stream_protocol::{ExitKind, Field, Stream, ToGuardian, HEADER_LENGTH};
use support::{numbered, Guardian, Said};

/// The credit that there is at first.
const CREDIT: usize = 256 * 1024;

/// What `cat` gives back of `all`, which is said in pieces of these sizes, one after the other.
/// `between` may say something before each piece, which it is told, and (`None`) before waiting.
fn echoed(
    guardian: &mut Guardian,
    all: &[u8],
    sizes: &[usize],
    mut between: impl FnMut(&mut Guardian, Option<usize>),
) -> Vec<u8> {
    let (mut rest, mut credit, mut back) = (all, CREDIT, Vec::new());
    let mut pieces = sizes.iter().cycle().enumerate().peekable();
    let mut eof = false;
    loop {
        while let Some((said, size)) = pieces.next_if(|(_, size)| !eof && **size <= credit) {
            between(guardian, Some(said));
            let (piece, behind) = rest.split_at(rest.len().min(*size));
            guardian.say(&ToGuardian::Stdin(piece));
            (rest, credit) = (behind, credit - piece.len());
            if rest.is_empty() {
                eof = true;
                guardian.say(&ToGuardian::Eof);
            }
        }
        guardian.say(&ToGuardian::Sync);
        between(guardian, None);
        match guardian.hear() {
            Said::Output(Stream::Stdout, bytes) => back.extend(bytes),
            Said::StdinCredit(bytes) => credit += bytes as usize,
            Said::EndOfOutput(_) | Said::Reaped => {}
            Said::Exit(exit) => {
                assert_eq!(exit.kind, ExitKind::Exited(0));
                // What was returned is what the program could read, but for less than half of it.
                assert!(credit > CREDIT / 2, "{credit}");
                return back;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn eight_mebibytes_through_cat_come_back_whole() {
    let all = numbered(8 << 20);
    for (mut guardian, _) in Guardian::both(&["cat"]) {
        assert!(echoed(&mut guardian, &all, &[50_000], |_, _| {}) == all);
        guardian.part();
    }
}

#[test]
fn pieces_of_all_sizes_come_whole_whatever_is_said_between() {
    let all = numbered(8 << 20);
    let sizes =
        [1, 65_536, 16_383, 16_384, 16_385, 0, 65_535, 65_537, 7, 131_072, 4_095, 200_003, CREDIT];
    for (mut guardian, _) in Guardian::both(&["cat"]) {
        let back = echoed(&mut guardian, &all, &sizes, |guardian, said| {
            if said.is_some_and(|said| said % 3 == 0) {
                guardian.say(&ToGuardian::Credit { stream: Stream::Stderr, bytes: 1 });
            }
        });
        assert!(back == all);
        guardian.part();
    }
}

#[test]
fn a_program_that_stalls_now_and_then_gets_every_byte() {
    const STOP: u8 = 19;
    const CONT: u8 = 18;
    let all = numbered(4 << 20);
    for sizes in [&[65_536, 65_536, 65_536, 65_536][..], &[30_000], &[CREDIT], &[65_536, 100]] {
        for (mut guardian, _) in Guardian::both(&["cat"]) {
            // While it is stopped its pipe is full, and the rest of the credit waits behind that.
            let back = echoed(&mut guardian, &all, sizes, |guardian, said| {
                let number = if said.is_some_and(|said| said % 4 == 1) { STOP } else { CONT };
                guardian.say(&ToGuardian::Signal { number, tree: false });
            });
            assert!(back == all, "{sizes:?}");
            guardian.part();
        }
    }
}

#[test]
fn a_large_frame_flows_on_as_it_comes() {
    let all = numbered(60_000);
    for (mut guardian, _) in Guardian::both(&["cat"]) {
        let mut wire = Vec::new();
        ToGuardian::Stdin(&all).encode(&mut wire);
        let mut back = Vec::new();
        for piece in wire.chunks(20_000) {
            guardian.say_bytes(piece);
            // Of the first piece, all that is the program's.
            while back.len() + HEADER_LENGTH < 20_000 {
                let Said::Output(Stream::Stdout, bytes) = guardian.hear() else { panic!() };
                back.extend(bytes);
            }
        }
        guardian.say(&ToGuardian::Eof);
        back.extend(guardian.hear_out().stdout);
        assert!(back == all);
        guardian.part();
    }
}

#[test]
fn a_program_that_leaves_a_large_frame_half_read_is_told_of_and_goes_on() {
    let script = "head -c 70000 >/dev/null; exec <&-; trap 'echo heard; exit' USR1; echo closed
                  while :; do sleep 0.05; done";
    for (mut guardian, _) in Guardian::both(&["bash", "-c", script]) {
        guardian.say(&ToGuardian::Stdin(&numbered(200_000)));
        let (mut said, mut gone) = (Vec::new(), false);
        while !(gone && said == b"closed\n") {
            match guardian.hear() {
                Said::StdinGone => gone = true,
                Said::Output(_, bytes) => said.extend(bytes),
                Said::StdinCredit(_) => {}
                other => panic!("{other:?}"),
            }
        }
        // What comes behind is understood still.
        guardian.say(&ToGuardian::Stdin(&numbered(30_000)));
        guardian.say(&ToGuardian::Signal { number: 10, tree: false });
        let outcome = guardian.hear_out();
        assert_eq!(outcome.stdout, b"heard\n");
        guardian.part();
    }
}

#[test]
fn eof_follows_the_bytes_that_were_queued_before_it() {
    let (mut guardian, _) = Guardian::sh("read line; sleep 0.2; wc -c");
    guardian.say(&ToGuardian::Stdin(b"go\n"));
    guardian.say(&ToGuardian::Stdin(&[b'x'; 200_000]));
    guardian.say(&ToGuardian::Eof);
    let outcome = guardian.hear_out();
    assert_eq!(String::from_utf8(outcome.stdout).unwrap().trim(), "200000");
    assert!(!outcome.stdin_gone);
    guardian.part();
}

#[test]
fn output_flows_on_after_the_end_of_stdin() {
    let (mut guardian, _) = Guardian::run(&["sort"]);
    guardian.say(&ToGuardian::Stdin(b"b\nc\na\n"));
    guardian.say(&ToGuardian::Eof);
    assert_eq!(guardian.hear_out().stdout, b"a\nb\nc\n");
    guardian.part();
}

#[test]
fn a_program_that_closes_its_stdin_is_told_of_and_goes_on() {
    let (mut guardian, _) = Guardian::sh("exec <&-; echo closed; sleep 0.1; echo on");
    // Told without a write that would fail.
    let mut before = Vec::new();
    loop {
        match guardian.hear() {
            Said::StdinGone => break,
            Said::Output(_, bytes) => before.extend(bytes),
            other => panic!("{other:?}"),
        }
    }
    guardian.say(&ToGuardian::Stdin(&[b'x'; 100]));
    let outcome = guardian.hear_out();
    assert_eq!([before, outcome.stdout].concat(), b"closed\non\n");
    assert!(!outcome.stdin_gone, "told twice");
    guardian.part();
}

#[test]
fn stdin_credit_comes_back_when_the_program_can_read_the_bytes() {
    let (mut guardian, _) = Guardian::sh("sleep 0.1; cat >/dev/null");
    for _ in 0..4 {
        guardian.say(&ToGuardian::Stdin(&[b'x'; 65_000]));
    }
    guardian.say(&ToGuardian::Sync);
    guardian.say(&ToGuardian::Eof);
    assert_eq!(guardian.hear_out().stdin_credit, 4 * 65_000);
    guardian.part();
}

#[test]
fn a_few_bytes_of_stdin_credit_come_back_only_when_they_are_waited_for() {
    let (mut guardian, _) = Guardian::run(&["cat"]);
    guardian.say(&ToGuardian::Stdin(b"unawaited\n"));
    // All that was said before the echo would have come before it.
    assert_eq!(guardian.hear(), Said::Output(Stream::Stdout, b"unawaited\n".to_vec()));
    guardian.say(&ToGuardian::Sync);
    assert_eq!(guardian.hear(), Said::StdinCredit(10));
    guardian.say(&ToGuardian::Sync);
    guardian.say(&ToGuardian::Eof);
    assert_eq!(guardian.hear_out().stdin_credit, 0);
    guardian.part();
}

#[test]
fn null_stdin_is_an_end_of_file_and_told_as_gone() {
    use proton_stream_protocol::Stdio;
    let stdio = Field::Stdio([Stdio::Null, Stdio::Piped, Stdio::Null]);
    let (mut guardian, _) =
        Guardian::run_with(&["sh", "-c", "cat; echo err >&2; echo out"], &[stdio]);
    let outcome = guardian.hear_out();
    assert!(outcome.stdin_gone);
    assert_eq!((&outcome.stdout[..], &outcome.stderr[..]), (&b"out\n"[..], &b""[..]));
    assert_eq!(outcome.ended, [Stream::Stdout]);
    guardian.part();
}
