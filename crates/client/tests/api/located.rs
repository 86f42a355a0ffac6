// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Where the guardian is looked for, and in which order.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use proton_stream::{Error, Options, ProtonStream};

use crate::support::{cases, Case, Directory};

pub(crate) const CASES: &[Case] =
    cases![the_guardian_is_looked_for_in_the_documented_order, what_is_named_is_not_passed_over];

/// What [`main`] is started as, with or without the call of `maybe_run`.
pub(crate) const HOSTS: [&str; 2] = ["--located", "--located-embedded"];

/// A guardian that tells who it is, and is none.
fn fake(path: &Path, name: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, format!("#!/bin/sh\necho {name} >> \"$LOG\"\n")).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o700)).unwrap();
}

/// Says whether a program was started.
pub(crate) fn main(word: &str) -> ExitCode {
    if word == HOSTS[1] {
        proton_stream::maybe_run();
    }
    let options = match std::env::var_os("GIVEN") {
        Some(path) => Options::new().guardian(path),
        None => Options::new(),
    };
    crate::support::run(async {
        let started = ProtonStream::open("/bin/true", [] as [&str; 0], options).await;
        println!(
            "{}",
            match &started {
                Ok(_) => "started",
                Err(Error::NoGuardian(_)) => "none",
                Err(Error::Guardian { .. }) => "unusable",
                Err(Error::GuardianEnded(_)) => "ended",
                Err(_) => "other",
            }
        );
    });
    ExitCode::SUCCESS
}

struct Place(Directory);

impl Place {
    fn new() -> Self {
        let place = Self(Directory::new("located"));
        std::fs::copy("/proc/self/exe", place.path("host")).unwrap();
        fake(&place.path("given"), "given");
        fake(&place.path("variable"), "variable");
        fake(&place.path("proton-guardian"), "beside");
        fake(&place.path("path/proton-guardian"), "path");
        place
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0 .0.join(name)
    }

    fn host(&self, word: &str) -> Command {
        let mut command = Command::new(self.path("host"));
        command.arg(word).env_remove("PROTON_GUARDIAN").env("LOG", self.path("log"));
        // A directory of it that is relative counts for nothing.
        command.env("PATH", format!(".:{}", self.path("path").display())).current_dir(&self.0 .0);
        command.stdin(Stdio::null());
        command
    }

    /// What the host says, and who was executed.
    fn told(&self, command: &mut Command) -> (String, Vec<String>) {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let log = std::fs::read_to_string(self.path("log")).unwrap_or_default();
        let _ = std::fs::remove_file(self.path("log"));
        let mut who: Vec<String> = log.lines().map(String::from).collect();
        who.dedup();
        (String::from_utf8(output.stdout).unwrap().trim().to_owned(), who)
    }
}

async fn the_guardian_is_looked_for_in_the_documented_order() {
    let place = Place::new();
    let ended = |who: &str| ("ended".to_owned(), vec![who.to_owned()]);
    for word in HOSTS {
        let mut host = place.host(word);
        host.env("GIVEN", place.path("given")).env("PROTON_GUARDIAN", place.path("variable"));
        assert_eq!(place.told(&mut host), ended("given"));
        let mut host = place.host(word);
        assert_eq!(
            place.told(host.env("PROTON_GUARDIAN", place.path("variable"))),
            ended("variable")
        );
    }
    // An empty variable is none.
    let mut host = place.host(HOSTS[1]);
    assert_eq!(place.told(host.env("PROTON_GUARDIAN", "")), ("started".to_owned(), vec![]));
    assert_eq!(place.told(&mut place.host(HOSTS[0])), ended("beside"));
    std::fs::remove_file(place.path("proton-guardian")).unwrap();
    assert_eq!(place.told(&mut place.host(HOSTS[0])), ended("path"));
    std::fs::remove_file(place.path("path/proton-guardian")).unwrap();
    assert_eq!(place.told(&mut place.host(HOSTS[0])), ("none".to_owned(), vec![]));
}

async fn what_is_named_is_not_passed_over() {
    // Another one in its place might be of another version, or somebody else's.
    let place = Place::new();
    for name in ["GIVEN", "PROTON_GUARDIAN"] {
        let mut host = place.host(HOSTS[1]);
        let told = place.told(host.env(name, place.path("not-there")));
        assert_eq!(told, ("unusable".to_owned(), vec![]));
    }
}
