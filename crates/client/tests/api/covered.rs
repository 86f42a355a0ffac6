// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! That no public future is forgotten where they are dropped at every point.

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::{cases, Case};
use crate::{cancel, worker};

pub(crate) const CASES: &[Case] = cases![every_public_future_is_dropped_somewhere];

/// Each public future, and the case that drops it.
const DROPPED: &[(&str, &str)] = &[
    ("Address::call", "what_is_said_to_a_worker_and_dropped_leaves_it_working"),
    ("Address::cast", "what_is_said_to_a_worker_and_dropped_leaves_it_working"),
    ("Child::close", "a_childs_close_that_is_dropped_still_closes"),
    ("Child::kill", "a_wait_or_kill_that_is_dropped_can_be_repeated"),
    ("Child::stats", "a_childs_close_that_is_dropped_still_closes"),
    ("Child::wait", "a_wait_or_kill_that_is_dropped_can_be_repeated"),
    ("Child::wait_with_output", "an_output_that_is_dropped_leaves_nothing"),
    ("Command::open", "a_start_that_is_dropped_leaves_nothing"),
    ("Command::output", "an_output_that_is_dropped_leaves_nothing"),
    ("Command::spawn", "a_start_that_is_dropped_leaves_nothing"),
    ("Command::status", "an_output_that_is_dropped_leaves_nothing"),
    ("Messages::recv", "a_receive_that_is_dropped_loses_nothing"),
    ("ProtonStream::close", "a_close_that_is_dropped_still_closes"),
    ("ProtonStream::freeze", "a_question_that_is_dropped_leaves_the_next_its_answer"),
    ("ProtonStream::open", "a_start_that_is_dropped_leaves_nothing"),
    ("ProtonStream::stats", "a_question_that_is_dropped_leaves_the_next_its_answer"),
    ("ProtonStream::thaw", "a_question_that_is_dropped_leaves_the_next_its_answer"),
    ("ProtonStream::update_limits", "a_question_that_is_dropped_leaves_the_next_its_answer"),
    ("ProtonStream::write", "a_write_that_is_dropped_is_all_or_nothing"),
    ("Running::join", "what_is_said_to_a_worker_and_dropped_leaves_it_working"),
    ("Running::stop", "what_is_said_to_a_worker_and_dropped_leaves_it_working"),
    ("run", "a_run_that_is_dropped_at_any_point_leaves_nothing"),
];

/// All files of a directory, and of those in it.
fn sources(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => sources(&path),
            false => vec![std::fs::read_to_string(&path).unwrap()],
        })
        .collect()
}

/// The word that `text` begins with.
fn word(text: &str) -> String {
    text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}

/// What a source has of `pub async fn` and of `pub fn` that give a future, with their types.
fn futures(source: &str) -> Vec<String> {
    let mut kind = String::new();
    let mut found = Vec::new();
    for line in source.match_indices('\n').map(|(at, _)| &source[at + 1..]) {
        let first = line.lines().next().unwrap_or_default();
        if let Some(rest) = first.strip_prefix("impl") {
            // Behind the parameters of the implementation.
            let rest = match rest.strip_prefix('<') {
                Some(rest) => rest.split_once("> ").map_or("", |(_, rest)| rest),
                None => rest.trim_start(),
            };
            kind = word(rest) + "::";
        } else if first.starts_with('}') {
            kind.clear();
        }
        let Some(function) = first.trim_start().strip_prefix("pub ") else { continue };
        let name = if let Some(rest) = function.strip_prefix("async fn ") {
            rest
        } else if let Some(rest) = function.strip_prefix("fn ") {
            let signature = line.split(['{', ';']).next().unwrap_or_default();
            let gives = signature.split_once("->").map_or("", |(_, gives)| gives);
            if !gives.contains("Future") {
                continue;
            }
            rest
        } else {
            continue;
        };
        found.push(kind.clone() + &word(name));
    }
    found
}

/// The text of a case.
fn body<'s>(source: &'s str, name: &str) -> Option<&'s str> {
    let begin = source.find(&format!("async fn {name}("))?;
    source[begin..].split("\n}\n").next()
}

async fn every_public_future_is_dropped_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let public: BTreeSet<String> =
        sources(&root.join("src")).iter().flat_map(|source| futures(source)).collect();
    let dropped: BTreeSet<String> = DROPPED.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(public, dropped);
    let tests = [include_str!("cancel.rs"), include_str!("worker.rs")];
    let all = || cancel::CASES.iter().chain(worker::CASES);
    for (name, case) in DROPPED {
        assert!(all().any(|known| known.name == *case), "there is no case {case}");
        let body = tests.iter().find_map(|source| body(source, case)).unwrap();
        let function = name.rsplit("::").next().unwrap();
        let is_called =
            body.contains(&format!(".{function}(")) || body.contains(&format!("::{function}("));
        assert!(is_called && body.contains("cut("), "{case} does not drop {name}");
    }
    // That one which is new would be found.
    let source = "\nimpl<M: Send> Thing<M> {\n    pub fn later(\n        &self,\n    ) -> impl Future<\
                  Output = ()> {\n    }\n    pub(crate) async fn ours() {}\n}\npub async fn free() {\n";
    assert_eq!(futures(source), ["Thing::later", "free"]);
}
