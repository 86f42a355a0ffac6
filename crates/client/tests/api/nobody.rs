// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! A host, a nursery and a guardian that are not root: they become nobody else, and name what they
//! can't kill, a setuid program that has become root altogether.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use proton_stream::{Exit, Options, ProtonStream, Transport};
use rustix::process::Signal as Kernel;
use tokio::io::AsyncReadExt;

use crate::support::{
    cases, eventually, hear_out, hear_until, is_alive, is_root, kill, parent, run, Case, Tag,
};

pub(crate) const CASES: &[Case] = cases![
    a_program_that_can_not_be_killed_is_named_after_a_close,
    a_program_that_can_not_be_killed_is_named_when_its_guardian_is,
    a_program_that_can_not_be_killed_is_named_after_a_kill,
    who_is_not_root_becomes_nobody_else,
];

const NOBODY: u32 = 65534;

/// This executable, and a program that becomes root, where anybody can execute them.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        let place =
            Self(std::env::temp_dir().join(format!("proton-nobody-{}", std::process::id())));
        std::fs::create_dir(&place.0).unwrap();
        std::fs::copy("/proc/self/exe", place.host()).unwrap();
        std::fs::copy("/usr/bin/setpriv", place.become_root()).unwrap();
        for (path, mode) in
            [(&place.0, 0o755), (&place.host(), 0o755), (&place.become_root(), 0o4755)]
        {
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        }
        place
    }

    fn host(&self) -> PathBuf {
        self.0.join("host")
    }

    fn become_root(&self) -> PathBuf {
        self.0.join("become-root")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn killed(mut command: proton_stream::Command) -> (u32, Exit) {
    let mut child = command.spawn().await.unwrap();
    let pid = child.id().unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 5]).await.unwrap();
    (pid, child.kill().await.unwrap())
}

async fn ended(command: proton_stream::Command, is_closed: bool) -> (u32, Exit) {
    let (ps, mut messages) = command.open().await.unwrap();
    let pid = ps.os_pid().unwrap();
    hear_until(&mut messages, "root\n").await;
    if is_closed {
        return (pid, ps.close().await.unwrap());
    }
    kill(parent(pid), Kernel::KILL);
    (pid, hear_out(&mut messages).await.exit.unwrap())
}

/// The host, as nobody: what it has said of the end.
pub(crate) fn main(words: &[&str]) -> ExitCode {
    let [event, transport, program] = words else { return ExitCode::FAILURE };
    if *event == "become" {
        run(become_others());
        return ExitCode::SUCCESS;
    }
    let transport = match *transport {
        "process" => Transport::Process,
        _ => Transport::Nursery,
    };
    run(async move {
        let ids = ["--reuid", "0", "--regid", "0", "--clear-groups", "--"];
        let arguments = ids.into_iter().chain(["sh", "-c", "echo root; exec sleep 60"]);
        let options = Options::new().kill_delay(Duration::from_millis(10)).transport(transport);
        let mut command = proton_stream::Command::new(program);
        // Nothing of the host's own: who reads that waits for the survivor.
        let piped = proton_stream::Stdio::piped;
        command.args(arguments).with(|_| options).stdin(piped()).stdout(piped()).stderr(piped());
        let (pid, exit) = match *event {
            "kill" => killed(command).await,
            _ => ended(command, *event == "close").await,
        };
        println!(
            "{:?} {:?} {:?} {}",
            exit.survivors() == [pid],
            exit.status(),
            exit.success(),
            exit
        );
    });
    ExitCode::SUCCESS
}

/// None of these runs as what it was not asked to run as.
async fn become_others() {
    for options in [
        Options::new().user(0),
        Options::new().user("root"),
        Options::new().group(0),
        Options::new().groups([0]),
        Options::new().groups([] as [u32; 0]),
        Options::new().user(NOBODY).groups([0]),
    ] {
        match ProtonStream::open("id", [] as [&str; 0], options.clone()).await {
            Ok((_, mut messages)) => {
                let said = hear_out(&mut messages).await;
                println!("{options:?}: {}", String::from_utf8_lossy(&said.stdout));
            }
            Err(error) => {
                let kind = std::io::Error::from_raw_os_error(error.errno().unwrap_or(0)).kind();
                println!("{:?} {kind:?}", error.step());
            }
        }
    }
}

/// What the host said, and who has survived.
async fn told(event: &str, transport: &str) -> (String, u32) {
    let tag = Tag::new();
    let text = said(&tag, event, transport);
    // The nursery and those that wait go with their host; this one does not.
    eventually("there is the survivor only", || tag.alive().len() <= 1).await;
    let alive = tag.alive();
    alive.iter().for_each(|pid| kill(*pid, Kernel::KILL));
    eventually("they are dead", || !alive.iter().any(|pid| is_alive(*pid))).await;
    assert_eq!(alive.len(), 1, "{text}");
    (text, alive[0])
}

fn said(tag: &Tag, event: &str, transport: &str) -> String {
    let place = Place::new();
    let output = Command::new(place.host())
        .args(["--nobody", event, transport])
        .arg(place.become_root())
        .env("PROTON_CLIENT_TEST", tag.name())
        .current_dir(Path::new("/"))
        .uid(NOBODY)
        .gid(NOBODY)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

async fn a_program_that_can_not_be_killed_is_named_after_a_close() {
    if !is_root() {
        return;
    }
    for transport in ["nursery", "process"] {
        let (text, pid) = told("close", transport).await;
        let expected = format!("true None false could not be killed in time, and left [{pid}]\n");
        assert_eq!(text, expected, "{transport}");
    }
}

async fn a_program_that_can_not_be_killed_is_named_when_its_guardian_is() {
    if !is_root() {
        return;
    }
    let (text, pid) = told("killed", "nursery").await;
    let said = "was ended: its guardian was killed by signal 9";
    assert_eq!(text, format!("true None false {said}, and left [{pid}]\n"));
}

async fn a_program_that_can_not_be_killed_is_named_after_a_kill() {
    if !is_root() {
        return;
    }
    let (text, pid) = told("kill", "nursery").await;
    let expected = format!("true None false could not be killed in time, and left [{pid}]\n");
    assert_eq!(text, expected);
}

async fn who_is_not_root_becomes_nobody_else() {
    if !is_root() {
        return;
    }
    let expected = ["Group", "Group", "Group", "Groups", "Groups", "Groups"]
        .map(|step| format!("Some({step}) PermissionDenied\n"));
    assert_eq!(said(&Tag::new(), "become", "nursery"), expected.concat());
}
