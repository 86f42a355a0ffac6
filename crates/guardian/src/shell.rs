// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! The command for people in a shell: the same containment, the shell's own
//! stdin, stdout and stderr, whose flags are never touched.

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use proton_stream_containment::{
    become_guardian, start, Around, Error, Program, Released, Signals, Status, Step,
};
use rustix::event::PollFlags;
use rustix::process::{getpid, kill_process, Signal};

use crate::account;
use crate::arguments::{parse, Command, Request};
use crate::ending::{
    ends_a_guardian, Ending, SIGCHLD, SIGCONT, SIGSTOP, SIGTERM, SIGTSTP, SIGWINCH,
};
use crate::polling::{PollSet, Token};

/// What `env(1)` and `timeout(1)` say when it is they that failed.
const FAILED: u8 = 125;
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

pub(crate) fn main(arguments: Vec<OsString>) -> ExitCode {
    match parse(arguments) {
        Ok(Request::Run(command)) => match run(&command) {
            Ok(status) => ExitCode::from(status),
            Err(error) => fail(&format!("{error}")),
        },
        Ok(Request::Print(text)) => match std::io::stdout().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&format!("{error}")),
        },
        Err(error) => fail(&format!("{error}; see --help")),
    }
}

/// Says why, and gives the status for it.
pub(crate) fn fail(sentence: &str) -> ExitCode {
    complain(sentence);
    ExitCode::from(FAILED)
}

/// On stderr. Where that can't be written, nobody hears it, and the exit status stays what it is.
fn complain(sentence: &str) {
    let _ = writeln!(std::io::stderr(), "proton-guardian: {sentence}");
}

fn run(command: &Command) -> std::io::Result<u8> {
    let mut signals = become_guardian()?;
    let mut starting = match start(&command.specification, &Around::default()) {
        Ok(starting) => starting,
        Err(error) => return Ok(refused(&error)),
    };
    // What comes before the program runs is passed on when it does.
    let mut early = Vec::new();
    let refusal = loop {
        if let Some(outcome) = starting.outcome() {
            break outcome.err();
        }
        let mut set = PollSet::new(signals.as_fd());
        set.add(Token::Starting, starting.as_fd(), PollFlags::IN);
        set.poll(None)?;
        while let Some(received) = signals.next() {
            if !early.contains(&received.signal) {
                early.push(received.signal);
            }
        }
    };
    let mut contained = Contained {
        program: starting.into_program(),
        ending: None,
        kill_delay: command.kill_delay,
        wait_for_tree: command.wait_for_tree,
        report: command.report && refusal.is_none(),
    };
    for signal in early {
        contained.pass_on(signal);
    }
    let survivors = contained.watch(&mut signals)?;
    for pid in survivors {
        complain(&format!("process {pid} could not be killed"));
    }
    if let Some(error) = refusal {
        return Ok(refused(&error));
    }
    Ok(match contained.program.ended().map(|ended| ended.status) {
        Some(Status::Exited(status)) => status,
        Some(Status::Signalled { signal, .. }) => 128 + signal,
        None => FAILED,
    })
}

fn refused(error: &Error) -> u8 {
    complain(&error.to_string());
    match error.step {
        Step::Exec if error.errno == rustix::io::Errno::NOENT.raw_os_error() => NOT_FOUND,
        Step::Exec => NOT_EXECUTABLE,
        _ => FAILED,
    }
}

struct Contained {
    program: Program,
    ending: Option<Ending>,
    kill_delay: Duration,
    wait_for_tree: bool,
    report: bool,
}

impl Contained {
    fn end(&mut self, first: i32) {
        if self.ending.is_none() {
            let now = Instant::now();
            self.ending = Some(Ending::begin(&mut self.program, first, self.kill_delay, now));
        }
    }

    /// Until nothing is left, or nothing that can be killed: that is returned.
    fn watch(&mut self, signals: &mut Signals) -> std::io::Result<Vec<u32>> {
        loop {
            let reaped = self.program.reap();
            if reaped.alone {
                break;
            }
            if self.program.ended().is_some() && !self.wait_for_tree {
                self.end(SIGTERM);
            }
            if let Some(ending) = &mut self.ending {
                ending.advance(&mut self.program, reaped.deaths, Instant::now());
                if ending.has_given_up() {
                    break;
                }
            }
            let deadline = self.ending.as_ref().and_then(Ending::deadline);
            let mut set = PollSet::new(signals.as_fd());
            if let Some(end) = self.program.descriptor() {
                set.add(Token::Program, end, PollFlags::IN);
            }
            set.poll(deadline)?;
            while let Some(received) = signals.next() {
                self.pass_on(received.signal);
            }
        }
        self.account();
        self.release(signals)?;
        Ok(self.program.survivors())
    }

    /// What can be known of its group only while that is there.
    fn account(&self) {
        if self.report {
            account::lines(&self.program).iter().for_each(|line| complain(line));
        } else if self.program.oom_killed() {
            complain("memory ran out in the control group, and the kernel killed for it");
        }
    }

    fn pass_on(&mut self, signal: i32) {
        match signal {
            SIGCHLD => {}
            SIGTSTP => {
                // The program may have a handler. Its default does nothing in a
                // group without a shell of its own session (setpgid(2), orphaned
                // process groups), so what is still running is stopped.
                self.program.signal_tree(SIGTSTP);
                self.program.signal_tree(SIGSTOP);
                // It can't fail: the process exists and is ours.
                let _ = kill_process(getpid(), Signal::STOP);
            }
            SIGCONT | SIGWINCH => self.program.signal_tree(signal),
            other if ends_a_guardian(other) => self.end(other),
            _ => {}
        }
    }

    fn release(&mut self, signals: &mut Signals) -> std::io::Result<()> {
        let give_up = Instant::now() + Duration::from_secs(2);
        loop {
            match self.program.release() {
                Released::Done => return Ok(()),
                Released::Retry if Instant::now() < give_up => {
                    // Nothing is left that a signal could be passed on to.
                    while signals.next().is_some() {}
                    let soon = Instant::now() + Duration::from_millis(1);
                    PollSet::new(signals.as_fd()).poll(Some(soon))?;
                }
                Released::Retry => {
                    complain("the control group is still busy and stays");
                    return Ok(());
                }
                Released::Failed(path, errno) => {
                    let error = std::io::Error::from_raw_os_error(errno);
                    let path = path.escape_ascii();
                    complain(&format!("the control group {path} stays: {error}"));
                    return Ok(());
                }
            }
        }
    }
}
