// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! `proton-guardian nursery`: one process for each controller that forks a guardian for every
//! connection, adopts what a guardian that died has left, and kills it (PROTOCOL §10).
//!
//! It knows nothing of programs: a connection is its guardian's as soon as it has said its secret.
//! It waits for nobody but in its poll; a client that says nothing costs a descriptor for a while.

mod adoption;
mod control;
mod guard;
mod house;
mod records;

use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::time::Instant;

use proton_stream_containment::{
    become_guardian, collect, fork_guardian, signal_child, Change, Signals, Status,
};
use proton_stream_protocol::{Ending, FromNursery, Preamble, ToNursery};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::ending::{
    SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2,
};
use crate::shell::fail;
use adoption::Adoption;
use control::Control;
use guard::{guard, Announcements, Errand};
use house::House;
use records::Records;

pub(crate) fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("nursery: {error}")),
    }
}

fn run() -> std::io::Result<()> {
    let signals = become_guardian()?;
    let mut control = Control::take()?;
    let Some(charge) = control.charge()? else { return Ok(()) };
    let (report, announcements) = Announcements::new()?;
    let house = House::make(charge.controller, charge.secret)?;
    control.say(&FromNursery::Ready {
        package: proton_stream_protocol::PACKAGE_VERSION.as_bytes(),
        path: house.path(),
    });
    let mut nursery = Nursery {
        signals,
        control,
        controller: charge.controller,
        house: Some(house),
        report,
        announcements,
        records: Records::default(),
        adoption: Adoption::new(),
        is_dismissed: false,
    };
    while !nursery.is_finished() {
        nursery.turn()?;
    }
    Ok(())
}

struct Nursery {
    signals: Signals,
    control: Control,
    controller: u32,
    /// Where it listens, until the controller is gone.
    house: Option<House>,
    /// Over this guardians announce their cgroups.
    report: OwnedFd,
    announcements: Announcements,
    records: Records,
    adoption: Adoption,
    /// A signal has ended it. Its guardians go on.
    is_dismissed: bool,
}

/// Of these there is one each, before the connections that have yet to say their secret.
const SIGNALS: usize = 0;
const CONTROL_IN: usize = 1;
const CONTROL_OUT: usize = 2;
const ANNOUNCEMENTS: usize = 3;
const LISTENER: usize = 4;
const FIRST_CONNECTION: usize = 5;

impl Nursery {
    fn is_finished(&self) -> bool {
        self.is_dismissed
            || self.house.is_none() && self.records.is_empty() && self.adoption.is_idle()
    }

    fn turn(&mut self) -> std::io::Result<()> {
        let found = self.poll()?;
        let is_found = |index: usize| found.get(index).is_some_and(|flags| !flags.is_empty());
        let now = Instant::now();
        // What a guardian announced before it died is read before its death is looked at.
        if is_found(ANNOUNCEMENTS) || is_found(SIGNALS) {
            for (run, path) in self.announcements.read() {
                self.records.set_group(run, path);
            }
        }
        if is_found(SIGNALS) {
            self.hear_signals(now);
        }
        if is_found(CONTROL_IN) {
            self.hear_controller();
        }
        if is_found(CONTROL_OUT) {
            self.control.flush();
        }
        if let Some(house) = &mut self.house {
            house.hear(&found[FIRST_CONNECTION.min(found.len())..], now);
            if is_found(LISTENER) {
                house.accept(now);
            }
        }
        while let Some((connection, preamble)) = self.house.as_mut().and_then(House::admit) {
            self.fork(connection, preamble);
        }
        for died in self.adoption.advance(&self.records, now) {
            self.control.say(&died);
        }
        Ok(())
    }

    fn poll(&self) -> std::io::Result<Vec<PollFlags>> {
        let none = PollFlags::empty();
        // Where there is nothing to wait for, the signals' descriptor stands in, for nothing.
        let signals = self.signals.as_fd();
        let optional = |fd, flags| match fd {
            Some(fd) => PollFd::from_borrowed_fd(fd, flags),
            None => PollFd::from_borrowed_fd(signals, none),
        };
        let mut fds = vec![
            PollFd::from_borrowed_fd(signals, PollFlags::IN),
            optional(self.control.input(), PollFlags::IN),
            optional(self.control.unwritten(), PollFlags::OUT),
            PollFd::from_borrowed_fd(self.announcements.as_fd(), PollFlags::IN),
            optional(self.house.as_ref().map(House::listener), PollFlags::IN),
        ];
        if let Some(house) = &self.house {
            fds.extend(house.connections().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        }
        let deadlines = [self.house.as_ref().and_then(House::deadline), self.adoption.deadline()];
        let timeout = deadlines.into_iter().flatten().min().map(|deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            Timespec {
                tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            }
        });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(fds.iter().map(PollFd::revents).collect()),
            Err(error) => Err(error.into()),
        }
    }

    fn hear_signals(&mut self, now: Instant) {
        while let Some(received) = self.signals.next() {
            match received.signal {
                SIGCHLD => {}
                SIGHUP | SIGINT | SIGQUIT | SIGTERM | SIGUSR1 | SIGUSR2 => self.is_dismissed = true,
                _ => {}
            }
        }
        // Signals merge: all that has changed is looked at.
        while let Ok(Some(change)) = collect() {
            match change {
                Change::Stopped { pid } => self.was_stopped(pid, now),
                Change::Ended { pid, status } => self.has_ended(pid, status, now),
            }
        }
    }

    /// A program of the same user can stop its guardian. It is continued at once; one that is
    /// stopped again is killed, and what it holds with it.
    fn was_stopped(&mut self, pid: u32, now: Instant) {
        let Some(is_again) = self.records.was_stopped(pid, now) else { return };
        // It is our child and was not collected: what fails has died meanwhile.
        let _ = signal_child(pid, if is_again { SIGKILL } else { SIGCONT });
    }

    fn has_ended(&mut self, pid: u32, status: Status, now: Instant) {
        let Some(record) = self.records.remove(pid) else {
            // An orphan; those that it leaves are ours now.
            return self.adoption.look(now);
        };
        let ending = match status {
            Status::Exited(0) => return,
            Status::Exited(status) => Ending::Exited(status),
            Status::Signalled { signal, .. } => Ending::Signalled(signal),
        };
        self.adoption.begin(record, ending, now);
    }

    fn hear_controller(&mut self) {
        loop {
            match self.control.next() {
                Ok(Some(ToNursery::Kill { run })) => {
                    if let Some(pid) = self.records.pid_of(run) {
                        // It is our child and was not collected.
                        let _ = signal_child(pid, SIGKILL);
                    }
                }
                Ok(None) => break,
                // It is gone, or speaks nonsense: nobody is served any more. Guardians see for
                // themselves that their controller is gone, and end.
                Ok(Some(ToNursery::Nurse { .. })) | Err(_) => {
                    self.house = None;
                    break;
                }
            }
        }
        if self.control.is_gone() {
            self.house = None;
        }
    }

    fn fork(&mut self, connection: OwnedFd, preamble: Preamble) {
        let errand = Errand { run: preamble.run, controller: self.controller };
        // Where it fails the connection is closed, which tells its controller.
        if let Ok(pid) = fork_guardian(connection, self.report.as_fd(), errand, guard) {
            self.records.add(pid, preamble.run);
        }
    }
}
