// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Plain streams, as with `tokio::process`.

use proton_stream::{Command, Reason, Signal, Stdio, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{cases, eventually, soon, Case, Tag};

pub(crate) const CASES: &[Case] = cases![
    output_gathers_both_streams_and_the_exit,
    a_child_is_written_to_and_read_from,
    wait_can_be_repeated_and_dropped,
    wait_closes_stdin,
    a_kill_is_a_kill_of_the_whole_tree,
    a_kill_does_not_wait_for_a_reader_and_leaves_what_was_written,
    a_dropped_stdout_does_not_block_the_program,
    who_writes_what_nobody_reads_gets_sigpipe,
    a_stream_that_is_dropped_leaves_the_other,
    a_child_that_is_let_go_cuts_its_streams,
    a_command_of_std_is_taken_over,
    a_command_can_be_spawned_again,
    a_file_is_the_programs_own_and_its_flags_stay,
    what_is_inherited_is_the_same_open_file,
    a_pipe_between_two_programs_needs_nobody_in_between,
    only_stderr_can_be_the_same_as_stdout,
];

async fn output_gathers_both_streams_and_the_exit() {
    let output = Command::new("sh")
        .args(["-c", "head -c 1000000 /dev/zero; echo error >&2; cat; exit 4"])
        .output()
        .await
        .unwrap();
    assert_eq!((output.stdout.len(), &output.stderr[..]), (1_000_000, &b"error\n"[..]));
    assert_eq!(output.exit.status().unwrap().code(), Some(4));
}

async fn a_child_is_written_to_and_read_from() {
    let mut child =
        Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().await.unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    assert!(child.stderr.is_none());
    let all: Vec<u8> = (0..4 << 20).map(|index: u32| (index % 253) as u8).collect();
    let sent = all.clone();
    let writer = tokio::spawn(async move {
        stdin.write_all(&sent).await.unwrap();
        stdin.flush().await.unwrap();
        stdin.shutdown().await.unwrap();
    });
    let mut read = Vec::new();
    soon("all of it", stdout.read_to_end(&mut read)).await.unwrap();
    writer.await.unwrap();
    assert!(read == all);
    assert!(soon("the end", child.wait()).await.unwrap().success());
}

async fn wait_can_be_repeated_and_dropped() {
    let mut child = Command::new("sh")
        .args(["-c", "read x; exit 6"])
        .stdin(Stdio::piped())
        .spawn()
        .await
        .unwrap();
    let stdin = child.stdin.take();
    assert_eq!(child.try_wait().unwrap(), None);
    for _ in 0..5 {
        tokio::select! {
            biased;
            _ = child.wait() => panic!("it has not ended"),
            () = tokio::task::yield_now() => {}
        }
    }
    drop(stdin);
    let exit = soon("the end", child.wait()).await.unwrap();
    assert_eq!(exit.code(), Some(6));
    assert_eq!(child.wait().await.unwrap(), exit);
    assert_eq!(child.try_wait().unwrap(), Some(exit));
    assert_eq!(child.id(), None);
}

async fn wait_closes_stdin() {
    let mut child =
        Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().await.unwrap();
    assert!(soon("the end", child.wait()).await.unwrap().success());
}

async fn a_kill_is_a_kill_of_the_whole_tree() {
    let tag = Tag::new();
    let mut child = Command::new("sh")
        .args(["-c", "trap '' TERM; (trap '' TERM; sleep 60) & sleep 60"])
        .with(|_| tag.options())
        .spawn()
        .await
        .unwrap();
    eventually("all run", || tag.alive().len() >= 3).await;
    let exit = soon("the end", child.kill()).await.unwrap();
    assert_eq!(exit.reason(), &Reason::Signal(Signal::KILL));
    assert_eq!(tag.alive(), []);
}

async fn a_kill_does_not_wait_for_a_reader_and_leaves_what_was_written() {
    for window in [1, 262_144, 0x7fff_ffff] {
        let mut child = Command::new("yes")
            .with(|options| options.window(window, window))
            .stdout(Stdio::piped())
            .spawn()
            .await
            .unwrap();
        let held = (window as usize).min(1_000_000);
        eventually("much is held", || child.info().held >= held).await;
        let exit = soon("the kill", child.kill()).await.unwrap();
        assert_eq!(exit.signal(), Some(Signal::KILL));
        let mut rest = Vec::new();
        child.stdout.take().unwrap().read_to_end(&mut rest).await.unwrap();
        assert!(rest.len() >= held && rest.starts_with(b"y\n"), "{}", rest.len());
    }
}

async fn a_dropped_stdout_does_not_block_the_program() {
    let mut child = Command::new("sh")
        .args(["-c", "head -c 3000000 /dev/zero; exit 5"])
        .stdout(Stdio::piped())
        .spawn()
        .await
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 100]).await.unwrap();
    drop(stdout);
    assert_eq!(soon("the end", child.wait()).await.unwrap().code(), Some(5));
}

async fn who_writes_what_nobody_reads_gets_sigpipe() {
    for script in ["exec yes", "exec yes >&2"] {
        // As it is dropped the window is full, or has just begun to fill.
        for is_full in [true, false] {
            let mut command = Command::new("sh");
            command.args(["-c", script]).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().await.unwrap();
            if is_full {
                eventually("a full window", || child.info().held == 262_144).await;
            }
            drop((child.stdout.take(), child.stderr.take()));
            let exit = soon("the end", child.wait()).await.unwrap();
            assert_eq!(exit.signal(), Some(Signal::PIPE), "{script}");
        }
    }
}

async fn a_stream_that_is_dropped_leaves_the_other() {
    let script = "trap '' PIPE; read x; echo out 2>/dev/null || echo refused >&2; exit 5";
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().await.unwrap();
    drop(child.stdout.take());
    child.stdin.as_mut().unwrap().write_all(b"go\n").await.unwrap();
    let output = soon("the end", child.wait_with_output()).await.unwrap();
    assert_eq!((&output.stderr[..], output.exit.code()), (&b"refused\n"[..], Some(5)));
}

async fn a_child_that_is_let_go_cuts_its_streams() {
    let mut child = Command::new("sh")
        .args(["-c", "echo begun; sleep 60"])
        .stdout(Stdio::piped())
        .spawn()
        .await
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 6]).await.unwrap();
    drop(child);
    let error = soon("the cut", stdout.read(&mut [0; 1])).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
}

async fn a_command_of_std_is_taken_over() {
    let mut std = std::process::Command::new("sh");
    std.args(["-c", "pwd; echo $A ${B-unset}"]).env("A", "a").env("B", "b").env_remove("B");
    std.current_dir("/usr");
    let output = Command::from(&std).output().await.unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "/usr\na unset\n");
}

async fn a_command_can_be_spawned_again() {
    let mut command = Command::new("true");
    for _ in 0..3 {
        assert!(command.status().await.unwrap().success());
    }
}

async fn a_file_is_the_programs_own_and_its_flags_stay() {
    for transport in [Transport::Nursery, Transport::Process] {
        let path = std::env::temp_dir().join(format!("proton-file-{}", std::process::id()));
        std::fs::write(&path, "from a file\n").unwrap();
        let input = std::fs::File::open(&path).unwrap();
        let output = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        let ours = output.try_clone().unwrap();
        let exit = Command::new("sh")
            .args(["-c", "read x; echo \"$x\" again; echo error >&2; exit 3"])
            .with(|options| options.transport(transport))
            .stdin(input)
            .stdout(output)
            .stderr(Stdio::same_as_stdout())
            .status()
            .await
            .unwrap();
        assert_eq!(exit.code(), Some(3));
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "from a file\nfrom a file again\nerror\n", "{transport:?}");
        let flags = rustix::fs::fcntl_getfl(&ours).unwrap();
        assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK), "{flags:?}");
        std::fs::remove_file(&path).unwrap();
    }
}

async fn what_is_inherited_is_the_same_open_file() {
    let output = Command::new("sh")
        .args(["-c", "readlink /proc/self/fd/0 /proc/self/fd/2"])
        .stdin(Stdio::inherit())
        .stderr(Stdio::inherit())
        .output()
        .await
        .unwrap();
    let link = |fd: u32| std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
    let expected = format!("{}\n{}\n", link(0).display(), link(2).display());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
}

async fn a_pipe_between_two_programs_needs_nobody_in_between() {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let mut seq = Command::new("seq").args(["1", "100000"]).stdout(writer).spawn().await.unwrap();
    let output = Command::new("wc").arg("-l").stdin(reader).output().await.unwrap();
    assert_eq!(output.stdout, b"100000\n");
    assert!(seq.wait().await.unwrap().success());
}

async fn only_stderr_can_be_the_same_as_stdout() {
    let refused = Command::new("true").stdin(Stdio::same_as_stdout()).status().await.unwrap_err();
    assert!(matches!(refused, proton_stream::Error::Invalid { .. }), "{refused}");
}
