// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Every byte arrives, before the exit.

use std::time::Duration;

use proton_stream::{Message, Options, ProtonStream, Reason, Stderr};

use crate::support::{cases, eventually, hear_out, hear_until, sh, soon, Case};

pub(crate) const CASES: &[Case] = cases![
    what_is_written_right_before_the_exit_arrives_whole,
    a_reader_that_begins_late_loses_nothing,
    eight_mebibytes_through_cat_come_back_whole,
    stdout_and_stderr_come_apart_and_both_whole,
    stderr_comes_where_it_was_asked_to,
    a_grandchild_that_holds_the_pipe_does_not_hold_up_the_end,
    the_exit_is_told_once_and_last,
    a_close_is_answered_once_for_each_request_after_the_exit,
    after_a_close_nothing_more_is_delivered,
    a_new_receiver_loses_no_byte_while_output_flows,
    a_receiver_that_was_replaced_can_be_dropped,
];

async fn what_is_written_right_before_the_exit_arrives_whole() {
    for _ in 0..50 {
        let (_ps, mut messages) = sh("head -c 300000 /dev/zero; exit 7", Options::new()).await;
        let said = hear_out(&mut messages).await;
        assert_eq!(said.stdout.len(), 300_000);
        assert_eq!(said.exit.unwrap().reason(), &Reason::Status(7));
    }
}

async fn a_reader_that_begins_late_loses_nothing() {
    let (ps, mut messages) = sh("head -c 200000 /dev/zero", Options::new()).await;
    eventually("it has ended", || ps.os_pid().is_none()).await;
    let said = hear_out(&mut messages).await;
    assert_eq!(said.stdout.len(), 200_000);
    assert_eq!(said.exit.unwrap().reason(), &Reason::Normal);
}

async fn eight_mebibytes_through_cat_come_back_whole() {
    let all: Vec<u8> = (0..8 << 20).map(|index: u32| (index % 251) as u8).collect();
    let (ps, mut messages) =
        ProtonStream::open("cat", [] as [&str; 0], Options::new()).await.unwrap();
    ps.command(all.clone()).unwrap();
    ps.eof();
    let said = hear_out(&mut messages).await;
    assert!(said.stdout == all, "{} bytes came back", said.stdout.len());
    assert_eq!(ps.info().stdin_bytes, all.len() as u64);
}

async fn stdout_and_stderr_come_apart_and_both_whole() {
    let script = "head -c 1000000 /dev/zero & head -c 700000 /dev/zero >&2; wait";
    let (_ps, mut messages) = sh(script, Options::new()).await;
    let said = hear_out(&mut messages).await;
    assert_eq!((said.stdout.len(), said.stderr.len()), (1_000_000, 700_000));
}

async fn stderr_comes_where_it_was_asked_to() {
    let script = "echo one; echo two >&2; echo three";
    let (_ps, mut messages) = sh(script, Options::new().stderr(Stderr::ToStdout)).await;
    let said = hear_out(&mut messages).await;
    assert_eq!((&said.stdout[..], &said.stderr[..]), (&b"one\ntwo\nthree\n"[..], &b""[..]));
    let (_ps, mut messages) = sh(script, Options::new().stderr(Stderr::Only)).await;
    let said = hear_out(&mut messages).await;
    assert_eq!((&said.stdout[..], &said.stderr[..]), (&b""[..], &b"two\n"[..]));
}

async fn a_grandchild_that_holds_the_pipe_does_not_hold_up_the_end() {
    let script = "head -c 100000 /dev/zero; (trap '' TERM; sleep 60) & exit 3";
    let (_ps, mut messages) = sh(script, Options::new()).await;
    let said = hear_out(&mut messages).await;
    assert_eq!(said.stdout.len(), 100_000);
    assert_eq!(said.exit.unwrap().reason(), &Reason::Status(3));
}

async fn the_exit_is_told_once_and_last() {
    let (ps, mut messages) = sh("echo x; exit 9", Options::new()).await;
    let said = hear_out(&mut messages).await;
    assert_eq!((said.exit.unwrap().code(), said.closed), (Some(9), 0));
    assert_eq!(messages.recv().await, None);
    assert_eq!(ps.os_pid(), None);
    // What comes later is answered as by one that has ended.
    ps.signal(proton_stream::Signal::TERM);
    ps.eof();
    assert!(ps.command("x").is_err() && ps.write("x").await.is_err());
    assert_eq!(ps.close().await.unwrap().code(), Some(9));
    assert_eq!(messages.recv().await, Some(Message::Closed));
    assert_eq!(messages.recv().await, None);
}

async fn a_close_is_answered_once_for_each_request_after_the_exit() {
    let (ps, mut messages) = sh("read x", Options::new()).await;
    let (one, two) = tokio::join!(ps.close(), ps.close());
    assert_eq!(one.unwrap(), two.unwrap());
    let said = hear_out(&mut messages).await;
    let exit = said.exit.unwrap();
    assert_eq!((exit.reason(), said.closed), (&Reason::Normal, 2));
    assert_eq!(exit.signal(), Some(proton_stream::Signal::TERM));
}

async fn after_a_close_nothing_more_is_delivered() {
    let (ps, mut messages) = sh("trap '' TERM; while :; do echo x; done", Options::new()).await;
    hear_until(&mut messages, "x\n").await;
    let closing = tokio::spawn(async move { ps.close().await });
    soon("the close", closing).await.unwrap().unwrap();
    let said = hear_out(&mut messages).await;
    assert_eq!((said.stdout.len(), said.closed), (0, 1));
}

async fn a_new_receiver_loses_no_byte_while_output_flows() {
    let (ps, mut messages) =
        ProtonStream::open("seq", ["1", "2000000"], Options::new()).await.unwrap();
    let mut all = Vec::new();
    for turn in 0..8 {
        for _ in 0..turn {
            match soon("a message", messages.recv()).await {
                Some(Message::Data(bytes)) => all.extend_from_slice(&bytes),
                other => panic!("{other:?}"),
            }
        }
        let mut next = ps.connect();
        std::mem::swap(&mut messages, &mut next);
        assert_eq!(soon("connected", next.recv()).await, Some(Message::Connected));
        assert_eq!(next.recv().await, None);
    }
    let rest = hear_out(&mut messages).await;
    all.extend_from_slice(&rest.stdout);
    let whole: String = (1..=2_000_000).map(|number| format!("{number}\n")).collect();
    assert!(all == whole.as_bytes(), "{} bytes of {}", all.len(), whole.len());
    assert_eq!(rest.exit.unwrap().reason(), &Reason::Normal);
}

async fn a_receiver_that_was_replaced_can_be_dropped() {
    let (ps, messages) = sh("read x; echo $x", Options::new()).await;
    let mut next = ps.connect();
    drop(messages);
    tokio::time::sleep(Duration::from_millis(20)).await;
    ps.command("still here\n").unwrap();
    assert_eq!(hear_until(&mut next, "\n").await, "still here\n");
}
