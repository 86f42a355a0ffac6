// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! `proton-stream` against `tokio::process`, in turns in the same run.
//!
//! `bench/rust/run [--json FILE] [--plot FILE] [start] [stream] [echo] [idle]`

mod numbers;
mod parts;
mod plot;
mod report;

use std::process::ExitCode;

use report::Part;

fn main() -> ExitCode {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let mut file = |option: &str| {
        let place = words.iter().position(|word| word == option)?;
        words.remove(place);
        (place < words.len()).then(|| words.remove(place))
    };
    let (json, plot) = (file("--json"), file("--plot"));
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| word == name);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let parts: Vec<Part> = runtime.block_on(async {
        let mut all = Vec::new();
        if wanted("start") {
            all.push(parts::start().await);
        }
        if wanted("stream") {
            all.extend(parts::streams().await);
        }
        if wanted("echo") {
            all.push(parts::echo().await);
        }
        if wanted("idle") {
            all.push(parts::idle().await);
        }
        all
    });
    for part in &parts {
        println!("{}", part.line());
    }
    let files = [(json, report::json(&parts)), (plot, plot::svg(&parts))];
    for (path, text) in files {
        if let Some(Err(error)) = path.as_ref().map(|path| std::fs::write(path, text)) {
            eprintln!("{}: {error}", path.unwrap_or_default());
            return ExitCode::FAILURE;
        }
    }
    // A target that was missed is no failure; the line says so.
    ExitCode::SUCCESS
}
