// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Who doesn't ask for a feature doesn't pay for it.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

use std::process::Command;

/// The crates that are built with these features.
fn crates(features: &str) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--package", "proton-stream", "--edges", "normal"])
        .args(["--prefix", "none", "--format", "{p}", "--features", features])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split(' ').next()).map(String::from).collect()
}

#[test]
fn without_tracing_no_tracing_is_built() {
    let is_tracing = |name: &String| name.starts_with("tracing");
    assert!(!crates("").iter().any(is_tracing));
    assert!(!crates("embed,blocking").iter().any(is_tracing));
    assert!(crates("tracing").iter().any(is_tracing));
}

#[test]
fn without_embed_no_guardian_is_built() {
    let is_guardian = |name: &String| {
        ["proton-stream-guardian", "proton-stream-containment"].contains(&&name[..])
    };
    assert!(!crates("blocking,tracing").iter().any(is_guardian));
    assert!(crates("embed").iter().any(is_guardian));
}
