// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! A pipeline as one runs it around `ffmpeg`: a program that makes frames, one that compresses them,
//! progress on stderr, a file at the end; and a deadline, after which nothing of it is left.
//!
//! `cargo run -p proton-stream --features embed --example pipeline`

use std::fs::File;
use std::time::Duration;

use proton_stream::{Command, Error, Stdio};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

/// Makes "frames" and tells of each on stderr.
const SOURCE: &str = "for i in 1 2 3 4 5; do head -c 2000000 /dev/zero; echo frame $i >&2; done";

async fn encode(path: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
    let mut source = Command::new("sh")
        .args(["-c", SOURCE])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .await?;
    // The compressed bytes go into the file by themselves.
    let mut encoder = Command::new("gzip")
        .arg("-1")
        .stdin(Stdio::piped())
        .stdout(File::create(path)?)
        .spawn()
        .await?;

    let (stdout, stderr) = (source.stdout.take(), source.stderr.take());
    let (Some(mut frames), Some(progress)) = (stdout, stderr) else { return Ok(()) };
    let Some(mut into) = encoder.stdin.take() else { return Ok(()) };
    let copied = async {
        let mut buffer = vec![0; 64 * 1024];
        let mut copied = 0;
        loop {
            // Between the two one can look at every byte.
            let length = frames.read(&mut buffer).await?;
            if length == 0 {
                into.shutdown().await?;
                return Ok::<_, std::io::Error>(copied);
            }
            into.write_all(&buffer[..length]).await?;
            copied += length;
        }
    };
    let told = async {
        let mut lines = BufReader::new(progress).lines();
        while let Some(line) = lines.next_line().await? {
            println!("progress: {line}");
        }
        Ok::<_, std::io::Error>(())
    };
    let (copied, told) = tokio::join!(copied, told);
    told?;
    let (made, compressed) = (source.wait().await?, encoder.wait().await?);
    println!("{} bytes in: the source {made}, the encoder {compressed}", copied?);
    Ok(())
}

/// A pipeline that hangs is dropped, and that ends all of it.
async fn hang() -> Result<(), Error> {
    let endless = Command::new("sh").args(["-c", "sleep 1000 & sleep 1000"]).status().await?;
    println!("it {endless}");
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    proton_stream::maybe_run();
    let path = std::env::temp_dir().join(format!("proton-pipeline-{}.gz", std::process::id()));
    let ended = tokio::runtime::Runtime::new()?.block_on(async {
        encode(&path).await?;
        println!("{} bytes out", path.metadata()?.len());
        if tokio::time::timeout(Duration::from_millis(300), hang()).await.is_err() {
            println!("the one that hung was given up, and ended");
        }
        Ok(())
    });
    std::fs::remove_file(&path)?;
    ended
}
