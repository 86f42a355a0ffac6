// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! What a frame costs in the guardian, beside the system calls that move it.

use criterion::{criterion_group, criterion_main, BatchSize, Criterion, Throughput};
use proton_stream_protocol::{
    data_header, Cause, Credit, Exit, ExitKind, Field, FromGuardian, Header, Open, Returned, Stdio,
    Stream, ToGuardian, HEADER_LENGTH,
};
use std::hint::black_box;

/// A frame's header and body, as they are on the wire.
fn split(wire: &[u8]) -> ([u8; HEADER_LENGTH], &[u8]) {
    let (head, body) = wire.split_at(HEADER_LENGTH);
    (head.try_into().expect("five bytes"), body)
}

/// Per chunk: what the relay does for each piece of output and input.
fn chunks(c: &mut Criterion) {
    let mut group = c.benchmark_group("chunk");

    group.bench_function("stdout header", |b| {
        b.iter(|| data_header(black_box(Stream::Stdout), black_box(65_536)))
    });

    let head = [0, 1, 0, 1, 0x02];
    group.bench_function("judge a stdin header", |b| {
        b.iter(|| Header::to_guardian(black_box(head)).map(|header| header.is_stdin()))
    });

    // Takes a slice, whatever its size.
    let bytes = vec![0x61; 65_536];
    group.bench_function("decode STDIN", |b| {
        b.iter(|| ToGuardian::decode(black_box(0x02), black_box(&bytes)).is_ok())
    });

    // The guardian writes bodies from where they are; a copying encoder is what it saves.
    for size in [16_usize, 65_536] {
        group.throughput(Throughput::Bytes(size as u64));
        let mut wire = Vec::with_capacity(size + HEADER_LENGTH);
        group.bench_function(format!("encode STDOUT of {size} bytes"), |b| {
            b.iter(|| {
                wire.clear();
                let bytes = black_box(&bytes[..size]);
                FromGuardian::Output { stream: Stream::Stdout, bytes }.encode(&mut wire);
                wire.len()
            })
        });
    }
    group.finish();
}

fn credit(c: &mut Criterion) {
    let mut group = c.benchmark_group("credit");
    let mut wire = Vec::new();
    ToGuardian::Credit { stream: Stream::Stdout, bytes: 5_120 }.encode(&mut wire);
    let (head, body) = split(&wire);

    group.bench_function("judge and decode CREDIT", |b| {
        b.iter(|| {
            let header = Header::to_guardian(black_box(head)).expect("a header");
            ToGuardian::decode(header.kind, black_box(body)).is_ok()
        })
    });
    group.bench_function("spend and grant", |b| {
        let mut credit = Credit::new(262_144);
        b.iter(|| {
            let spent = credit.spend(black_box(4_096));
            credit.grant(black_box(4_096)).is_ok() && spent
        })
    });
    group.bench_function("gather what was consumed", |b| {
        let mut returned = Returned::new(262_144);
        b.iter(|| returned.add(black_box(4_096), false))
    });
    group.finish();
}

/// Per program: its specification, with an environment of usual size, and its end.
fn programs(c: &mut Criterion) {
    let mut group = c.benchmark_group("program");
    let environment: Vec<Vec<u8>> =
        (0..60).map(|n| format!("VARIABLE_{n}={}", "x".repeat(40)).into_bytes()).collect();
    let mut fields = vec![
        Field::Program(b"/usr/bin/head"),
        Field::Argument(b"-c"),
        Field::Argument(b"1073741824"),
        Field::Argument(b"/dev/zero"),
        Field::Directory(b"/"),
        Field::Stdio([Stdio::Piped; 3]),
        Field::Credit { stdout: 262_144, stderr: 262_144 },
        Field::KillDelay(500),
    ];
    let environment = environment.join(&0);
    fields.push(Field::Inherited(&environment));
    let open = ToGuardian::Open(Open { package: b"1.9.0", fields });
    let mut wire = Vec::new();
    open.encode(&mut wire);
    let (head, body) = split(&wire);
    let header = Header::to_guardian(head).expect("a header");

    group.throughput(Throughput::Bytes(wire.len() as u64));
    group.bench_function("decode OPEN of 60 variables", |b| {
        b.iter(|| ToGuardian::decode(header.kind, black_box(body)).is_ok())
    });
    group.bench_function("encode OPEN of 60 variables", |b| {
        b.iter_batched_ref(
            || Vec::with_capacity(8_192),
            |out| black_box(&open).encode(out),
            BatchSize::SmallInput,
        )
    });

    let exit = FromGuardian::Exit(Exit {
        kind: ExitKind::Exited(0),
        oom_killed: false,
        cause: Cause::Program,
        user_time: 1_000,
        system_time: 2_000,
        max_rss: 4_096,
        survivors: Vec::new(),
    });
    let mut wire = Vec::new();
    exit.encode(&mut wire);
    group.throughput(Throughput::Bytes(wire.len() as u64));
    let (head, body) = split(&wire);
    let header = Header::from_guardian(head).expect("a header");
    group.bench_function("decode EXIT", |b| {
        b.iter(|| FromGuardian::decode(header.kind, black_box(body)).is_ok())
    });
    group.finish();
}

criterion_group!(benches, chunks, credit, programs);
criterion_main!(benches);
