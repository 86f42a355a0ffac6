// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! A program that can't be started is an error of the call, and leaves nothing.

use std::path::Path;
use std::time::Duration;

use proton_stream::{Error, Options, ProtonStream, Step};
use rustix::process::Signal as Kernel;

use crate::support::{
    cases, descriptors, eventually, hear_until, is_root, is_stopped, kill, parent, sh, Case, Tag,
};

pub(crate) const CASES: &[Case] = cases![
    what_the_system_refuses_is_told_by_step_and_errno,
    what_can_not_be_is_refused_before_anything_is_started,
    a_start_that_takes_too_long_leaves_nothing,
    a_guardian_that_is_not_there_is_told_by_its_path,
    what_is_no_guardian_is_refused,
    a_failed_start_leaks_no_descriptor,
    a_stopped_nursery_is_passed_over,
    a_killed_nursery_is_started_anew_and_its_programs_go_on,
    a_nursery_outlives_the_runtime_that_started_it,
    the_program_sees_what_was_asked_for,
    attributes_reach_the_program,
    a_program_of_another_user_has_that_users_groups_and_home,
    everything_can_be_sent_to_another_thread,
];

async fn refused(program: &str, options: Options) -> Error {
    match ProtonStream::open(program, [] as [&str; 0], options).await {
        Ok(_) => panic!("{program} was started"),
        Err(error) => error,
    }
}

async fn what_the_system_refuses_is_told_by_step_and_errno() {
    let new = Options::new;
    for (error, step, errno, kind) in [
        (refused("no-such-program", new()).await, Step::Exec, 2, std::io::ErrorKind::NotFound),
        (refused("/etc/passwd", new()).await, Step::Exec, 13, std::io::ErrorKind::PermissionDenied),
        (
            refused("true", new().current_dir("/nowhere")).await,
            Step::Directory,
            2,
            std::io::ErrorKind::NotFound,
        ),
        (
            refused("true", new().user("no-such-user")).await,
            Step::User,
            0,
            std::io::ErrorKind::NotFound,
        ),
        (
            refused("true", new().group("no-such-group")).await,
            Step::Group,
            0,
            std::io::ErrorKind::NotFound,
        ),
    ] {
        assert_eq!((error.step(), error.errno().unwrap_or(0)), (Some(step), errno), "{error}");
        assert_eq!(std::io::Error::from(error).kind(), kind);
    }
    let much = vec!["x".repeat(100_000); 100];
    let error = ProtonStream::open("true", &much, new()).await.unwrap_err();
    assert_eq!((error.step(), error.errno()), (Some(Step::Exec), Some(7)), "{error}");
    let error = refused("no-such-program", new()).await;
    assert_eq!(
        error.to_string(),
        "the program can't be executed: no-such-program: No such file or directory (os error 2)"
    );
}

async fn what_can_not_be_is_refused_before_anything_is_started() {
    let error = refused("a\0b", Options::new()).await;
    assert!(matches!(error, Error::Invalid { .. }), "{error}");
    assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::InvalidInput);
    let error = refused("true", Options::new().limit("memory", "lots")).await;
    assert_eq!(error.step(), Some(Step::Specification), "{error}");
}

async fn a_start_that_takes_too_long_leaves_nothing() {
    let tag = Tag::new();
    for microseconds in [0, 10, 100, 200, 300, 400, 500, 700, 1000, 1500] {
        let timeout = Duration::from_micros(microseconds);
        let options = tag.options().start_timeout(timeout);
        match ProtonStream::open("sleep", ["60"], options).await {
            Ok(started) => drop(started),
            Err(Error::StartTimeout(told)) => assert_eq!(told, timeout),
            Err(other) => panic!("{other}"),
        }
    }
    tag.await_nobody("starts were given up").await;
}

async fn a_guardian_that_is_not_there_is_told_by_its_path() {
    let error = refused("true", Options::new().guardian("/nowhere/guardian")).await;
    assert!(
        matches!(&error, Error::Guardian { path, .. } if path == Path::new("/nowhere/guardian")),
        "{error}"
    );
    assert_eq!(error.errno(), Some(2));
}

async fn what_is_no_guardian_is_refused() {
    // It says nothing that is a frame, and ends.
    let error = refused("true", Options::new().guardian("/bin/echo")).await;
    assert!(matches!(error, Error::GuardianEnded(_)), "{error}");
    // It ends at once.
    let error = refused("true", Options::new().guardian("/bin/true")).await;
    assert!(matches!(error, Error::GuardianEnded(_)), "{error}");
}

async fn a_failed_start_leaks_no_descriptor() {
    refused("no-such-program", Options::new()).await;
    eventually("sockets are closed", || {
        let before = descriptors();
        std::thread::sleep(Duration::from_millis(20));
        descriptors() == before
    })
    .await;
    let before = descriptors();
    for _ in 0..50 {
        refused("no-such-program", Options::new()).await;
    }
    eventually("all sockets are closed", || descriptors() <= before).await;
}

async fn a_stopped_nursery_is_passed_over() {
    let (first, mut messages) = sh("echo ready; read x", Options::new()).await;
    hear_until(&mut messages, "ready\n").await;
    let nursery = parent(parent(first.os_pid().unwrap()));
    kill(nursery, Kernel::STOP);
    eventually("it is stopped", || is_stopped(nursery)).await;
    // Its guardians that wait do their work still; beyond those nobody answers.
    let mut others = Vec::new();
    let mut is_passed_over = false;
    for _ in 0..20 {
        let (ps, messages) = sh("read x", Options::new()).await;
        is_passed_over |= !ps.info().is_nursed;
        others.push((ps, messages));
        if is_passed_over {
            break;
        }
    }
    assert!(is_passed_over);
    kill(nursery, Kernel::CONT);
    for (ps, _) in &others {
        ps.close().await.unwrap();
    }
}

async fn a_killed_nursery_is_started_anew_and_its_programs_go_on() {
    let tag = Tag::new();
    let (first, mut messages) = sh("echo ready; read x; echo $x", tag.options()).await;
    hear_until(&mut messages, "ready\n").await;
    let nursery = parent(parent(first.os_pid().unwrap()));
    kill(nursery, Kernel::KILL);
    let mut others = Vec::new();
    eventually("there is another one", || !crate::support::is_alive(nursery)).await;
    for _ in 0..3 {
        let (ps, messages) = sh("echo ready; read x", tag.options()).await;
        others.push((ps, messages));
    }
    let (last, _) = others.last().unwrap();
    assert!(last.info().is_nursed);
    assert_ne!(parent(parent(last.os_pid().unwrap())), nursery);
    first.command("still here\n").unwrap();
    hear_until(&mut messages, "still here\n").await;
    drop((others, first, messages));
    tag.await_nobody("all were dropped").await;
}

async fn a_nursery_outlives_the_runtime_that_started_it() {
    let nursery_of_a_runtime = || {
        std::thread::spawn(|| {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (ps, mut messages) = sh("echo ready; read x", Options::new()).await;
                hear_until(&mut messages, "ready\n").await;
                parent(parent(ps.os_pid().unwrap()))
            })
        })
        .join()
        .unwrap()
    };
    let first = nursery_of_a_runtime();
    for _ in 0..10 {
        assert_eq!(nursery_of_a_runtime(), first);
    }
}

async fn the_program_sees_what_was_asked_for() {
    std::env::set_var("PROTON_CLIENT_INHERITED", "inherited");
    let script = "pwd; echo $0 $1; echo $PROTON_CLIENT_INHERITED; echo $GIVEN; echo ${GONE-unset}";
    let options = Options::new()
        .current_dir("/usr")
        .env("GIVEN", "given")
        .env("GONE", "here")
        .env_remove("GONE");
    let (_ps, mut messages) =
        ProtonStream::open("sh", ["-c", script, "name", "a b"], options).await.unwrap();
    let said = crate::support::hear_out(&mut messages).await;
    assert_eq!(
        String::from_utf8(said.stdout).unwrap(),
        "/usr\nname a b\ninherited\ngiven\nunset\n"
    );
}

async fn attributes_reach_the_program() {
    let script =
        "umask; nice; ulimit -n; grep NoNewPrivs /proc/self/status; cat /proc/self/oom_score_adj";
    let options = Options::new()
        .umask(0o027)
        .nice(3)
        .rlimit("nofile", Some(99), Some(99))
        .no_new_privs()
        .oom_score_adj(500);
    let (_ps, mut messages) = sh(script, options).await;
    let said = crate::support::hear_out(&mut messages).await;
    assert_eq!(String::from_utf8(said.stdout).unwrap(), "0027\n3\n99\nNoNewPrivs:\t1\n500\n");
}

async fn a_program_of_another_user_has_that_users_groups_and_home() {
    if !is_root() {
        return;
    }
    let script = "id -u; id -g; id -G; echo $USER; ls /proc/self/fd | wc -l";
    let told = |options: Options| async move {
        let (_ps, mut messages) = sh(script, options.current_dir("/")).await;
        String::from_utf8(crate::support::hear_out(&mut messages).await.stdout).unwrap()
    };
    let new = Options::new;
    // `ls` has opened the directory that it lists.
    assert_eq!(told(new().user("nobody")).await, "65534\n65534\n65534\nnobody\n4\n");
    assert_eq!(told(new().user(65534).group(1)).await, "65534\n1\n1\nnobody\n4\n");
    let none: [u32; 0] = [];
    let told = told(new().user("65534").groups(none)).await;
    assert_eq!(told, "65534\n65534\n65534\nnobody\n4\n");
}

async fn everything_can_be_sent_to_another_thread() {
    fn shared<T: Send + Sync>() {}
    fn sent<T: Send>(value: T) -> T {
        value
    }
    shared::<ProtonStream>();
    shared::<proton_stream::Messages>();
    shared::<proton_stream::Command>();
    shared::<proton_stream::Child>();
    shared::<Error>();
    let (ps, mut messages) =
        sent(ProtonStream::open("true", [] as [&str; 0], Options::new())).await.unwrap();
    drop(sent(messages.recv()));
    drop((sent(ps.write("x")), sent(ps.close()), sent(ps.stats()), sent(ps.freeze())));
    drop(sent(ps.update_limits([("pids", 1)])));
    let mut command = proton_stream::Command::new("true");
    drop(sent(command.spawn()));
    drop(sent(command.output()));
}
