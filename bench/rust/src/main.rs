// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! `proton-stream` against `tokio::process`, in turns in the same run. Prints JSON; `bench/rust/run`
//! makes a dated file and a plot of it.

mod numbers;
mod parts;
mod report;

use std::process::ExitCode;

use report::Part;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
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
    println!("{}", report::json(&parts));
    let mut missed = false;
    for part in &parts {
        eprintln!("{}", part.line());
        missed |= !part.is_met();
    }
    ExitCode::from(u8::from(missed))
}
