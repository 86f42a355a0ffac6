// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! A chat with `bc`, in message mode.
//!
//! `cargo run -p proton-stream --features embed --example chat`

use proton_stream::{Error, Message, Options, ProtonStream};

/// Asks `bc` each of these, and prints what it says.
async fn chat(terms: &[&str]) -> Result<(), Error> {
    let (bc, mut messages) = ProtonStream::open("bc", ["-q"], Options::new()).await?;
    for term in terms {
        bc.command(format!("{term}\n"))?;
        match messages.recv().await {
            Some(Message::Data(answer)) => {
                print!("{term} = {}", String::from_utf8_lossy(&answer));
            }
            Some(Message::Error(complaint)) => {
                print!("{term}: {}", String::from_utf8_lossy(&complaint));
            }
            other => println!("{term}: {other:?}"),
        }
    }
    // Resolves when nothing of it is left.
    let exit = bc.close().await?;
    println!("bc {exit}");
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    proton_stream::maybe_run();
    tokio::runtime::Runtime::new()?.block_on(chat(&["2 + 2", "2 ^ 64", "1 / 0", "7 * 6"]))?;
    Ok(())
}
