// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Round trips, and bytes that nobody meant.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

use proptest::prelude::*;
use proton_stream_protocol::{
    Cause, Exit, ExitKind, Field, FromGuardian, Header, Open, Stdio, Stream, ToGuardian,
    HEADER_LENGTH, MAX_CREDIT,
};

fn bytes() -> impl Strategy<Value = &'static [u8]> {
    // Leaked, so that frames can borrow them: a few megabytes in a test process.
    prop::collection::vec(any::<u8>(), 0..300).prop_map(|bytes| &*bytes.leak())
}

fn stream() -> impl Strategy<Value = Stream> {
    prop_oneof![Just(Stream::Stdout), Just(Stream::Stderr)]
}

fn field() -> impl Strategy<Value = Field<'static>> {
    let text = || bytes().prop_filter("no NUL", |bytes| !bytes.contains(&0));
    prop_oneof![
        bytes().prop_map(Field::Argument),
        bytes().prop_map(Field::Inherited),
        bytes().prop_map(Field::Set),
        bytes().prop_map(Field::Unset),
        (text(), text(), text()).prop_map(|(controller, file, value)| Field::CgroupSet {
            controller,
            file,
            value
        }),
    ]
}

fn to_guardian() -> impl Strategy<Value = ToGuardian<'static>> {
    let open = (bytes(), prop::collection::vec(field(), 0..20), 1..u32::MAX).prop_map(
        |(package, mut fields, delay)| {
            fields.push(Field::KillDelay(delay));
            fields.push(Field::Stdio([Stdio::Piped, Stdio::Null, Stdio::SameAsStdout]));
            fields.push(Field::Program(b"program"));
            ToGuardian::Open(Open { package: &package[..package.len().min(255)], fields })
        },
    );
    prop_oneof![
        open,
        bytes().prop_map(ToGuardian::Stdin),
        (stream(), 1..=MAX_CREDIT).prop_map(|(stream, bytes)| ToGuardian::Credit { stream, bytes }),
        Just(ToGuardian::Eof),
        (1..=64_u8, any::<bool>()).prop_map(|(number, tree)| ToGuardian::Signal { number, tree }),
        Just(ToGuardian::Close),
        Just(ToGuardian::Sync),
        stream().prop_map(ToGuardian::OutputGone),
    ]
}

fn exit() -> impl Strategy<Value = Exit> {
    let kind = prop_oneof![
        any::<u8>().prop_map(ExitKind::Exited),
        (1..=64_u8, any::<bool>()).prop_map(|(signal, core)| ExitKind::Signalled { signal, core }),
        Just(ExitKind::Unknown),
    ];
    let cause =
        prop_oneof![Just(Cause::Program), Just(Cause::Close), (1..=64_u8).prop_map(Cause::Signal)];
    let numbers = (any::<u64>(), any::<u64>(), any::<u64>());
    (kind, any::<bool>(), cause, numbers, prop::collection::vec(any::<u32>(), 0..50)).prop_map(
        |(kind, oom_killed, cause, (user_time, system_time, max_rss), survivors)| Exit {
            kind,
            oom_killed,
            cause,
            user_time,
            system_time,
            max_rss,
            survivors,
        },
    )
}

fn from_guardian() -> impl Strategy<Value = FromGuardian<'static>> {
    prop_oneof![
        bytes().prop_map(|package| FromGuardian::Hello {
            package: &package[..package.len().min(255)]
        }),
        (any::<u32>(), 0..=2_u8, any::<u32>(), bytes()).prop_map(
            |(pid, level, stdin_credit, cgroup)| FromGuardian::Started {
                pid,
                level,
                stdin_credit,
                cgroup
            }
        ),
        (1..=12_u8, any::<u32>(), bytes())
            .prop_map(|(step, errno, detail)| FromGuardian::StartError { step, errno, detail }),
        (stream(), bytes())
            .prop_filter("not empty", |(_, bytes)| !bytes.is_empty())
            .prop_map(|(stream, bytes)| FromGuardian::Output { stream, bytes }),
        (1..u32::MAX).prop_map(|bytes| FromGuardian::StdinCredit { bytes }),
        Just(FromGuardian::StdinGone),
        stream().prop_map(FromGuardian::EndOfOutput),
        exit().prop_map(FromGuardian::Exit),
        (1..=4_u8, bytes()).prop_map(|(code, message)| FromGuardian::Error { code, message }),
    ]
}

fn split(wire: &[u8]) -> ([u8; HEADER_LENGTH], &[u8]) {
    let (head, body) = wire.split_at(HEADER_LENGTH);
    (head.try_into().unwrap(), body)
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded_to_the_same(frame in to_guardian()) {
        let mut wire = Vec::new();
        frame.encode(&mut wire);
        let (head, body) = split(&wire);
        let header = Header::to_guardian(head).unwrap();
        prop_assert_eq!(header.body_length, body.len());
        prop_assert_eq!(ToGuardian::decode(header.kind, body).unwrap(), frame);
    }

    #[test]
    fn what_a_guardian_encodes_is_decoded_to_the_same(frame in from_guardian()) {
        let mut wire = Vec::new();
        frame.encode(&mut wire);
        let (head, body) = split(&wire);
        let header = Header::from_guardian(head).unwrap();
        prop_assert_eq!(header.body_length, body.len());
        prop_assert_eq!(FromGuardian::decode(header.kind, body).unwrap(), frame);
    }

    #[test]
    fn any_bytes_are_a_frame_or_an_error(head in any::<[u8; 5]>(), body in bytes()) {
        let _ = Header::to_guardian(head);
        let _ = Header::from_guardian(head);
        for kind in (0..=0x10).chain(0x80..=0x90) {
            let _ = ToGuardian::decode(kind, body);
            let _ = FromGuardian::decode(kind, body);
        }
    }

    #[test]
    fn a_changed_byte_in_a_specification_never_panics(
        frame in to_guardian(), at in any::<prop::sample::Index>(), byte in any::<u8>()
    ) {
        let mut wire = Vec::new();
        frame.encode(&mut wire);
        let at = at.index(wire.len());
        wire[at] = byte;
        let (head, body) = split(&wire);
        if let Ok(header) = Header::to_guardian(head) {
            let _ = ToGuardian::decode(header.kind, body);
        }
    }
}
