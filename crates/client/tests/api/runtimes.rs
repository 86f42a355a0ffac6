// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! A program that was started on one runtime, and is used on another one or on none.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::Thread;

use proton_stream::{blocking, Child, Command, Error, Message, Messages, Options, ProtonStream};
use proton_stream::{Reason, Stdio};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};

use crate::support::{Case, Tag};

pub(crate) const CASES: &[Case] = &[
    Case { name: "what_was_started_on_one_runtime_works_on_another", run: another },
    Case { name: "what_was_started_on_a_runtime_works_without_one", run: none },
    Case { name: "a_start_without_a_runtime_is_an_error", run: start },
    Case { name: "blocking_calls_inside_of_any_runtime_work", run: inside },
    Case { name: "an_open_that_is_polled_first_without_a_runtime_is_an_error", run: late },
];

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Nobody's runtime.
fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(done) => return done,
            Poll::Pending => std::thread::park_timeout(crate::support::DEADLINE),
        }
    }
}

struct Held {
    _runtime: Runtime,
    tag: Tag,
    ps: ProtonStream,
    messages: Messages,
    child: Child,
}

fn held() -> Held {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let tag = Tag::new();
    let options = tag.options();
    let (ps, messages, child) = runtime.block_on(async {
        let (ps, messages) =
            ProtonStream::open("cat", [] as [&str; 0], options.clone()).await.unwrap();
        let mut command = Command::new("cat");
        command.with(|_| options).stdin(Stdio::piped()).stdout(Stdio::piped());
        (ps, messages, command.spawn().await.unwrap())
    });
    Held { _runtime: runtime, tag, ps, messages, child }
}

async fn used(held: &mut Held) {
    held.ps.write("hello").await.unwrap();
    assert_eq!(held.messages.recv().await, Some(Message::Data("hello".into())));
    assert!(matches!(held.ps.stats().await, Err(Error::Group { .. })));
    assert_eq!(held.ps.close().await.unwrap().reason(), &Reason::Normal);
    let mut stdin = held.child.stdin.take().unwrap();
    stdin.write_all(b"to the child").await.unwrap();
    stdin.shutdown().await.unwrap();
    let mut all = Vec::new();
    held.child.stdout.as_mut().unwrap().read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"to the child");
    assert!(held.child.wait().await.unwrap().success());
    assert!(held.child.close().await.unwrap().success());
    assert_eq!(held.tag.alive(), []);
}

fn another() {
    // This one has neither sockets nor a clock.
    Builder::new_current_thread().build().unwrap().block_on(used(&mut held()));
}

fn none() {
    block_on(used(&mut held()));
}

fn start() {
    let error = block_on(Command::new("true").status()).unwrap_err();
    assert!(matches!(error, Error::NoRuntime), "{error}");
    let open = ProtonStream::open("true", [] as [&str; 0], Options::new());
    assert!(matches!(block_on(open), Err(Error::NoRuntime)));
}

fn late() {
    // Made on a runtime, which is not enough.
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let mut command = Command::new("true");
    let entered = runtime.enter();
    let status = command.status();
    drop(entered);
    assert!(matches!(block_on(status), Err(Error::NoRuntime)));
}

fn calls() {
    let output = blocking::output(Command::new("echo").arg("inside")).unwrap();
    assert_eq!(output.stdout, b"inside\n");
    let tag = Tag::new();
    let mut command = Command::new("cat");
    command.with(|_| tag.options()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = blocking::spawn(&mut command).unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"x").unwrap();
    assert_eq!(child.try_wait().unwrap(), None);
    assert_eq!(child.wait_with_output().unwrap().stdout, b"x");
    let (ps, messages) = blocking::open("echo", ["hello"], tag.options()).unwrap();
    let all: Vec<Message> = messages.collect();
    assert!(matches!(&all[..], [Message::Data(_), Message::Exit(_)]), "{all:?}");
    drop(ps);
    assert_eq!(tag.alive(), []);
}

fn inside() {
    Builder::new_current_thread().build().unwrap().block_on(async { calls() });
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::spawn(async { calls() }).await.unwrap();
        tokio::task::spawn_blocking(calls).await.unwrap();
        tokio::task::block_in_place(calls);
    });
}
