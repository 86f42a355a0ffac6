// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Every public future, dropped at every point where it waits: no byte of a stream that goes on is
//! lost, no process and no descriptor is left, nothing panics.

use std::future::{poll_fn, Future};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use proton_stream::worker::{self, Next, Reply, Worker};
use proton_stream::{Command, Message, ProtonStream, Stdio};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{cases, descriptors, eventually, fixture, hear_out, soon, Case, Tag};

pub(crate) const CASES: &[Case] = cases![
    a_start_that_is_dropped_leaves_nothing,
    a_start_of_a_process_that_is_dropped_leaves_nothing,
    an_output_that_is_dropped_leaves_nothing,
    a_wait_or_kill_that_is_dropped_can_be_repeated,
    a_receive_that_is_dropped_loses_nothing,
    a_read_that_is_dropped_loses_nothing,
    a_write_that_is_dropped_is_all_or_nothing,
    a_flush_that_is_dropped_loses_nothing,
    a_close_that_is_dropped_still_closes,
    a_question_that_is_dropped_leaves_the_next_its_answer,
    a_childs_close_that_is_dropped_still_closes,
    what_is_said_to_a_worker_and_dropped_leaves_it_working,
];

/// Polls `future` up to `times` times, and drops it: also when nothing wakes it for a while.
pub(crate) async fn cut<F: Future>(times: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut polled = 0;
    let polls = poll_fn(|context| {
        if polled == times {
            return Poll::Ready(None);
        }
        polled += 1;
        match future.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if polled == times => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    });
    tokio::time::timeout(QUIET, polls).await.unwrap_or(None)
}

/// Longer than any step of a start takes.
const QUIET: Duration = Duration::from_millis(500);

/// Until it completes, at most 12 times.
const MOST: usize = 12;

async fn await_descriptors(before: usize) {
    eventually("no descriptor is left", || descriptors() <= before).await;
}

/// The nursery's own descriptors are there from the first start on.
async fn warm() -> usize {
    assert!(Command::new("true").status().await.unwrap().success());
    let (ps, messages) =
        ProtonStream::open("true", [] as [&str; 0], Default::default()).await.unwrap();
    drop((ps, messages));
    tokio::time::sleep(Duration::from_millis(50)).await;
    descriptors()
}

async fn a_start_that_is_dropped_leaves_nothing() {
    let tag = Tag::new();
    let before = warm().await;
    for round in 0..10 {
        for times in 0..MOST {
            let open = ProtonStream::open(fixture("daemon.sh"), [] as [&str; 0], tag.options());
            drop(cut(times, open).await);
            let mut command = Command::new(fixture("background.sh"));
            command.with(|_| tag.options()).stdout(Stdio::null()).stdin(Stdio::piped());
            drop(cut(times, command.spawn()).await);
            drop(cut(times, command.open()).await);
        }
        tag.await_nobody(&format!("round {round}")).await;
        await_descriptors(before).await;
    }
}

async fn a_start_of_a_process_that_is_dropped_leaves_nothing() {
    let tag = Tag::new();
    let before = warm().await;
    for times in 0..MOST {
        let options = tag.options().transport(proton_stream::Transport::Process);
        let open = ProtonStream::open(fixture("plain.sh"), [] as [&str; 0], options);
        drop(cut(times, open).await);
    }
    tag.await_nobody("starts were dropped").await;
    await_descriptors(before).await;
}

async fn an_output_that_is_dropped_leaves_nothing() {
    let tag = Tag::new();
    let before = warm().await;
    for times in 0..MOST {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 60 & yes | head -c 1000000; sleep 60"]).with(|_| tag.options());
        drop(cut(times, command.output()).await);
        let child = command.stdout(Stdio::piped()).spawn().await.unwrap();
        drop(cut(times, child.wait_with_output()).await);
        drop(cut(times, command.stdout(Stdio::null()).status()).await);
    }
    tag.await_nobody("outputs were dropped").await;
    await_descriptors(before).await;
}

async fn a_wait_or_kill_that_is_dropped_can_be_repeated() {
    for times in 0..MOST {
        let mut child = Command::new("sleep").arg("60").spawn().await.unwrap();
        drop(cut(times.min(1), child.wait()).await);
        drop(cut(times, child.kill()).await);
        let exit = soon("the kill", child.kill()).await.unwrap();
        assert_eq!(exit.signal(), Some(proton_stream::Signal::KILL));
    }
}

async fn a_receive_that_is_dropped_loses_nothing() {
    let (_ps, mut messages) =
        ProtonStream::open("seq", ["1", "100000"], Default::default()).await.unwrap();
    let mut all = Vec::new();
    let mut times = 0;
    loop {
        times = (times + 1) % 3;
        match cut(times, messages.recv()).await {
            Some(Some(Message::Data(bytes))) => all.extend_from_slice(&bytes),
            Some(Some(Message::Exit(_))) => break,
            Some(other) => panic!("{other:?}"),
            None => tokio::task::yield_now().await,
        }
    }
    let whole: String = (1..=100_000).map(|number| format!("{number}\n")).collect();
    assert!(all == whole.as_bytes());
}

async fn a_read_that_is_dropped_loses_nothing() {
    let mut child =
        Command::new("seq").args(["1", "100000"]).stdout(Stdio::piped()).spawn().await.unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut all = Vec::new();
    let mut buffer = [0; 1000];
    let mut times = 0;
    loop {
        times = (times + 1) % 3;
        match cut(times, stdout.read(&mut buffer)).await {
            Some(Ok(0)) => break,
            Some(read) => all.extend_from_slice(&buffer[..read.unwrap()]),
            None => tokio::task::yield_now().await,
        }
    }
    let whole: String = (1..=100_000).map(|number| format!("{number}\n")).collect();
    assert!(all == whole.as_bytes());
}

async fn a_write_that_is_dropped_is_all_or_nothing() {
    let (ps, mut messages) =
        ProtonStream::open("cat", [] as [&str; 0], Default::default()).await.unwrap();
    let reader = tokio::spawn(async move { hear_out(&mut messages).await.stdout });
    for number in 0..200_u32 {
        let line = format!("{number:050000}\n");
        drop(cut(number as usize % 5, ps.write(line)).await);
    }
    ps.eof();
    let all = String::from_utf8(soon("all of it", reader).await.unwrap()).unwrap();
    let mut last = None;
    for line in all.lines() {
        assert_eq!(line.len(), 50_000);
        let number: u32 = line.parse().unwrap();
        assert!(last.is_none_or(|last| last < number), "{number} after {last:?}");
        last = Some(number);
    }
}

async fn a_flush_that_is_dropped_loses_nothing() {
    let mut child =
        Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().await.unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let reader = tokio::spawn(async move {
        let mut all = Vec::new();
        stdout.read_to_end(&mut all).await.unwrap();
        all
    });
    let mut sent = Vec::new();
    for number in 0..300_usize {
        let chunk = vec![b'a' + (number % 26) as u8; 3000];
        // A write that is dropped has taken nothing, as `AsyncWrite` promises.
        if let Some(written) = cut(number % 3, stdin.write(&chunk)).await {
            sent.extend_from_slice(&chunk[..written.unwrap()]);
        }
        drop(cut(number % 4, stdin.flush()).await);
    }
    drop(cut(1, stdin.shutdown()).await);
    soon("the end of file", stdin.shutdown()).await.unwrap();
    assert!(soon("all of it", reader).await.unwrap() == sent);
}

async fn a_close_that_is_dropped_still_closes() {
    for times in 0..6 {
        let tag = Tag::new();
        let options = tag.options().kill_delay(Duration::from_millis(50));
        let (ps, mut messages) =
            ProtonStream::open(fixture("ignores_sigterm.sh"), [] as [&str; 0], options)
                .await
                .unwrap();
        crate::support::hear_until(&mut messages, "ready\n").await;
        drop(cut(times, ps.close()).await);
        if times == 0 {
            assert!(!tag.alive().is_empty());
            continue;
        }
        let said = hear_out(&mut messages).await;
        assert_eq!((said.closed, said.exit.is_some()), (1, true));
        assert_eq!(tag.alive(), []);
    }
}

async fn a_question_that_is_dropped_leaves_the_next_its_answer() {
    let (ps, _messages) =
        ProtonStream::open("cat", [] as [&str; 0], Default::default()).await.unwrap();
    for times in 0..6 {
        drop(cut(times, ps.stats()).await);
        drop(cut(times, ps.freeze()).await);
        drop(cut(times, ps.thaw()).await);
        drop(cut(times, ps.update_limits([("pids", 10)])).await);
        // Without a group each is refused, in order.
        let refused = soon("an answer", ps.stats()).await.unwrap_err();
        assert!(matches!(refused, proton_stream::Error::Group { .. }), "{refused}");
    }
}

async fn a_childs_close_that_is_dropped_still_closes() {
    for times in 1..6 {
        let tag = Tag::new();
        let mut command = Command::new("sh");
        command
            .args(["-c", "trap '' TERM; echo ready; while :; do sleep 9; done"])
            .with(|_| tag.options().kill_delay(Duration::from_millis(20)))
            .stdout(Stdio::piped());
        let mut child = command.spawn().await.unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).await.unwrap();
        drop(cut(times, child.close()).await);
        drop(cut(times, child.stats()).await);
        let exit = soon("the end", child.wait()).await.unwrap();
        assert_eq!(exit.reason(), &proton_stream::Reason::Normal);
        assert_eq!(tag.alive(), []);
    }
}

/// Answers with what it was sent.
struct Echo(Tag);

enum Ask {
    Nothing,
    Back(u32, Reply<u32>),
}

impl Worker for Echo {
    type Message = Ask;

    fn command(&self) -> Command {
        let mut command = Command::new("sleep");
        command.arg("60").with(|_| self.0.options());
        command
    }

    async fn handle_message(&mut self, ask: Ask, _: &ProtonStream) -> Next {
        tokio::task::yield_now().await;
        if let Ask::Back(what, reply) = ask {
            reply.send(what);
        }
        Next::Continue
    }
}

async fn what_is_said_to_a_worker_and_dropped_leaves_it_working() {
    for times in 0..6 {
        let tag = Tag::new();
        let running = worker::spawn(Echo(Tag::named(tag.name())));
        let address = running.address();
        for number in 0..100 {
            drop(cut(times, address.cast(Ask::Nothing)).await);
            drop(cut(times, address.call(|reply| Ask::Back(number, reply))).await);
        }
        let answer = soon("an answer", address.call(|reply| Ask::Back(7, reply))).await.unwrap();
        assert_eq!(answer, 7);
        match times % 2 {
            0 => drop(cut(times, running.stop()).await),
            _ => drop(cut(times, running.join()).await),
        }
        tag.await_nobody(&format!("it was dropped after {times} polls")).await;
    }
}
