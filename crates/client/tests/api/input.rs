// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! stdin: what is taken is delivered, and who writes is told when it can't be.

use proton_stream::{Error, Message, Options, ProtonStream, Reason};

use crate::support::{cases, eventually, hear_out, hear_until, sh, soon, Case};

pub(crate) const CASES: &[Case] = cases![
    eof_follows_the_bytes_and_output_flows_on,
    a_write_resolves_when_the_program_can_read_its_bytes,
    a_write_waits_for_a_program_that_does_not_read,
    a_program_that_never_reads_can_be_signalled_and_closed,
    a_program_that_has_closed_its_stdin_breaks_the_pipe,
    more_than_may_wait_is_refused_and_nothing_of_it_taken,
    writes_keep_their_order_across_tasks,
];

async fn eof_follows_the_bytes_and_output_flows_on() {
    let (ps, mut messages) = ProtonStream::open("sort", ["-n"], Options::new()).await.unwrap();
    for number in (0..50_000).rev() {
        ps.command(format!("{number}\n")).unwrap();
    }
    ps.eof();
    assert!(matches!(ps.command("x"), Err(Error::AfterEof | Error::BrokenPipe)));
    let said = hear_out(&mut messages).await;
    let sorted: String = (0..50_000).map(|number| format!("{number}\n")).collect();
    assert!(said.stdout == sorted.as_bytes());
}

async fn a_write_resolves_when_the_program_can_read_its_bytes() {
    // It has room for them, and reads nothing.
    let (ps, _messages) = sh("sleep 60", Options::new()).await;
    soon("a write", ps.write("hello\n")).await.unwrap();
    assert_eq!(ps.info().stdin_bytes, 6);
}

async fn a_write_waits_for_a_program_that_does_not_read() {
    let (ps, mut messages) = sh("read x; wc -c; echo $x", Options::new()).await;
    ps.command("first\n").unwrap();
    let (ps, write) = {
        let ps = std::sync::Arc::new(ps);
        let theirs = std::sync::Arc::clone(&ps);
        (ps, tokio::spawn(async move { theirs.write(vec![b'x'; 1 << 20]).await }))
    };
    soon("the write", write).await.unwrap().unwrap();
    ps.eof();
    let said = hear_out(&mut messages).await;
    assert_eq!(String::from_utf8(said.stdout).unwrap(), "1048576\nfirst\n");
}

async fn a_program_that_never_reads_can_be_signalled_and_closed() {
    let script = "import signal, sys\nsignal.signal(10, lambda *_: print('usr1', flush=True))\n\
                  print('ready', flush=True)\nwhile True: signal.pause()";
    let (ps, mut messages) =
        ProtonStream::open("python3", ["-c", script], Options::new()).await.unwrap();
    hear_until(&mut messages, "ready\n").await;
    ps.command(vec![0; 8 << 20]).unwrap();
    eventually("the pipe is full", || ps.info().stdin_bytes >= 65_536 || ps.info().queued > 0)
        .await;
    assert!(ps.os_pid().is_some());
    ps.signal(proton_stream::Signal::USR1);
    hear_until(&mut messages, "usr1\n").await;
    assert_eq!(soon("the close", ps.close()).await.unwrap().reason(), &Reason::Normal);
}

async fn a_program_that_has_closed_its_stdin_breaks_the_pipe() {
    let (ps, mut messages) = sh("exec <&-; echo closed; sleep 60", Options::new()).await;
    hear_until(&mut messages, "closed\n").await;
    let refused = soon("a write", async {
        loop {
            if let Err(error) = ps.write("x").await {
                break error;
            }
        }
    });
    let refused = refused.await;
    assert!(matches!(refused, Error::BrokenPipe), "{refused:?}");
    assert_eq!(std::io::Error::from(refused).kind(), std::io::ErrorKind::BrokenPipe);
}

async fn more_than_may_wait_is_refused_and_nothing_of_it_taken() {
    let (ps, mut messages) = sh("read x; echo $x; wc -c", Options::new().stdin_limit(1000)).await;
    ps.command("go\n").unwrap();
    hear_until(&mut messages, "go\n").await;
    let refused = ps.command(vec![0; 1 << 20]);
    assert!(matches!(refused, Err(Error::StdinFull { limit: 1000, .. })), "{refused:?}");
    soon("a write", ps.write("1234")).await.unwrap();
    ps.eof();
    assert_eq!(hear_out(&mut messages).await.stdout, b"4\n");
}

async fn writes_keep_their_order_across_tasks() {
    let (ps, mut messages) =
        ProtonStream::open("cat", [] as [&str; 0], Options::new()).await.unwrap();
    let ps = std::sync::Arc::new(ps);
    let writers: Vec<_> = (0..4_u8)
        .map(|writer| {
            let ps = std::sync::Arc::clone(&ps);
            tokio::spawn(async move {
                for line in 0..500_u16 {
                    ps.write(format!("{writer} {line}\n")).await.unwrap();
                }
            })
        })
        .collect();
    let mut all = Vec::new();
    let mut lines = 0;
    while lines < 2000 {
        let Some(Message::Data(bytes)) = soon("a message", messages.recv()).await else { panic!() };
        lines += bytes.iter().filter(|byte| **byte == b'\n').count();
        all.extend_from_slice(&bytes);
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let mut next = [0; 4];
    for line in String::from_utf8(all).unwrap().lines() {
        let (writer, number) = line.split_once(' ').unwrap();
        let next: &mut u16 = &mut next[writer.parse::<usize>().unwrap()];
        assert_eq!(number.parse::<u16>().unwrap(), *next, "of writer {writer}");
        *next += 1;
    }
}
