// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Writes a number of 80-byte lines to stdout, each with a `write` of its own, as a program
//! does that flushes every line. `yes`, `seq` and their kind gather many lines first.

use std::io::Write;

fn main() {
    let count: u64 =
        std::env::args().nth(1).and_then(|count| count.parse().ok()).expect("usage: lines COUNT");
    let mut line = [b'.'; 80];
    line[79] = b'\n';
    // Buffered by line: each line is one `write`.
    let mut stdout = std::io::stdout().lock();
    for _ in 0..count {
        stdout.write_all(&line).expect("stdout");
    }
}
