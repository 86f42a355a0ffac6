// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! An AI agent's tool calls: commands that nobody has read before, each under limits of memory and
//! processes, with a deadline, an output that is cut, and no privileges to gain. Whatever they
//! start ends with them.
//!
//! `cargo run -p proton-stream --features embed --example agent [BASE]`
//!
//! The limits need a cgroup: below BASE, made by `sudo cgcreate -a $(whoami) -g memory,pids:BASE`,
//! or this process's own where it is delegated. Without one it says so and shows the rest.

use std::time::Duration;

use proton_stream::{Error, Message, Options, ProtonStream, Step};

/// What a model would ask for.
const CALLS: [&str; 5] = [
    "uname -s; echo done",
    "python3 -c 'x = bytearray(512 << 20)'",
    "for i in $(seq 100); do sleep 100 & done; wait",
    "yes",
    "setsid sleep 1000 & echo left a daemon",
];

/// How much of an output the model gets to see.
const MOST: usize = 200;

fn options(base: Option<&str>) -> Options {
    let options = Options::new()
        .current_dir("/tmp")
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .no_new_privs()
        .rlimit("core", Some(0), Some(0))
        .rlimit("nofile", Some(256), Some(256))
        .limit("memory", "128M")
        .limit("pids", 32);
    match base {
        Some(base) => options.cgroup_base(base),
        None => options,
    }
}

async fn call(script: &str, options: Options) -> Result<String, Error> {
    let (tool, mut messages) = ProtonStream::open("sh", ["-c", script], options).await?;
    let mut output = String::new();
    let answer = async {
        while let Some(message) = messages.recv().await {
            match message {
                Message::Data(bytes) | Message::Error(bytes) => {
                    output.push_str(&String::from_utf8_lossy(&bytes));
                    if output.len() > MOST {
                        return "was cut: it says too much".to_owned();
                    }
                }
                Message::Exit(exit) => return exit.to_string(),
                Message::Connected | Message::Closed => {}
            }
        }
        "is gone".to_owned()
    };
    let outcome = match tokio::time::timeout(Duration::from_secs(2), answer).await {
        Ok(outcome) => outcome,
        Err(_) => "was ended: it took too long".to_owned(),
    };
    // Here at the latest nothing of it is left.
    tool.close().await?;
    let shown: String = output.chars().take(60).collect();
    Ok(format!("{outcome} {shown:?}"))
}

async fn agent(base: Option<&str>) -> Result<(), Error> {
    let mut options = options(base);
    match call("true", options.clone()).await {
        Err(error) if error.step() == Some(Step::Cgroup) => {
            println!("without limits of memory and processes, since {error}");
            options = Options::new().current_dir("/tmp").rlimit("as", Some(256 << 20), None);
        }
        other => drop(other?),
    }
    for script in CALLS {
        println!("$ {script}\n  {}", call(script, options.clone()).await?);
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    proton_stream::maybe_run();
    let base = std::env::args().nth(1);
    tokio::runtime::Runtime::new()?.block_on(agent(base.as_deref()))?;
    Ok(())
}
