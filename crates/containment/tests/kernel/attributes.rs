// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Attributes of a process that take privilege: had with it, and without it nothing runs.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use proton_stream_containment::{Rlimit, Specification};
use rustix::process::{getrlimit, Resource};

use crate::host::{cases, sh, Host};

cases! {
    Root what_takes_privilege_starts_nothing_without_it;
}

/// Files that a process may have open, one more than this one may.
pub(crate) fn too_many_files() -> u64 {
    getrlimit(Resource::Nofile).maximum.expect("the kernel has a limit") + 1
}

/// A limit that only privilege can set.
pub(crate) fn more_files() -> Rlimit {
    Rlimit { name: b"nofile".to_vec(), soft: Some(64), hard: Some(too_many_files()) }
}

/// A program with one thing that an ordinary user may not have.
fn wish(what: &str, script: &str) -> Specification {
    let name = |text: &str| Some(text.as_bytes().to_vec());
    let spec = sh(script);
    match what {
        "nice" => Specification { nice: Some(-5), ..spec },
        "oom_score_adj" => Specification { oom_score_adj: Some(-500), ..spec },
        "rlimit nofile" => Specification { rlimits: vec![more_files()], ..spec },
        "user" => Specification { user: name("root"), ..spec },
        "group" => Specification { group: name("root"), ..spec },
        "groups" => Specification { groups: Some(vec![b"root".to_vec()]), ..spec },
        _ => panic!("no such wish: {what}"),
    }
}

/// For the helper `wish`: says why not. The file would be there if it ran.
pub(crate) fn refused(host: &mut Host, what: &str, file: &str) {
    println!("{}", host.refused(&wish(what, &format!("echo ran > {file}"))));
}

fn what_takes_privilege_starts_nothing_without_it() {
    let file = std::env::temp_dir().join(format!("proton-wish-{}", std::process::id()));
    for (what, words) in [
        ("nice", "nice"),
        ("oom_score_adj", "oom_score_adj"),
        ("rlimit nofile", "rlimit nofile"),
        ("user", "can't be taken on: root"),
        ("group", "root"),
        ("groups", "groups"),
    ] {
        let text = as_nobody(what, &file);
        assert!(!file.exists(), "{what}: it ran");
        assert!(text.contains(words), "{what}: {text}");
        let refused = ["Permission denied", "Operation not permitted"];
        assert!(refused.iter().any(|why| text.contains(why)), "{what}: {text}");
    }
}

fn as_nobody(what: &str, file: &Path) -> String {
    let output = Command::new(std::env::current_exe().expect("this executable"))
        .args(["--helper", "wish", what, file.to_str().expect("text")])
        .current_dir("/")
        .uid(65534)
        .gid(65534)
        .output()
        .expect("a helper");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}
