// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! A small guardian for the cases.

use std::ffi::CString;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use proton_stream_containment::cgroup::{Place, Request};
use proton_stream_containment::{
    become_guardian, start, Ahead, Around, Ended, Error, Pipes, Program, Released, Signals,
    Specification, Starting, Status, Stdio,
};
use rustix::event::{poll, PollFd, PollFlags, Timespec};

use super::How;
use crate::bases::inside;
use crate::counting::limit;

/// In the environment of a case, whose starts find made what can be made ahead.
pub(crate) const AHEAD: &str = "PROTON_KERNEL_AHEAD";

/// One case.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) how: How,
    pub(crate) run: fn(),
}

/// A table of cases by their functions' names.
macro_rules! cases {
    ($($how:ident $name:ident;)*) => {
        pub(crate) const CASES: &[$crate::Case] = &[$($crate::Case {
            name: stringify!($name),
            how: $crate::How::$how,
            run: $name,
        }),*];
    };
}
pub(crate) use cases;

/// Waits until something is so.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| {
        let state = stat.rsplit(')').next().unwrap_or("").trim_start().chars().next();
        !matches!(state, None | Some('Z' | 'X'))
    })
}

pub(crate) fn bytes(list: &[&str]) -> Vec<Vec<u8>> {
    list.iter().map(|text| text.as_bytes().to_vec()).collect()
}

pub(crate) fn program(path: &str, arguments: &[&str]) -> Specification {
    Specification { program: path.into(), arguments: bytes(arguments), ..Default::default() }
}

pub(crate) fn sh(script: &str) -> Specification {
    program("/bin/sh", &["-c", script])
}

/// The same program in a PID namespace.
pub(crate) fn apart(spec: Specification) -> Specification {
    Specification { pid_namespace: true, ..spec }
}

/// A guardian and what it has.
pub(crate) struct Host {
    pub(crate) signals: Signals,
    /// For one start after the other.
    pub(crate) ahead: Ahead,
}

/// A program that is running.
pub(crate) struct Running {
    pub(crate) program: Program,
    pub(crate) pipes: Pipes,
}

/// A program that has ended.
pub(crate) struct Ran {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) ended: Ended,
}

fn wait_for(fd: impl AsFd, flags: PollFlags, milliseconds: i64) -> bool {
    let mut fds = [PollFd::new(&fd, flags)];
    let time = Timespec { tv_sec: milliseconds / 1000, tv_nsec: (milliseconds % 1000) * 1_000_000 };
    matches!(poll(&mut fds, Some(&time)), Ok(1))
}

pub(crate) fn read_all(fd: Option<OwnedFd>) -> String {
    let Some(fd) = fd else { return String::new() };
    let mut file = std::fs::File::from(fd);
    let mut all = Vec::new();
    loop {
        assert!(wait_for(&file, PollFlags::IN, 20_000), "no end of output");
        match file.read_to_end(&mut all) {
            Ok(_) => return String::from_utf8_lossy(&all).into_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => panic!("reading: {error}"),
        }
    }
}

impl Host {
    pub(crate) fn new() -> Self {
        Self { signals: become_guardian().expect("a guardian"), ahead: Ahead::default() }
    }

    /// What is made ahead is there when a case runs with it, or when it has filled it.
    pub(crate) fn begin(&mut self, spec: &Specification) -> Result<Starting, Error> {
        if std::env::var_os(AHEAD).is_some() {
            self.ahead.fill();
        }
        let here = std::env::current_dir().expect("a directory").into_os_string();
        let here = CString::new(here.into_encoded_bytes()).expect("a path");
        let ahead = Some(&self.ahead);
        let starting = start(spec, &Around { ahead, base: Some(&here), ..Around::default() });
        self.ahead.clear();
        starting
    }

    fn wait_for_exec(starting: &mut Starting) -> Result<(), Error> {
        loop {
            assert!(wait_for(&*starting, PollFlags::IN, 20_000), "no report");
            if let Some(outcome) = starting.outcome() {
                return outcome;
            }
        }
    }

    pub(crate) fn start(&mut self, spec: &Specification) -> Running {
        let mut starting = self.begin(spec).expect("forked");
        Self::wait_for_exec(&mut starting).expect("executed");
        let mut program = starting.into_program();
        let pipes = program.take_pipes();
        Running { program, pipes }
    }

    /// Why a program was not started; nothing of it is left.
    pub(crate) fn refused(&mut self, spec: &Specification) -> Error {
        let mut starting = match self.begin(spec) {
            Ok(starting) => starting,
            Err(error) => return error,
        };
        let error = Self::wait_for_exec(&mut starting).expect_err("it must not start");
        let mut program = starting.into_program();
        self.end(&mut program);
        error
    }

    /// Kills what is left, collects it, and removes the cgroup. Tells how many there were.
    pub(crate) fn end(&mut self, program: &mut Program) -> usize {
        let mut deaths = 0;
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            program.kill_tree();
            let reaped = program.reap();
            deaths += reaped.deaths;
            if reaped.alone {
                break;
            }
            assert!(Instant::now() < deadline, "still there: {:?}", program.survivors());
            wait_for(&self.signals, PollFlags::IN, 5);
            while self.signals.next().is_some() {}
        }
        assert_eq!(program.survivors(), []);
        eventually("the cgroup is removed", || match program.release() {
            Released::Done => true,
            Released::Retry => false,
            Released::Failed(path, errno) => {
                panic!("{}: {errno}", String::from_utf8_lossy(&path))
            }
        });
        deaths
    }

    /// Waits for the program's own end; its descendants may live on.
    pub(crate) fn wait(&mut self, program: &mut Program) -> Ended {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            program.reap();
            if let Some(ended) = program.ended() {
                return *ended;
            }
            assert!(Instant::now() < deadline, "the program doesn't end");
            wait_for(&self.signals, PollFlags::IN, 100);
            while self.signals.next().is_some() {}
        }
    }

    pub(crate) fn run(&mut self, spec: &Specification) -> Ran {
        let Running { mut program, pipes } = self.start(spec);
        drop(pipes.stdin);
        let stdout = read_all(pipes.stdout);
        let stderr = read_all(pipes.stderr);
        let ended = self.wait(&mut program);
        self.end(&mut program);
        Ran { stdout, stderr, ended }
    }

    /// What a program prints that succeeds.
    pub(crate) fn output(&mut self, spec: &Specification) -> String {
        let ran = self.run(spec);
        assert_eq!(ran.ended.status, Status::Exited(0), "{}", ran.stderr);
        ran.stdout
    }
}

impl Running {
    /// The lines that the program prints, as many as asked for, without waiting for its end.
    pub(crate) fn lines(&mut self, count: usize) -> Vec<String> {
        let mut file = std::fs::File::from(self.pipes.stdout.take().expect("its stdout"));
        let mut all = Vec::new();
        let mut chunk = [0; 512];
        while all.iter().filter(|byte| **byte == b'\n').count() < count {
            assert!(wait_for(&file, PollFlags::IN, 20_000), "no line");
            match file.read(&mut chunk) {
                Ok(0) => panic!("the output ended"),
                Ok(length) => all.extend_from_slice(&chunk[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => panic!("reading: {error}"),
            }
        }
        self.pipes.stdout = Some(file.into());
        String::from_utf8_lossy(&all).lines().map(str::to_owned).collect()
    }

    /// Reads and forgets what is there, and tells how much.
    pub(crate) fn drain(&mut self) -> usize {
        let mut file = std::fs::File::from(self.pipes.stdout.take().expect("its stdout"));
        let mut all = Vec::new();
        let error = file.read_to_end(&mut all).expect_err("no end of it");
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        self.pipes.stdout = Some(file.into());
        all.len()
    }

    /// The pids that the program prints, one a line.
    pub(crate) fn pids(&mut self, count: usize) -> Vec<u32> {
        let lines = self.lines(count);
        lines.iter().map(|line| line.trim().parse().expect("a pid")).collect()
    }
}

/// What another process than the case's own has to do.
pub(crate) fn helper(name: &str, arguments: &[&str]) {
    let mut host = Host::new();
    match (name, arguments) {
        // Runs a program under the state that this process was started with.
        ("run", [program_path, rest @ ..]) => {
            print!("{}", host.output(&program(program_path, rest)));
        }
        // The same, as kernels have it that are older.
        ("run-as-of-old", [place, program_path, rest @ ..]) => {
            let spec = Specification { without_close_range: true, ..program(program_path, rest) };
            print!("{}", host.output(&if *place == "apart" { apart(spec) } else { spec }));
        }
        ("run-as-nobody", [program_path, rest @ ..]) => {
            let spec =
                Specification { user: Some(b"nobody".to_vec()), ..program(program_path, rest) };
            print!("{}", host.output(&spec));
        }
        // Runs a program as somebody, or says why not.
        ("as", [user]) => {
            let spec =
                Specification { user: Some(user.as_bytes().to_vec()), ..program("/bin/true", &[]) };
            match host.begin(&spec) {
                Err(error) => println!("{error}"),
                Ok(mut starting) => match Host::wait_for_exec(&mut starting) {
                    Ok(()) => println!("started"),
                    Err(error) => println!("{error}"),
                },
            }
        }
        // Says why a program is not run that wants what takes privilege.
        ("wish", [what, file]) => crate::attributes::refused(&mut host, what, file),
        // Runs a program in a group, or says why not.
        ("run-in", [kind, path, script]) => {
            let path = path.as_bytes().to_vec();
            let place = if *kind == "base" { Place::Base(path) } else { Place::Path(path) };
            let spec = inside(sh(script), &["memory", "cpu"], place, vec![]);
            match host.begin(&spec) {
                Ok(mut starting) => {
                    let outcome = Host::wait_for_exec(&mut starting);
                    let mut program = starting.into_program();
                    let pipes = program.take_pipes();
                    print!("{}", read_all(pipes.stdout));
                    host.end(&mut program);
                    if let Err(error) = outcome {
                        panic!("{error}");
                    }
                }
                Err(error) => panic!("{error}"),
            }
        }
        // Runs a program with limits and nothing else, or says why not.
        ("run-limited", [script]) => {
            let limits = vec![limit("pids", "20")];
            let cgroup = Request { limits, ..Request::default() };
            match host.begin(&Specification { cgroup, ..sh(script) }) {
                Ok(mut starting) => {
                    Host::wait_for_exec(&mut starting).expect("executed");
                    let mut program = starting.into_program();
                    print!("{}", read_all(program.take_pipes().stdout));
                    let stats = program.stats().expect("a group");
                    println!("limit {:?}", stats.pids_limit);
                    host.end(&mut program);
                }
                Err(error) => panic!("{error}"),
            }
        }
        // Begins to end a program, and takes its time.
        ("end-slowly", [path]) => {
            let place = Place::Path(path.as_bytes().to_vec());
            let script = sh("trap '' TERM; echo; while :; do sleep 1; done");
            let mut running = host.start(&inside(script, &["cpu", "pids"], place, vec![]));
            running.lines(1);
            running.program.signal_tree(libc::SIGTERM);
            println!("ending");
            // As a delay before SIGKILL would.
            std::thread::sleep(Duration::from_millis(300));
            host.end(&mut running.program);
        }
        // Starts and ends programs on one path, again and again, and is alone there each time.
        ("contend", [path, rounds]) => {
            let mut spec = inside(
                sh("read x"),
                &["cpu", "pids"],
                Place::Path(path.as_bytes().to_vec()),
                vec![],
            );
            spec.cgroup.wait = Duration::from_secs(20);
            for _ in 0..rounds.parse().expect("a number") {
                eventually("it is this one's turn", || match host.begin(&spec) {
                    Ok(starting) => {
                        let mut program = starting.into_program();
                        let group = crate::mount_of("cpu").join(path);
                        let inside_it = std::fs::read_dir(group).expect("the path").flatten();
                        let groups = inside_it.filter(|entry| entry.path().is_dir()).count();
                        host.end(&mut program);
                        assert_eq!(groups, 1);
                        true
                    }
                    // Another lives there.
                    Err(error) => {
                        assert_eq!(error.errno, libc::EBUSY, "{error}");
                        false
                    }
                });
            }
        }
        // Runs a program in a PID namespace.
        ("run-apart", [script]) => print!("{}", host.output(&apart(sh(script)))),
        // Says why a program is not run in one.
        ("refused-apart", [option]) => {
            let nobody = b"nobody".to_vec();
            let mut spec = apart(sh("exit"));
            match *option {
                "user" => spec.user = Some(nobody),
                "group" => spec.group = Some(b"nogroup".to_vec()),
                "groups" => spec.groups = Some(vec![b"nogroup".to_vec()]),
                _ => {}
            }
            println!("{}", host.refused(&spec));
        }
        // Holds a daemon, a program that ignores what it can, and a child of it.
        ("hold-apart", []) => {
            let script = "trap '' TERM HUP; setsid sh -c 'trap \"\" TERM HUP; sleep 300' & \
                          while :; do sleep 300; done";
            let running = host.start(&apart(sh(script)));
            let mut pids = Vec::new();
            eventually("all are there", || {
                pids = running.program.survivors();
                pids.len() >= 4
            });
            let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
            println!("{}", pids.join(" "));
            std::io::stdout().flush().expect("flushed");
            loop {
                wait_for(&host.signals, PollFlags::IN, 1000);
            }
        }
        // Has a process that waits for its start, until this one is killed.
        ("wait-ahead", []) => {
            host.ahead.fill();
            let children = format!("/proc/self/task/{}/children", std::process::id());
            println!("{}", std::fs::read_to_string(children).expect("our children"));
            std::io::stdout().flush().expect("flushed");
            loop {
                wait_for(&host.signals, PollFlags::IN, 1000);
            }
        }
        // A program that has this process's own streams.
        ("inherit", [script]) => {
            let spec = Specification { stdio: [Stdio::Inherit; 3], ..sh(script) };
            host.run(&spec);
        }
        // Holds a program, in a group or without, until it is killed itself.
        ("hold", [script, place @ ..]) => {
            let group = match place {
                ["base", path] => Some(Place::Base(path.as_bytes().to_vec())),
                ["path", path] => Some(Place::Path(path.as_bytes().to_vec())),
                _ => None,
            };
            let spec = match group {
                Some(place) => inside(sh(script), &["cpu", "pids"], place, vec![]),
                None => sh(script),
            };
            let mut running = host.start(&spec);
            println!("{}", running.lines(1).concat());
            std::io::stdout().flush().expect("flushed");
            loop {
                wait_for(&host.signals, PollFlags::IN, 1000);
            }
        }
        _ => panic!("no such helper: {name}"),
    }
}
