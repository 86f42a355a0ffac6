// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! A program that uses this crate, and is killed while it does.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use proton_stream::{Command, Options, ProtonStream, Stdio};

use crate::support::{end, fixture, hear_until, run};
use crate::{guard, guarded};

/// What a host does when it is killed.
pub(crate) const STATES: [&str; 8] =
    ["idle", "stalled", "writing", "closing", "starting", "streaming", "child", "blocked"];

fn ready() {
    let mut stdout = std::io::stdout();
    stdout.write_all(b"ready\n").and_then(|()| stdout.flush()).expect("somebody listens");
}

/// Does `state` with the program `shape`, until somebody kills it or a minute has passed.
pub(crate) fn main(words: &[&str]) -> ExitCode {
    let [state, shape] = words else { return ExitCode::FAILURE };
    let is_wild = guarded::SHAPES.contains(shape);
    if is_wild {
        guard::confirm();
    }
    let (state, shape) = (state.to_string(), fixture(shape));
    run(async move {
        let options = || match std::env::var("PROTON_CLIENT_BASE") {
            Ok(base) => Options::new().cgroup_base(base).limit("cpu", 1),
            Err(_) => Options::new(),
        };
        let open = || ProtonStream::open(&shape, [end()], options());
        let mut held = Vec::new();
        match state.as_str() {
            "starting" => {
                ready();
                // One of those is many.
                for _ in 0..if is_wild { 1 } else { 40 } {
                    held.push(open().await.expect("it starts"));
                }
            }
            "stalled" | "streaming" => {
                let (script, end) = ("\"$0\" \"$1\" & yes", end());
                let arguments = ["-c".as_ref(), script.as_ref(), shape.as_os_str(), end.as_ref()];
                let mut opened =
                    ProtonStream::open("sh", arguments, Options::new()).await.expect("it starts");
                opened.1.recv().await.expect("output");
                ready();
                if state == "streaming" {
                    while opened.1.recv().await.is_some() {}
                }
                held.push(opened);
            }
            "child" => {
                let mut child = Command::new(&shape)
                    .arg(end())
                    .stdin(Stdio::piped())
                    .stdout(Stdio::null())
                    .spawn()
                    .await
                    .expect("it starts");
                tokio::time::sleep(Duration::from_millis(50)).await;
                ready();
                let _stdin = child.stdin.take();
                let _ = child.wait().await;
            }
            other => {
                let (ps, mut messages) = open().await.expect("it starts");
                hear_until(&mut messages, "ready\n").await;
                match other {
                    "writing" => ps.command(vec![b'x'; 8 << 20]).expect("room"),
                    "closing" => {
                        tokio::spawn(async move {
                            let _ = ps.close().await;
                        });
                        ready();
                        tokio::time::sleep(Duration::from_secs(60)).await;
                        return;
                    }
                    "blocked" => {
                        ready();
                        std::thread::sleep(Duration::from_secs(60));
                    }
                    _ => {}
                }
                ready();
                held.push((ps, messages));
            }
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
    });
    ExitCode::SUCCESS
}
