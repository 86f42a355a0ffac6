// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! A receiver that doesn't read stops the program, not the memory.

use std::time::Duration;

use proton_stream::{Message, Options, ProtonStream};

use crate::support::{cases, eventually, hear_out, sh, soon, Case};

pub(crate) const CASES: &[Case] = cases![
    a_receiver_that_does_not_read_holds_a_window_and_no_more,
    a_window_holds_also_when_bytes_come_one_at_a_time,
    a_small_window_loses_nothing,
    a_stream_that_nobody_reads_does_not_hold_up_the_other,
    two_hundred_programs_that_nobody_reads_cost_a_bounded_memory,
];

/// Waits until what is held does not grow any more.
async fn settled(ps: &ProtonStream) -> usize {
    let mut before = usize::MAX;
    loop {
        let held = ps.info().held;
        if held > 0 && held == before {
            return held;
        }
        before = held;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn a_receiver_that_does_not_read_holds_a_window_and_no_more() {
    let options = Options::new().window(100_000, 50_000);
    let (ps, mut messages) = sh("yes & yes error >&2", options).await;
    assert_eq!(soon("a full window", settled(&ps)).await, 150_000);
    let before = ps.info();
    assert_eq!((before.stdout_bytes, before.stderr_bytes), (100_000, 50_000));
    // It goes on where it was stopped.
    let mut read = 0;
    while read < 1_000_000 {
        match soon("a message", messages.recv()).await {
            Some(Message::Data(bytes)) => read += bytes.len(),
            Some(Message::Error(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    // Credit that was consumed is returned by halves of the window.
    let held = soon("a full window", settled(&ps)).await;
    assert!((75_000..=150_000).contains(&held), "{held}");
}

async fn a_window_holds_also_when_bytes_come_one_at_a_time() {
    let script = "import os\nwhile True: os.write(1, b'x')";
    let (ps, _messages) =
        ProtonStream::open("python3", ["-c", script], Options::new().window(5000, 1))
            .await
            .unwrap();
    assert_eq!(soon("a full window", settled(&ps)).await, 5000);
    assert_eq!(ps.info().stdout_bytes, 5000);
}

async fn a_small_window_loses_nothing() {
    for window in [1, 7, 4096] {
        let script = "head -c 20000 /dev/zero; head -c 5000 /dev/zero >&2";
        let (_ps, mut messages) = sh(script, Options::new().window(window, window)).await;
        let said = hear_out(&mut messages).await;
        assert_eq!((said.stdout.len(), said.stderr.len()), (20_000, 5000), "{window}");
    }
}

async fn a_stream_that_nobody_reads_does_not_hold_up_the_other() {
    use tokio::io::{AsyncBufReadExt, BufReader};
    let mut command = proton_stream::Command::new("sh");
    command.args(["-c", "yes >&2 & while read x; do echo $x; done"]);
    let piped = proton_stream::Stdio::piped;
    let mut child = command.stdin(piped()).stdout(piped()).stderr(piped()).spawn().await.unwrap();
    eventually("stderr is stalled", || child.info().stderr_bytes >= 262_144).await;
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut stdin = child.stdin.take().unwrap();
    for number in 0..100 {
        let line = format!("line {number}\n");
        tokio::io::AsyncWriteExt::write_all(&mut stdin, line.as_bytes()).await.unwrap();
        assert_eq!(soon("a line", lines.next_line()).await.unwrap().unwrap(), line.trim());
    }
}

async fn two_hundred_programs_that_nobody_reads_cost_a_bounded_memory() {
    let rss = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap()
    };
    let before = rss();
    let mut all = Vec::new();
    for _ in 0..200 {
        let (ps, messages) = sh("head -c 70000 /dev/zero", Options::new().window(10_000, 1)).await;
        soon("a full window", settled(&ps)).await;
        all.push((ps, messages));
        if all.len() == 10 {
            all.clear();
        }
    }
    let grown = rss().saturating_sub(before);
    assert!(grown < 64 << 10, "{grown} KiB more");
}
