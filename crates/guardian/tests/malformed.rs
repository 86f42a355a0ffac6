// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Controllers that speak nonsense.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

mod support;

use proton_stream_protocol::{Field, Open, Stream, ToGuardian};
use support::{is_alive, Guardian, Said};

/// The error that follows, whatever else comes before it.
fn error(guardian: &mut Guardian) -> (u8, String) {
    loop {
        match guardian.hear() {
            Said::Error { code, message } => return (code, message),
            Said::Hello
            | Said::Output(..)
            | Said::StdinCredit(_)
            | Said::StdinGone
            | Said::Reaped => {}
            other => panic!("{other:?}"),
        }
    }
}

/// The program killed, the guardian gone although its controller stays.
fn is_over(guardian: &mut Guardian, pid: u32) {
    assert!(guardian.wait().success());
    assert!(!is_alive(pid));
}

#[test]
fn every_malformed_vector_is_answered_in_words_and_ends_the_program() {
    let vectors = include_str!("../../../fixtures/frames.txt");
    let mut tried = 0;
    for line in vectors.lines().filter(|line| line.contains(" | malformed: ")) {
        let columns: Vec<&str> = line.split(" | ").collect();
        let wire: Vec<u8> = columns[1]
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        // Those that a guardian would send, or that a nursery hears, are of an unknown type here.
        let elsewhere = wire[4] >= 0x80 || columns[0].starts_with("nursery-");
        let expected = columns[2].strip_prefix("malformed: ").unwrap();
        tried += 1;

        let mut guardian = Guardian::new();
        guardian.say_bytes(&wire);
        let (code, message) = error(&mut guardian);
        assert_eq!(code, if message.contains("speaks protocol") { 1 } else { 2 });
        assert!(elsewhere || message == expected, "{}: {message}", columns[0]);
        assert!(guardian.wait().success(), "{}", columns[0]);

        let (mut guardian, pid) = Guardian::run(&["sleep", "1000"]);
        guardian.say_bytes(&wire);
        assert!(!error(&mut guardian).1.is_empty());
        is_over(&mut guardian, pid);
    }
    assert!(tried > 50, "only {tried} vectors");
}

#[test]
fn frames_at_the_wrong_time_are_refused() {
    let open = |guardian: &mut Guardian| {
        let fields = vec![Field::Program(b"true")];
        guardian.say(&ToGuardian::Open(Open { package: b"test", fields }));
    };
    let mut guardian = Guardian::new();
    guardian.say(&ToGuardian::Eof);
    assert_eq!(error(&mut guardian), (2, "a frame before OPEN may not come".into()));
    assert!(guardian.wait().success());

    let mut guardian = Guardian::new();
    guardian.say(&ToGuardian::Stdin(b"x"));
    assert_eq!(error(&mut guardian), (2, "STDIN before STARTED may not come".into()));
    assert!(guardian.wait().success());

    // Both are read at once: the start can't be known yet.
    let mut guardian = Guardian::new();
    let mut wire = Guardian::opening(&["sleep", "1000"], &[]);
    ToGuardian::OutputGone(Stream::Stdout).encode(&mut wire);
    guardian.say_bytes(&wire);
    assert_eq!(error(&mut guardian), (2, "OUTPUT_GONE before STARTED may not come".into()));
    assert!(guardian.wait().success());

    let (mut guardian, pid) = Guardian::run(&["sleep", "1000"]);
    open(&mut guardian);
    assert_eq!(error(&mut guardian), (2, "a second OPEN may not come".into()));
    is_over(&mut guardian, pid);

    let (mut guardian, pid) = Guardian::run(&["sleep", "1000"]);
    guardian.say(&ToGuardian::Eof);
    guardian.say(&ToGuardian::Stdin(b"x"));
    assert_eq!(error(&mut guardian), (2, "STDIN after EOF may not come".into()));
    is_over(&mut guardian, pid);
}

#[test]
fn stdin_beyond_the_credit_is_refused() {
    let (mut guardian, pid) = Guardian::run(&["sleep", "1000"]);
    // More than the pipe has room for as well, also one that has grown under load.
    for _ in 0..16 {
        guardian.say(&ToGuardian::Stdin(&[0; 65_536]));
    }
    assert!(error(&mut guardian).1.contains("no more than the credit"));
    is_over(&mut guardian, pid);
}

#[test]
fn credit_beyond_the_most_is_refused() {
    let (mut guardian, pid) = Guardian::run(&["sleep", "1000"]);
    guardian.say(&ToGuardian::Credit { stream: Stream::Stdout, bytes: 0x7fff_ffff });
    assert!(error(&mut guardian).1.contains("outstanding credit"));
    is_over(&mut guardian, pid);
}

#[test]
fn late_credit_and_late_frames_are_no_error() {
    let (mut guardian, _) = Guardian::run(&["true"]);
    guardian.hear_out();
    for stream in Stream::BOTH {
        guardian.say(&ToGuardian::Credit { stream, bytes: 0x7fff_ffff });
        guardian.say(&ToGuardian::OutputGone(stream));
    }
    guardian.say(&ToGuardian::Stdin(b"late"));
    guardian.say(&ToGuardian::Signal { number: 9, tree: true });
    guardian.say(&ToGuardian::Eof);
    guardian.say(&ToGuardian::Close);
    // Which is for guardians of a nursery.
    guardian.again(2, &["true"], &[]);
    guardian.part();
}

#[test]
fn any_bytes_end_the_guardian_in_order() {
    // A fixed sequence (xorshift), so that a failure is found again.
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..100 {
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed as u8
        })
        .take(64)
        .collect();
        let mut guardian = Guardian::new();
        guardian.say_bytes(&bytes);
        guardian.vanish();
        assert!(guardian.wait().success(), "{bytes:?}");
    }
}
