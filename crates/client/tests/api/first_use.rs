// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! What somebody tries who knows std's and tokio's `Command`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::Duration;

use proton_stream::{Command, Error, Options, ProtonStream, Signal, Stdio, Step};

use crate::support::{cases, is_root, soon, Case, Directory};

pub(crate) const CASES: &[Case] = cases![
    a_wait_after_a_kill_tells_the_same,
    output_without_pipes_is_empty,
    a_dropped_stdin_is_an_end_of_file,
    a_status_does_not_wait_for_streams_that_nobody_reads,
    a_hundred_megabytes_of_both_streams_come_whole,
    bytes_that_are_no_text_reach_the_program,
    a_nul_is_refused_by_name,
    an_inherited_variable_can_be_removed,
    a_relative_path_counts_from_the_programs_directory,
    an_id_that_means_no_change_is_refused,
];

async fn a_wait_after_a_kill_tells_the_same() {
    let mut child = Command::new("sleep").arg("60").spawn().await.unwrap();
    child.start_kill();
    let exit = soon("the end", child.wait()).await.unwrap();
    assert_eq!((exit.signal(), exit.code()), (Some(Signal::KILL), None));
    child.start_kill();
    assert_eq!(child.kill().await.unwrap(), exit);
    assert_eq!(child.close().await.unwrap(), exit);
    assert_eq!(child.try_wait().unwrap(), Some(exit));
    // Of one that has ended by itself, its own end.
    let mut child = Command::new("false").spawn().await.unwrap();
    soon("the end", child.wait()).await.unwrap();
    assert_eq!(child.kill().await.unwrap().code(), Some(1));
}

async fn output_without_pipes_is_empty() {
    let mut command = Command::new("sh");
    command.args(["-c", "echo lost; cat; exit 4"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let child = command.spawn().await.unwrap();
    let output = soon("the end", child.wait_with_output()).await.unwrap();
    assert_eq!((output.stdout, output.stderr, output.exit.code()), (vec![], vec![], Some(4)));
    // What was taken is not there either.
    let mut child = Command::new("echo").arg("x").stdout(Stdio::piped()).spawn().await.unwrap();
    let stdout = child.stdout.take();
    assert_eq!(soon("the end", child.wait_with_output()).await.unwrap().stdout, b"");
    drop(stdout);
}

async fn a_dropped_stdin_is_an_end_of_file() {
    let mut command = Command::new("cat");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().await.unwrap();
    let mut stdin = child.stdin.take().unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stdin, b"all of it").await.unwrap();
    drop(stdin);
    let output = soon("the end", child.wait_with_output()).await.unwrap();
    assert_eq!((&output.stdout[..], output.exit.success()), (&b"all of it"[..], true));
}

async fn a_status_does_not_wait_for_streams_that_nobody_reads() {
    let mut command = Command::new("sh");
    command.args(["-c", "head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2; exit 5"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    assert_eq!(soon("the end", command.status()).await.unwrap().code(), Some(5));
}

async fn a_hundred_megabytes_of_both_streams_come_whole() {
    let script = "head -c 100000000 /dev/zero & head -c 100000000 /dev/zero >&2; wait";
    let output = soon("the end", Command::new("sh").args(["-c", script]).output()).await.unwrap();
    assert_eq!((output.stdout.len(), output.stderr.len()), (100_000_000, 100_000_000));
    assert!(output.exit.success());
}

async fn bytes_that_are_no_text_reach_the_program() {
    let wild = OsString::from_vec(vec![0xff, b'a', 0x80, b'\n', b'=']);
    let directory = Directory::new("wild");
    let path = directory.0.join(OsStr::from_bytes(b"\xfe dir"));
    std::fs::create_dir(&path).unwrap();
    let program = path.join(OsStr::from_bytes(b"\xfd program"));
    let script = "#!/bin/sh\nprintf '%s|%s|%s|' \"$1\" \"$WILD\" \"$2\"; pwd\n";
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .unwrap();
    let mut command = Command::new(OsStr::from_bytes(b"./\xfd program"));
    command.arg(&wild).arg("").env("WILD", &wild).current_dir(&path);
    let output = command.output().await.unwrap();
    let expected =
        [wild.as_bytes(), b"|", wild.as_bytes(), b"||", path.as_os_str().as_bytes(), b"\n"];
    assert_eq!(
        output.stdout.escape_ascii().to_string(),
        expected.concat().escape_ascii().to_string()
    );
}

async fn a_nul_is_refused_by_name() {
    let new = || Command::new("true");
    for (mut command, said) in [
        (Command::new("a\0b"), "the program"),
        (Command::new(""), "the program"),
        (std::mem::replace(new().arg("a\0b"), new()), "an argument"),
        (std::mem::replace(new().arg0("a\0b"), new()), "arg0"),
        (std::mem::replace(new().env("A\0", "b"), new()), "the name of a variable"),
        (std::mem::replace(new().env("", "b"), new()), "the name of a variable"),
        (std::mem::replace(new().env("A", "b\0"), new()), "the value of a variable"),
        (std::mem::replace(new().env_remove("A=B"), new()), "the name of a variable"),
        (std::mem::replace(new().current_dir("a\0b"), new()), "the directory"),
        (std::mem::replace(new().current_dir(""), new()), "the directory"),
    ] {
        let error = command.output().await.unwrap_err();
        assert!(matches!(&error, Error::Invalid { what, .. } if *what == said), "{error}");
        assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::InvalidInput);
    }
}

async fn an_inherited_variable_can_be_removed() {
    std::env::set_var("PROTON_CLIENT_INHERITED", "inherited");
    let script = "echo ${PROTON_CLIENT_INHERITED-unset} ${GIVEN-unset}";
    let said = |change: fn(&mut Command) -> &mut Command| async move {
        let mut command = Command::new("sh");
        change(command.args(["-c", script]));
        String::from_utf8(command.output().await.unwrap().stdout).unwrap()
    };
    assert_eq!(said(|command| command).await, "inherited unset\n");
    let removed = said(|command| command.env_remove("PROTON_CLIENT_INHERITED")).await;
    assert_eq!(removed, "unset unset\n");
    let cleared = said(|command| command.env("GIVEN", "1").env_clear().env("GIVEN", "2"));
    assert_eq!(cleared.await, "unset 2\n");
    let last = said(|command| command.env_remove("GIVEN").env("GIVEN", "3")).await;
    assert_eq!(last, "inherited 3\n");
}

async fn a_relative_path_counts_from_the_programs_directory() {
    let directory = Directory::new("relative");
    let below = directory.0.join("below");
    std::fs::create_dir(&below).unwrap();
    for (place, says) in [(&directory.0, "above"), (&below, "below")] {
        let program = place.join("program");
        std::fs::write(&program, format!("#!/bin/sh\necho {says} $0\n")).unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .unwrap();
    }
    let said = |command: &mut Command| {
        let command = std::mem::replace(command, Command::new(""));
        async move {
            let mut command = command;
            String::from_utf8(command.output().await.unwrap().stdout).unwrap()
        }
    };
    // The directory is this process's as it is at the start, not when the nursery began.
    let _ = Command::new("true").status().await.unwrap();
    std::env::set_current_dir(&directory.0).unwrap();
    assert_eq!(said(&mut Command::new("./program")).await, "above ./program\n");
    assert_eq!(said(&mut Command::new("below/program")).await, "below below/program\n");
    assert_eq!(said(Command::new("./program").current_dir("below")).await, "below ./program\n");
    assert_eq!(said(Command::new("../program").current_dir("below")).await, "above ../program\n");
    // A name is looked up in the program's own PATH.
    let mut command = Command::new("program");
    command.env("PATH", "/usr/bin:/bin:.").current_dir("below");
    assert_eq!(said(&mut command).await.split(' ').next(), Some("below"));
    let error = Command::new("program").output().await.unwrap_err();
    assert_eq!((error.step(), error.errno()), (Some(Step::Exec), Some(2)));
}

async fn an_id_that_means_no_change_is_refused() {
    if !is_root() {
        return;
    }
    // To setresuid(2) and its like this is -1.
    for (options, step) in [
        (Options::new().user(u32::MAX), Step::User),
        (Options::new().user("nobody").group(u32::MAX), Step::Group),
        (Options::new().user("nobody").groups([1, u32::MAX]), Step::Groups),
    ] {
        let options = options.current_dir("/").start_timeout(Duration::from_secs(20));
        let error = ProtonStream::open("id", ["-u"], options).await.unwrap_err();
        assert_eq!(error.step(), Some(step), "{error}");
    }
}
