// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! A worker under a supervisor of a few lines: started again when it fails, with a pause that
//! grows, and not when it has ended well. (For a tree of supervisors see `proton-stream-ractor`.)
//!
//! `cargo run -p proton-stream --features embed --example supervised`

use std::time::Duration;

use bytes::Bytes;
use proton_stream::worker::{run, Next, Worker};
use proton_stream::{Command, Error, Exit, ProtonStream};

/// A program that takes three attempts.
struct Flaky {
    attempt: u32,
}

impl Worker for Flaky {
    type Message = ();

    fn command(&self) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", "echo attempt $ATTEMPT; test $ATTEMPT -ge 3"])
            .env("ATTEMPT", self.attempt.to_string());
        command
    }

    async fn init(&mut self) -> Result<(), Error> {
        self.attempt += 1;
        Ok(())
    }

    async fn handle_stdout(&mut self, data: Bytes, _program: &ProtonStream) -> Next {
        print!("it says: {}", String::from_utf8_lossy(&data));
        Next::Continue
    }

    async fn handle_exit(&mut self, exit: &Exit) {
        println!("it {exit}");
    }
}

async fn supervise(worker: &mut impl Worker) -> Result<(), Error> {
    let mut pause = Duration::from_millis(50);
    loop {
        // A program that can't be started at all is not tried again.
        if run(worker).await?.success() {
            return Ok(());
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    proton_stream::maybe_run();
    tokio::runtime::Runtime::new()?.block_on(supervise(&mut Flaky { attempt: 0 }))?;
    Ok(())
}
