// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! What a supervisor is told, and what is left. This executable is its own guardian.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

use std::future::Future;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proton_stream::worker::{Next, Worker};
use proton_stream::{Command, Exit, ProtonStream, Reason, Signal};
use proton_stream_ractor::{exit_of, Event, ProgramActor};
use ractor::{Actor, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};

const DEADLINE: Duration = Duration::from_secs(20);

type Case = (&'static str, fn());

macro_rules! cases {
    ($($name:ident),* $(,)?) => { &[$((stringify!($name), || run($name()))),*] };
}

const CASES: &[Case] = cases![
    an_exit_reaches_the_supervisor_with_its_type,
    a_start_that_fails_is_the_spawns_error,
    an_actor_that_is_stopped_is_gone_when_its_tree_is,
    an_actor_that_is_killed_leaves_nobody,
    a_callback_that_panics_leaves_nobody,
    a_slow_actor_makes_its_program_wait,
];

fn main() -> ExitCode {
    proton_stream::maybe_run();
    let filters: Vec<String> =
        std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    for (name, case) in CASES {
        if filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str())) {
            case();
            println!("test {name} ... ok");
        }
    }
    ExitCode::SUCCESS
}

fn run(case: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async { tokio::time::timeout(DEADLINE, case).await.expect("in time") });
}

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < until, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A shell's script; what it says is written down.
struct Script(&'static str, Arc<Mutex<Vec<u8>>>);

enum Order {
    Panic,
}

impl Worker for Script {
    type Message = Order;

    fn command(&self) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", self.0]).with(|options| options.window(10_000, 10_000));
        command
    }

    async fn handle_stdout(&mut self, data: bytes::Bytes, _: &ProtonStream) -> Next {
        self.1.lock().unwrap().extend_from_slice(&data);
        if self.0.starts_with("yes") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Next::Continue
    }

    async fn handle_message(&mut self, _: Order, _: &ProtonStream) -> Next {
        panic!("as asked")
    }
}

/// Writes down how its programs ended.
struct Supervisor;

impl Actor for Supervisor {
    type Msg = ();
    type State = Arc<Mutex<Vec<(bool, Exit)>>>;
    type Arguments = Self::State;

    async fn pre_start(
        &self,
        _: ActorRef<()>,
        ends: Self::State,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(ends)
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<()>,
        event: SupervisionEvent,
        ends: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        if let Some(exit) = exit_of::<Script>(&event) {
            let has_failed = matches!(event, SupervisionEvent::ActorFailed(..));
            ends.lock().unwrap().push((has_failed, exit.clone()));
        }
        Ok(())
    }
}

async fn an_exit_reaches_the_supervisor_with_its_type() {
    let ends = Arc::default();
    let (supervisor, _) = Actor::spawn(None, Supervisor, Arc::clone(&ends)).await.unwrap();
    for (script, has_failed, reason) in [
        ("exit 0", false, Reason::Normal),
        ("exit 7", true, Reason::Status(7)),
        ("kill -9 $$", true, Reason::Signal(Signal::KILL)),
    ] {
        let script = Script(script, Arc::default());
        let cell = supervisor.get_cell();
        Actor::spawn_linked(None, ProgramActor::new(), script, cell).await.unwrap();
        eventually("it was told", || !ends.lock().unwrap().is_empty()).await;
        let (failed, exit) = ends.lock().unwrap().pop().unwrap();
        assert_eq!((failed, exit.reason()), (has_failed, &reason));
    }
    supervisor.stop(None);
}

async fn a_start_that_fails_is_the_spawns_error() {
    struct Missing;
    impl Worker for Missing {
        type Message = ();

        fn command(&self) -> Command {
            Command::new("no-such-program")
        }
    }
    match Actor::spawn(None, ProgramActor::new(), Missing).await {
        Err(SpawnErr::StartupFailed(error)) => {
            let error = error.downcast_ref::<proton_stream::Error>().unwrap();
            assert_eq!(error.errno(), Some(2));
        }
        _ => panic!("it was started"),
    }
}

/// Starts one whose tree has a pid that it tells.
async fn with_a_tree() -> (ActorRef<Event<Order>>, tokio::task::JoinHandle<()>, u32) {
    let said = Arc::default();
    let script = "setsid sleep 60 & echo $!; trap '' TERM; while :; do sleep 9; done";
    let script = Script(script, Arc::clone(&said));
    let (actor, ended) = Actor::spawn(None, ProgramActor::new(), script).await.unwrap();
    eventually("it has said", || said.lock().unwrap().ends_with(b"\n")).await;
    let pid = String::from_utf8_lossy(&said.lock().unwrap()).trim().parse().unwrap();
    assert!(is_alive(pid));
    (actor, ended, pid)
}

fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

async fn an_actor_that_is_stopped_is_gone_when_its_tree_is() {
    let (actor, ended, pid) = with_a_tree().await;
    actor.stop(None);
    ended.await.unwrap();
    assert!(!is_alive(pid));
}

async fn an_actor_that_is_killed_leaves_nobody() {
    let (actor, ended, pid) = with_a_tree().await;
    actor.kill();
    ended.await.unwrap();
    eventually("its tree is dead", || !is_alive(pid)).await;
}

async fn a_callback_that_panics_leaves_nobody() {
    let (actor, ended, pid) = with_a_tree().await;
    actor.cast(Event::Message(Order::Panic)).unwrap();
    ended.await.unwrap();
    eventually("its tree is dead", || !is_alive(pid)).await;
}

async fn a_slow_actor_makes_its_program_wait() {
    let said = Arc::default();
    let script = Script("yes", Arc::clone(&said));
    let (actor, ended) = Actor::spawn(None, ProgramActor::new(), script).await.unwrap();
    eventually("it has said much", || said.lock().unwrap().len() > 30_000).await;
    // Had all been put into the mailbox, none of these would come in time.
    actor.stop(None);
    ended.await.unwrap();
    assert!(said.lock().unwrap().len() < 1_000_000);
}
