// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! What the feature `tracing` tells of starts and ends, and what it keeps to itself.
//!
//! Without a harness: this carries its guardian, so `maybe_run` comes first.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

use std::fmt::{Debug, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use proton_stream::{Command, Options, ProtonStream, Transport};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// A line for each event: level, target, fields.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Lines;

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}

impl Subscriber for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let mut line = Line(format!("{} {}", metadata.level(), metadata.target()));
        event.record(&mut line);
        LINES.lock().unwrap().push(line.0);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// The lines about `what`, of which there are to be `count`.
fn told(what: &str, count: usize) -> Vec<String> {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let lines = LINES.lock().unwrap().clone();
        let found: Vec<_> = lines.iter().filter(|line| line.contains(what)).cloned().collect();
        if found.len() == count || Instant::now() > until {
            assert_eq!(found.len(), count, "{what}: {lines:#?}");
            return found;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn main() {
    proton_stream::maybe_run();
    tracing::subscriber::set_global_default(Lines).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        a_start_and_an_end_are_told_with_the_pid().await;
        a_start_that_fails_is_told_with_its_error().await;
        a_program_that_is_closed_is_told_as_ended().await;
    });
    arguments_and_variables_are_not_told();
    println!("\n4 passed; 0 failed\n");
}

async fn a_start_and_an_end_are_told_with_the_pid() {
    let mut command = Command::new("sh");
    command.args(["-c", "exit 3", "secret-argument"]).env("SECRET", "secret-value");
    let mut child = command.spawn().await.unwrap();
    let [started] = &told("message=program started", 1)[..] else { panic!() };
    assert!(started.starts_with("DEBUG proton_stream::"), "{started}");
    assert!(started.contains(" program=sh"), "{started}");
    let pid = started.split(' ').find_map(|word| word.strip_prefix("pid=")).unwrap();
    assert!(pid.parse::<u32>().unwrap() > 1, "{started}");
    child.wait().await.unwrap();
    let [ended] = &told("message=program ended", 1)[..] else { panic!() };
    assert!(ended.contains(&format!(" program=sh pid={pid} exit=exited with status 3")), "{ended}");
    let first = LINES.lock().unwrap()[0].clone();
    assert_eq!(&first, started);
    println!("test a_start_and_an_end_are_told_with_the_pid ... ok");
}

async fn a_start_that_fails_is_told_with_its_error() {
    let options = Options::new().transport(Transport::Process);
    ProtonStream::open("no-such-program", ["secret-argument"], options).await.unwrap_err();
    let [line] = &told("message=program not started", 1)[..] else { panic!() };
    assert!(line.contains(" program=no-such-program error=the program can't be exec"), "{line}");
    println!("test a_start_that_fails_is_told_with_its_error ... ok");
}

async fn a_program_that_is_closed_is_told_as_ended() {
    let arguments = ["-c", "exec sleep 60", "secret-argument"];
    let (ps, _messages) = ProtonStream::open("sh", arguments, Options::new()).await.unwrap();
    ps.close().await.unwrap();
    told("message=program started", 2);
    let ended = told("message=program ended", 2);
    assert!(ended[1].contains(" exit=ended normally"), "{ended:?}");
    println!("test a_program_that_is_closed_is_told_as_ended ... ok");
}

fn arguments_and_variables_are_not_told() {
    told("secret", 0);
    told("message=", 5);
    println!("test arguments_and_variables_are_not_told ... ok");
}
