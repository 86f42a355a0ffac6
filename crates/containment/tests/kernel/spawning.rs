// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Starting programs, and not starting them.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use proton_stream_containment::{Around, Rlimit, Specification, Status, Stdio as Stream, Step};

use crate::host::{bytes, cases, eventually, is_alive, program, read_all, sh, Host};

cases! {
    Plain every_exit_status_is_reported_as_it_was;
    Plain a_signal_is_reported_as_a_signal;
    Plain bytes_go_through_unchanged;
    Plain standard_error_can_be_standard_output;
    Plain null_streams_are_empty;
    Plain inherited_streams_are_the_callers_own;
    Plain the_ends_of_the_program_block;
    Plain a_missing_program_is_enoent;
    Plain a_file_that_may_not_be_executed_is_eacces;
    Plain a_script_without_an_interpreter_line_is_enoexec;
    Plain too_many_arguments_are_e2big;
    Plain a_missing_directory_is_told_with_its_path;
    Plain an_unknown_user_starts_nothing;
    Plain a_nul_byte_in_an_argument_starts_nothing;
    Plain a_program_is_found_in_the_path_it_will_see_from_the_directory_it_will_have;
    Plain a_forbidden_file_early_in_the_path_does_not_hide_a_later_one;
    Plain ignored_and_blocked_signals_and_descriptors_do_not_reach_the_program;
    Plain without_close_range_no_descriptor_reaches_the_program_either;
    Plain a_program_leads_its_own_session;
    Plain a_killed_guardian_takes_its_program_with_it;
    Plain attributes_of_the_process_are_those_asked_for;
    Plain an_impossible_limit_fails_the_start_by_its_name;
    Plain signals_reach_the_program_until_it_was_collected;
    Plain a_program_killed_before_its_exec_was_not_started;
    Plain a_signal_to_the_guardian_is_told_with_its_sender;
    Plain a_process_with_threads_is_no_guardian;
}

fn every_exit_status_is_reported_as_it_was() {
    let mut host = Host::new();
    for code in [0, 1, 2, 126, 127, 128, 129, 137, 200, 255] {
        let ran = host.run(&sh(&format!("exit {code}")));
        assert_eq!(ran.ended.status, Status::Exited(code));
    }
}

fn a_signal_is_reported_as_a_signal() {
    let mut host = Host::new();
    for signal in [1, 2, 9, 13, 15, 34, 64] {
        let ran = host.run(&sh(&format!("kill -{signal} $$")));
        assert_eq!(ran.ended.status, Status::Signalled { signal, core: false });
    }
}

fn bytes_go_through_unchanged() {
    let mut host = Host::new();
    let mut running = host.start(&program("cat", &[]));
    let all: Vec<u8> = (0..=255).cycle().take(10_000).collect();
    let stdin = running.pipes.stdin.take().expect("stdin");
    fs::File::from(stdin).write_all(&all).expect("room in the pipe");
    let stdout = fs::File::from(running.pipes.stdout.take().expect("stdout"));
    let mut got = Vec::new();
    eventually("everything comes back", || {
        let _ = std::io::Read::read_to_end(&mut &stdout, &mut got);
        got.len() >= all.len()
    });
    assert_eq!(got, all);
    host.end(&mut running.program);
}

fn standard_error_can_be_standard_output() {
    let mut host = Host::new();
    let mut spec = sh("echo a; echo b >&2; echo c");
    spec.stdio = [Stream::Null, Stream::Piped, Stream::SameAsStdout];
    let ran = host.run(&spec);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("a\nb\nc\n", ""));
    spec.stdio = [Stream::SameAsStdout, Stream::Piped, Stream::Piped];
    assert_eq!(host.refused(&spec).step, Step::Specification);
}

fn null_streams_are_empty() {
    let mut host = Host::new();
    let mut spec = sh("readlink /proc/$$/fd/0 /proc/$$/fd/2");
    spec.stdio = [Stream::Null, Stream::Piped, Stream::Null];
    assert_eq!(host.output(&spec), "/dev/null\n/dev/null\n");
}

fn inherited_streams_are_the_callers_own() {
    let me = std::env::current_exe().expect("this executable");
    let output = Command::new(me)
        .args(["--helper", "inherit", "echo out; echo err >&2; readlink /proc/$$/fd/0"])
        .stdin(Stdio::null())
        .output()
        .expect("the helper");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "out\n/dev/null\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "err\n");
}

fn the_ends_of_the_program_block() {
    let mut host = Host::new();
    let spec = sh("grep -h flags /proc/self/fdinfo/0 /proc/self/fdinfo/1 /proc/self/fdinfo/2");
    let output = host.output(&spec);
    for flags in output.lines().map(|line| line.split_whitespace().last().expect("flags")) {
        let flags = i32::from_str_radix(flags, 8).expect("octal");
        assert_eq!(flags & libc::O_NONBLOCK, 0, "{output}");
    }
    assert_eq!(output.lines().count(), 3);
}

fn a_missing_program_is_enoent() {
    let mut host = Host::new();
    for name in ["/nonexistent/program", "no-such-program-anywhere", "./none"] {
        let error = host.refused(&program(name, &[]));
        assert_eq!((error.step, error.errno), (Step::Exec, libc::ENOENT));
        assert_eq!(error.detail, name.as_bytes());
    }
}

struct Files(PathBuf);

impl Files {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("proton-spawning-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    fn write(&self, name: &str, content: &str, mode: u32) -> String {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(&path, content).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode");
        path.to_str().expect("text").to_owned()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn a_file_that_may_not_be_executed_is_eacces() {
    let files = Files::new();
    let mut host = Host::new();
    let path = files.write("plain", "#!/bin/sh\n", 0o644);
    let error = host.refused(&program(&path, &[]));
    assert_eq!((error.step, error.errno), (Step::Exec, libc::EACCES));
}

fn a_script_without_an_interpreter_line_is_enoexec() {
    let files = Files::new();
    let mut host = Host::new();
    let path = files.write("script", "echo hello\n", 0o755);
    let error = host.refused(&program(&path, &[]));
    assert_eq!((error.step, error.errno), (Step::Exec, libc::ENOEXEC));
}

fn too_many_arguments_are_e2big() {
    let mut host = Host::new();
    let mut spec = program("/bin/true", &[]);
    spec.arguments = vec![vec![b'x'; 200_000]];
    let error = host.refused(&spec);
    assert_eq!((error.step, error.errno), (Step::Exec, libc::E2BIG));
}

fn a_missing_directory_is_told_with_its_path() {
    let mut host = Host::new();
    let mut spec = program("/bin/true", &[]);
    spec.directory = Some(b"/nonexistent/directory".to_vec());
    let error = host.refused(&spec);
    assert_eq!((error.step, error.errno), (Step::Directory, libc::ENOENT));
    assert_eq!(error.detail, b"/nonexistent/directory");
}

fn an_unknown_user_starts_nothing() {
    let mut host = Host::new();
    let mut spec = program("/bin/true", &[]);
    spec.user = Some(b"nobdy".to_vec());
    let error = host.refused(&spec);
    assert_eq!((error.step, error.errno), (Step::User, 0));
    assert!(error.to_string().contains("no such user"), "{error}");
}

fn a_nul_byte_in_an_argument_starts_nothing() {
    let mut host = Host::new();
    let error = host.refused(&program("/bin/echo", &["a\0b"]));
    assert_eq!((error.step, error.errno), (Step::Specification, 0));
}

fn a_program_is_found_in_the_path_it_will_see_from_the_directory_it_will_have() {
    let files = Files::new();
    let mut host = Host::new();
    files.write("bin/proton-test-tool", "#!/bin/sh\necho found $0\n", 0o755);
    let mut spec = program("proton-test-tool", &[]);
    spec.directory = Some(files.0.as_os_str().as_encoded_bytes().to_vec());
    spec.inherited = b"PATH=/usr/bin:/bin".to_vec();
    spec.set = bytes(&["PATH=/nonexistent:bin:/bin"]);
    assert_eq!(host.output(&spec), "found bin/proton-test-tool\n");
    spec.set.clear();
    assert_eq!(host.refused(&spec).errno, libc::ENOENT);
    spec.directory = Some(files.0.join("bin").as_os_str().as_encoded_bytes().to_vec());
    spec.set = bytes(&["PATH=/nonexistent:"]);
    assert!(host.output(&spec).starts_with("found "));
}

fn a_forbidden_file_early_in_the_path_does_not_hide_a_later_one() {
    let files = Files::new();
    let mut host = Host::new();
    files.write("first/proton-test-tool", "#!/bin/sh\necho first\n", 0o644);
    files.write("second/proton-test-tool", "#!/bin/sh\necho second\n", 0o755);
    let mut spec = program("proton-test-tool", &[]);
    let root = files.0.to_str().expect("text");
    spec.set = bytes(&[&format!("PATH={root}/first:{root}/second")]);
    assert_eq!(host.output(&spec), "second\n");
    spec.set = bytes(&[&format!("PATH={root}/first:/nonexistent")]);
    assert_eq!(host.refused(&spec).errno, libc::EACCES);
}

fn ignored_and_blocked_signals_and_descriptors_do_not_reach_the_program() {
    let me = std::env::current_exe().expect("this executable");
    let dirty = |arguments: &[&str]| {
        let output = Command::new("/bin/sh")
            .args(["-c", "exec 7</dev/null 9</etc/passwd; exec \"$@\"", "sh"])
            .args(["env", "--ignore-signal", "--block-signal"])
            .arg(&me)
            .args(["--helper", "run"])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("the helper");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let status = dirty(&["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"]);
    let masks: Vec<&str> = status.split_whitespace().filter(|word| !word.ends_with(':')).collect();
    assert_eq!(masks, ["0000000000000000"; 2], "{status}");
    // 3 is the directory that ls reads.
    assert_eq!(dirty(&["ls", "/proc/self/fd"]), "0\n1\n2\n3\n");
}

fn without_close_range_no_descriptor_reaches_the_program_either() {
    for place in ["here", "apart"] {
        let output = Command::new("/bin/sh")
            .args(["-c", "exec 7</dev/null 9</etc/passwd; exec \"$@\"", "sh"])
            .arg(std::env::current_exe().expect("this executable"))
            .args(["--helper", "run-as-of-old", place, "ls", "/proc/self/fd"])
            .stdin(Stdio::null())
            .output()
            .expect("the helper");
        // 3 is the directory that ls reads.
        let seen = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(seen, "0\n1\n2\n3\n", "{place}: {output:?}");
    }
}

fn a_program_leads_its_own_session() {
    let mut host = Host::new();
    let mut running = host.start(&program("cut", &["-d ", "-f1,4,5,6", "/proc/self/stat"]));
    let pid = running.program.pid().expect("its pid");
    let me = std::process::id();
    let line = read_all(running.pipes.stdout.take());
    assert_eq!(line, format!("{pid} {me} {pid} {pid}\n"));
    host.wait(&mut running.program);
    host.end(&mut running.program);
}

fn a_killed_guardian_takes_its_program_with_it() {
    let me = std::env::current_exe().expect("this executable");
    let mut guardian = Command::new(me)
        .args(["--helper", "hold", "echo $$; exec sleep 60"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the helper");
    let mut line = String::new();
    let mut output = std::io::BufReader::new(guardian.stdout.take().expect("piped"));
    std::io::BufRead::read_line(&mut output, &mut line).expect("a pid");
    let pid: u32 = line.trim().parse().expect("a pid");
    assert!(is_alive(pid));
    guardian.kill().expect("our own child");
    guardian.wait().expect("our own child");
    eventually("the program is dead", || !is_alive(pid));
}

fn limit(name: &str, value: u64) -> Rlimit {
    Rlimit { name: name.into(), soft: Some(value), hard: Some(value) }
}

fn attributes_of_the_process_are_those_asked_for() {
    let mut host = Host::new();
    let spec = Specification {
        umask: Some(0o027),
        nice: Some(7),
        rlimits: vec![limit("nofile", 40), limit("core", 0)],
        oom_score_adj: Some(500),
        no_new_privs: true,
        ..sh("umask; ulimit -n; ulimit -c; cat /proc/self/oom_score_adj; nice; \
              grep NoNewPrivs /proc/self/status")
    };
    assert_eq!(host.output(&spec), "0027\n40\n0\n500\n7\nNoNewPrivs:\t1\n");
}

fn an_impossible_limit_fails_the_start_by_its_name() {
    let mut host = Host::new();
    let mut spec = program("/bin/true", &[]);
    spec.rlimits =
        vec![limit("core", 0), Rlimit { name: b"nofile".to_vec(), soft: Some(50), hard: Some(40) }];
    let error = host.refused(&spec);
    assert_eq!((error.step, error.errno), (Step::Process, libc::EINVAL));
    assert_eq!(error.detail, b"rlimit nofile");
}

fn signals_reach_the_program_until_it_was_collected() {
    let mut host = Host::new();
    let mut running =
        host.start(&sh("trap 'echo got; exit 3' USR1; echo ready; while :; do sleep 0.01; done"));
    assert_eq!(running.lines(1), ["ready"]);
    for bad in [0, -1, 65] {
        assert!(running.program.signal(bad).is_err(), "{bad}");
    }
    assert!(running.program.signal(libc::SIGUSR1).expect("sent"));
    assert_eq!(read_all(running.pipes.stdout.take()), "got\n");
    assert_eq!(host.wait(&mut running.program).status, Status::Exited(3));
    assert_eq!(running.program.pid(), None);
    assert!(!running.program.signal(libc::SIGUSR1).expect("no error"));
    host.end(&mut running.program);
}

fn a_program_killed_before_its_exec_was_not_started() {
    // Nothing holds an exec up for certain, so it is a race, run until the kill was quicker once.
    let mut host = Host::new();
    let mut quicker = 0;
    for _ in 0..200 {
        let mut starting =
            proton_stream_containment::start(&program("/bin/true", &[]), &Around::default())
                .expect("forked");
        let pid = starting.pid().expect("our own child");
        let mut outcome = None;
        let killed = rustix::process::Pid::from_raw(pid.try_into().expect("a pid")).expect("a pid");
        assert!(pid > 1);
        rustix::process::kill_process(killed, rustix::process::Signal::KILL)
            .expect("our own child");
        eventually("the outcome is known", || {
            outcome = starting.outcome();
            outcome.is_some()
        });
        if let Some(Err(error)) = outcome {
            assert_eq!((error.step, error.errno), (Step::Exec, libc::EINTR));
            quicker += 1;
        }
        let mut program = starting.into_program();
        host.end(&mut program);
    }
    assert!(quicker > 0, "the kill was never quicker than the exec");
}

fn a_signal_to_the_guardian_is_told_with_its_sender() {
    let mut host = Host::new();
    for (name, number) in
        [("HUP", 1), ("INT", 2), ("QUIT", 3), ("USR1", 10), ("USR2", 12), ("TERM", 15)]
    {
        let mut running = host.start(&sh(&format!("kill -{name} $PPID; read line")));
        let sender = running.program.pid();
        eventually("it arrives", || {
            let received = host.signals.next();
            received.is_some_and(|got| got.signal == number && got.sender == sender)
        });
        host.end(&mut running.program);
    }
}

fn a_process_with_threads_is_no_guardian() {
    let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
    let thread = std::thread::spawn(move || std::io::read_to_string(fs::File::from(reader)));
    let error = proton_stream_containment::become_guardian().expect_err("refused");
    assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
    drop(writer);
    thread.join().expect("the thread").expect("the end");
    assert!(proton_stream_containment::become_guardian().is_ok());
}
