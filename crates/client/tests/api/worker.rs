// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Callback mode.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use proton_stream::worker::{self, Next, Reply, Worker};
use proton_stream::{Command, Error, Exit, ProtonStream, Reason};

use crate::support::{cases, eventually, soon, Case, Tag};

pub(crate) const CASES: &[Case] = cases![
    callbacks_hear_both_streams_and_the_exit_last,
    defaults_do_for_all_callbacks,
    an_init_that_refuses_starts_no_program,
    a_start_that_fails_calls_nothing,
    a_callback_can_stop_its_program,
    a_slow_callback_makes_the_program_wait,
    calls_and_casts_reach_a_worker_while_output_flows,
    a_worker_that_ended_answers_no_call,
    a_worker_that_is_dropped_ends_its_program,
    a_run_that_is_dropped_at_any_point_leaves_nothing,
    a_callback_that_panics_ends_its_program_and_join_tells,
    a_run_can_be_repeated_by_who_supervises_it,
];

type Heard = Arc<Mutex<Vec<String>>>;

/// Writes down what it hears.
struct Scribe {
    script: &'static str,
    tag: Tag,
    heard: Heard,
    refuses: bool,
    stops_at: &'static str,
}

impl Scribe {
    fn new(script: &'static str) -> (Self, Heard) {
        let heard = Heard::default();
        let theirs = Arc::clone(&heard);
        (Self { script, tag: Tag::new(), heard, refuses: false, stops_at: "never" }, theirs)
    }

    fn write(&self, what: &str) -> Next {
        self.heard.lock().unwrap().push(what.to_owned());
        if what.contains(self.stops_at) {
            Next::Stop
        } else {
            Next::Continue
        }
    }
}

enum Letter {
    Say(&'static str),
    Count(Reply<usize>),
    Ignore(#[allow(dead_code)] Reply<()>),
    Panic,
}

impl Worker for Scribe {
    type Message = Letter;

    fn command(&self) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", self.script]).with(|_| self.tag.options());
        command
    }

    async fn init(&mut self) -> Result<(), Error> {
        self.write("init");
        if self.refuses {
            return Err(Error::Closed);
        }
        Ok(())
    }

    async fn handle_start(&mut self, _: &ProtonStream) -> Next {
        self.write("start")
    }

    async fn handle_stdout(&mut self, data: Bytes, _: &ProtonStream) -> Next {
        self.write(&format!("out {}", String::from_utf8_lossy(&data).trim()))
    }

    async fn handle_stderr(&mut self, data: Bytes, _: &ProtonStream) -> Next {
        self.write(&format!("err {}", String::from_utf8_lossy(&data).trim()))
    }

    async fn handle_message(&mut self, message: Letter, program: &ProtonStream) -> Next {
        match message {
            Letter::Say(what) => program.command(format!("{what}\n")).unwrap(),
            Letter::Count(reply) => reply.send(self.heard.lock().unwrap().len()),
            Letter::Ignore(_) => {}
            Letter::Panic => panic!("as asked"),
        }
        Next::Continue
    }

    async fn handle_exit(&mut self, exit: &Exit) {
        self.write(&format!("exit {:?}", exit.reason()));
    }
}

async fn callbacks_hear_both_streams_and_the_exit_last() {
    let (mut scribe, heard) = Scribe::new("echo one; sleep 0.05; echo two >&2; exit 3");
    let exit = soon("the end", worker::run(&mut scribe)).await.unwrap();
    assert_eq!(exit.reason(), &Reason::Status(3));
    assert_eq!(*heard.lock().unwrap(), ["init", "start", "out one", "err two", "exit Status(3)"]);
}

async fn defaults_do_for_all_callbacks() {
    struct Plain;
    impl Worker for Plain {
        type Message = ();

        fn command(&self) -> Command {
            let mut command = Command::new("sh");
            command.args(["-c", "head -c 1000000 /dev/zero; echo error >&2"]);
            command
        }
    }
    assert!(soon("the end", proton_stream::run(&mut Plain)).await.unwrap().success());
}

async fn an_init_that_refuses_starts_no_program() {
    let (mut scribe, heard) = Scribe::new("sleep 60");
    scribe.refuses = true;
    assert!(matches!(worker::run(&mut scribe).await, Err(Error::Closed)));
    assert_eq!(*heard.lock().unwrap(), ["init"]);
    assert_eq!(scribe.tag.alive(), []);
}

async fn a_start_that_fails_calls_nothing() {
    struct Missing;
    impl Worker for Missing {
        type Message = ();

        fn command(&self) -> Command {
            Command::new("no-such-program")
        }

        async fn handle_exit(&mut self, exit: &Exit) {
            panic!("{exit}");
        }
    }
    let error = worker::run(&mut Missing).await.unwrap_err();
    assert_eq!(error.errno(), Some(2), "{error}");
}

async fn a_callback_can_stop_its_program() {
    let (mut scribe, heard) = Scribe::new("echo go on; sleep 0.05; echo stop; sleep 60");
    scribe.stops_at = "out stop";
    let exit = soon("the end", worker::run(&mut scribe)).await.unwrap();
    assert_eq!(exit.reason(), &Reason::Normal);
    assert_eq!(heard.lock().unwrap().last().unwrap(), "exit Normal");
    assert_eq!(scribe.tag.alive(), []);
}

async fn a_slow_callback_makes_the_program_wait() {
    struct Slow(Vec<usize>);
    impl Worker for Slow {
        type Message = ();

        fn command(&self) -> Command {
            let mut command = Command::new("yes");
            command.with(|options| options.window(10_000, 10_000));
            command
        }

        async fn handle_stdout(&mut self, data: Bytes, program: &ProtonStream) -> Next {
            tokio::time::sleep(Duration::from_millis(20)).await;
            self.0.push(data.len() + program.info().held);
            if self.0.len() < 10 {
                Next::Continue
            } else {
                Next::Stop
            }
        }
    }
    let mut slow = Slow(Vec::new());
    soon("the end", worker::run(&mut slow)).await.unwrap();
    // What the callback has, and what waits behind it.
    assert!(slow.0.iter().all(|held| *held <= 20_000), "{:?}", slow.0);
}

async fn calls_and_casts_reach_a_worker_while_output_flows() {
    let (scribe, heard) = Scribe::new("yes >&2 & while read x; do echo said $x; done");
    let running = worker::spawn(scribe);
    let address = running.address();
    address.cast(Letter::Say("hello")).await.unwrap();
    let before = soon("a call", address.call(Letter::Count)).await.unwrap();
    assert!(before >= 2, "{before}");
    eventually("it has answered", || {
        heard.lock().unwrap().iter().any(|what| what == "out said hello")
    })
    .await;
    let unanswered = soon("a call", address.call(Letter::Ignore)).await;
    assert!(matches!(unanswered, Err(Error::NoReply)), "{unanswered:?}");
    let exit = soon("the end", running.stop()).await.unwrap();
    assert_eq!(exit.reason(), &Reason::Normal);
}

async fn a_worker_that_ended_answers_no_call() {
    let (scribe, _) = Scribe::new("exit 4");
    let running = worker::spawn(scribe);
    let address = running.address();
    let exit = soon("the end", running.join()).await.unwrap();
    assert_eq!(exit.code(), Some(4));
    assert!(matches!(address.cast(Letter::Say("x")).await, Err(Error::Closed)));
    assert!(matches!(address.call(Letter::Count).await, Err(Error::Closed)));
}

async fn a_worker_that_is_dropped_ends_its_program() {
    let (scribe, heard) = Scribe::new("sleep 60 & echo ready; trap '' TERM; sleep 60");
    let tag = Tag::named(scribe.tag.name());
    let running = worker::spawn(scribe);
    eventually("it runs", || heard.lock().unwrap().len() == 3).await;
    drop(running);
    tag.await_nobody("dropped").await;
}

async fn a_run_that_is_dropped_at_any_point_leaves_nothing() {
    for times in 0..12 {
        let (mut scribe, _) = Scribe::new("echo one; sleep 0.01; echo two; sleep 60");
        let tag = Tag::named(scribe.tag.name());
        let run = worker::run(&mut scribe);
        drop(crate::cancel::cut(times, run).await);
        tag.await_nobody(&format!("dropped after {times} polls")).await;
    }
}

async fn a_callback_that_panics_ends_its_program_and_join_tells() {
    let (scribe, _) = Scribe::new("sleep 60");
    let tag = Tag::named(scribe.tag.name());
    let running = worker::spawn(scribe);
    running.address().cast(Letter::Panic).await.unwrap();
    let joined = tokio::spawn(running.join());
    assert!(soon("the end", joined).await.unwrap_err().is_panic());
    tag.await_nobody("it has panicked").await;
}

async fn a_run_can_be_repeated_by_who_supervises_it() {
    let (mut scribe, heard) = Scribe::new("exit 1");
    for _ in 0..3 {
        assert_eq!(worker::run(&mut scribe).await.unwrap().code(), Some(1));
    }
    assert_eq!(heard.lock().unwrap().iter().filter(|what| *what == "start").count(), 3);
}
