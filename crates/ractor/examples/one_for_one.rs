// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! A supervisor that restarts each of its programs by itself, and gives up when one ends too often:
//! more than three times in five seconds.
//!
//! `cargo run -p proton-stream-ractor --example one_for_one`

use std::collections::HashMap;
use std::time::{Duration, Instant};

use proton_stream::worker::{Next, Worker};
use proton_stream::{Command, ProtonStream};
use proton_stream_ractor::{exit_of, ProgramActor};
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};

const MOST: usize = 3;
const WITHIN: Duration = Duration::from_secs(5);

/// A program by its script.
#[derive(Clone)]
struct Script(&'static str);

impl Worker for Script {
    type Message = ();

    fn command(&self) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", self.0]);
        command
    }

    async fn handle_stdout(&mut self, data: bytes::Bytes, _: &ProtonStream) -> Next {
        print!("  {}", String::from_utf8_lossy(&data));
        Next::Continue
    }
}

struct Supervisor;

#[derive(Default)]
struct Children {
    scripts: HashMap<ActorId, Script>,
    restarts: Vec<Instant>,
}

impl Children {
    async fn start(
        &mut self,
        myself: &ActorRef<()>,
        script: Script,
    ) -> Result<(), ActorProcessingErr> {
        let (actor, _) =
            Actor::spawn_linked(None, ProgramActor::new(), script.clone(), myself.get_cell())
                .await?;
        self.scripts.insert(actor.get_id(), script);
        Ok(())
    }

    /// Whether there may be one more.
    fn may_restart(&mut self) -> bool {
        let now = Instant::now();
        self.restarts.retain(|then| now.duration_since(*then) < WITHIN);
        self.restarts.push(now);
        self.restarts.len() <= MOST
    }
}

impl Actor for Supervisor {
    type Msg = ();
    type State = Children;
    type Arguments = Vec<Script>;

    async fn pre_start(
        &self,
        myself: ActorRef<()>,
        scripts: Vec<Script>,
    ) -> Result<Children, ActorProcessingErr> {
        let mut children = Children::default();
        for script in scripts {
            children.start(&myself, script).await?;
        }
        Ok(children)
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<()>,
        event: SupervisionEvent,
        children: &mut Children,
    ) -> Result<(), ActorProcessingErr> {
        let exit = exit_of::<Script>(&event);
        match &event {
            SupervisionEvent::ActorTerminated(who, ..) => {
                println!("{}: {}, not restarted", who.get_id(), exit.expect("a program"));
                children.scripts.remove(&who.get_id());
            }
            SupervisionEvent::ActorFailed(who, error) => {
                let script = children.scripts.remove(&who.get_id());
                let Some(script) = script else { return Ok(()) };
                if !children.may_restart() {
                    println!("{}: {error}; that is too often", who.get_id());
                    return Err("more than three restarts in five seconds".into());
                }
                println!("{}: {error}, restarted", who.get_id());
                children.start(&myself, script).await?;
            }
            _ => {}
        }
        Ok(())
    }
}

fn main() {
    proton_stream::maybe_run();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let scripts = vec![
            Script("echo this one ends well"),
            Script("echo this one lives; exec sleep 1000"),
            Script("echo this one fails; sleep 0.2; exit 1"),
        ];
        let (supervisor, ended) =
            Actor::spawn(None, Supervisor, scripts).await.expect("all of them start");
        ended.await.expect("it gives up");
        println!("{}: has given up, and with it end the others", supervisor.get_id());
    });
}
