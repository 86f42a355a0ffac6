// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! What is measured. Ours and tokio's take turns, so that both see the same machine.

use std::process::Stdio as Std;
use std::time::Instant;

use proton_stream::{Command, Message, Options, ProtonStream, Stdio};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::process::Command as Tokio;

use crate::numbers::{median, quantile};
use crate::report::{Part, Target};

const GIB: u64 = 1 << 30;

fn micros(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e6
}

/// From the call to the exit, of a program that does nothing.
pub async fn start() -> Part {
    let (mut tokio, mut ours) = (Vec::new(), Vec::new());
    for round in 0..1200 {
        let since = Instant::now();
        let status = Tokio::new("/bin/true").status().await.expect("true");
        assert!(status.success());
        let of_tokio = micros(since);
        let since = Instant::now();
        let exit = Command::new("/bin/true").status().await.expect("true");
        assert!(exit.success());
        let of_ours = micros(since);
        // The first ones start the nursery, and fill caches.
        if round >= 200 {
            tokio.push(of_tokio);
            ours.push(of_ours);
        }
    }
    Part {
        name: "run to exit",
        unit: "µs",
        also: None,
        more: vec![("tokio p99", quantile(&mut tokio, 0.99)), ("p99", quantile(&mut ours, 0.99))],
        tokio: median(&mut tokio),
        ours: median(&mut ours),
        target: Target::AtMost(1.5),
    }
}

async fn count(mut reader: impl AsyncRead + Unpin) -> u64 {
    let mut buffer = vec![0; 256 << 10];
    let mut all = 0;
    loop {
        match reader.read(&mut buffer).await.expect("output") {
            0 => return all,
            length => all += length as u64,
        }
    }
}

fn rate(since: Instant) -> f64 {
    GIB as f64 / 1e6 / since.elapsed().as_secs_f64()
}

async fn stream(name: &'static str, program: &str, arguments: &[&str]) -> Part {
    let (mut tokio, mut ours, mut messages) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..7 {
        let since = Instant::now();
        let mut child =
            Tokio::new(program).args(arguments).stdout(Std::piped()).spawn().expect("a program");
        assert_eq!(count(child.stdout.take().expect("piped")).await, GIB);
        child.wait().await.expect("an exit");
        tokio.push(rate(since));

        let since = Instant::now();
        let mut command = Command::new(program);
        let mut child =
            command.args(arguments).stdout(Stdio::piped()).spawn().await.expect("a program");
        assert_eq!(count(child.stdout.take().expect("piped")).await, GIB);
        child.wait().await.expect("an exit");
        ours.push(rate(since));

        let since = Instant::now();
        let (_ps, mut received) =
            ProtonStream::open(program, arguments, Options::new()).await.expect("a program");
        let mut all = 0;
        while let Some(message) = received.recv().await {
            if let Message::Data(bytes) = message {
                all += bytes.len() as u64;
            }
        }
        assert_eq!(all, GIB);
        messages.push(rate(since));
    }
    Part {
        name,
        unit: "MB/s",
        tokio: median(&mut tokio),
        ours: median(&mut ours),
        also: Some(("ours, as messages", median(&mut messages))),
        more: vec![],
        target: Target::AtLeast(0.8),
    }
}

/// One GiB of zeros from `head`, and of a cached file from `cat`.
pub async fn streams() -> Vec<Part> {
    let path = std::env::temp_dir().join(format!("proton-bench-{}", std::process::id()));
    let file = std::fs::File::create(&path).expect("a file");
    let made = Tokio::new("head").args(["-c", "1G", "/dev/zero"]).stdout(file).status().await;
    assert!(made.expect("head").success());
    let cached = path.to_str().expect("text");
    let parts = vec![
        stream("1 GiB from head", "head", &["-c", "1G", "/dev/zero"]).await,
        stream("1 GiB from cat", "cat", &[cached]).await,
    ];
    std::fs::remove_file(&path).expect("our own file");
    parts
}

async fn echoes(mut stdin: impl AsyncWrite + Unpin, mut stdout: impl AsyncRead + Unpin) -> Vec<f64> {
    let mut times = Vec::new();
    let mut buffer = [0; 16];
    for round in 0..12_000 {
        let since = Instant::now();
        stdin.write_all(b"sixteen bytes!!\n").await.expect("stdin");
        stdout.read_exact(&mut buffer).await.expect("stdout");
        if round >= 2000 {
            times.push(micros(since));
        }
    }
    times
}

/// Sixteen bytes there and back.
pub async fn echo() -> Part {
    let (mut tokio, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let mut child =
            Tokio::new("cat").stdin(Std::piped()).stdout(Std::piped()).spawn().expect("cat");
        let (stdin, stdout) = (child.stdin.take().expect("piped"), child.stdout.take());
        tokio.extend(echoes(stdin, stdout.expect("piped")).await);
        child.wait().await.expect("an exit");

        let mut command = Command::new("cat");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().await.expect("cat");
        let (stdin, stdout) = (child.stdin.take().expect("piped"), child.stdout.take());
        ours.extend(echoes(stdin, stdout.expect("piped")).await);
        child.wait().await.expect("an exit");
    }
    Part {
        name: "echo of 16 bytes",
        unit: "µs",
        also: None,
        more: vec![("tokio p99", quantile(&mut tokio, 0.99)), ("p99", quantile(&mut ours, 0.99))],
        tokio: median(&mut tokio),
        ours: median(&mut ours),
        target: Target::AtMost(2.5),
    }
}

/// KiB of private memory of a process, from its `smaps_rollup`.
fn private(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let of = |name: &str| -> f64 {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0.0)
    };
    of("Private_Dirty:") + of("Private_Clean:")
}

fn children_of(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|text| {
            text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()
        })
        .collect()
}

const MANY: usize = 1000;

/// What a thousand idle programs cost beside themselves: here, and in guardians and nursery.
pub async fn idle() -> Part {
    let me = std::process::id();
    let here = || private(me);
    let before = here();
    let mut children = Vec::new();
    for _ in 0..MANY {
        let mut command = Tokio::new("sleep");
        command.arg("1000").stdin(Std::piped()).stdout(Std::piped()).kill_on_drop(true);
        children.push(command.spawn().expect("sleep"));
    }
    let tokio = (here() - before) / MANY as f64;
    for child in &mut children {
        child.kill().await.expect("our own child");
    }
    drop(children);

    // The nursery first: it is there once.
    let warm = Command::new("true").status().await.expect("true");
    assert!(warm.success());
    let before = here();
    let mut children = Vec::new();
    for _ in 0..MANY {
        let mut command = Command::new("sleep");
        command.arg("1000").stdin(Stdio::piped()).stdout(Stdio::piped());
        children.push(command.spawn().await.expect("sleep"));
    }
    let ours = (here() - before) / MANY as f64;
    let nurseries = children_of(me);
    let guardians: Vec<u32> = nurseries.iter().flat_map(|pid| children_of(*pid)).collect();
    let beside: f64 = guardians.iter().chain(&nurseries).map(|pid| private(*pid)).sum();
    drop(children);
    Part {
        name: "memory of an idle child",
        unit: "KiB",
        tokio,
        ours: ours + beside / MANY as f64,
        also: None,
        more: vec![("here", ours), ("in its guardian", beside / MANY as f64)],
        target: Target::None,
    }
}
