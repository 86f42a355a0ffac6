// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! `proton-guardian nursery`: one process for each controller that forks guardians, adopts what one
//! that died has left, and kills it (PROTOCOL §10).
//!
//! It knows nothing of programs, and nobody connects to it: its guardians wait at the listener
//! themselves. It sees to it that two always do, and otherwise sleeps.

mod adoption;
mod control;
mod door;
mod guard;
mod house;
mod records;

use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::time::Instant;

use proton_stream_containment::{
    become_guardian, collect, fork_guardian, signal_child, Board, Change, Signals, Status,
};
use proton_stream_protocol::{Ending, FromNursery, ToNursery, PACKAGE_VERSION};
use rustix::event::{poll, PollFd, PollFlags};
use rustix::io::{read, Errno};
use rustix::pipe::{pipe_with, PipeFlags};

use crate::ending::{ends_a_guardian, SIGCONT, SIGKILL};
use crate::polling::until;
use crate::shell::fail;
use adoption::Adoption;
use control::{Charge, Control};
use guard::{guard, Errand, SPARE};
use house::House;
use records::Records;

/// How many more are forked at once when connections already wait.
const BURST: u32 = 4;

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
    let house = House::make()?;
    let (bell, ringer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    let records = Records::new(Board::new()?);
    let path = house.path().to_vec();
    let mut nursery = Nursery {
        signals,
        control,
        charge,
        house: Some(house),
        bell,
        ringer,
        records,
        adoption: Adoption::new(),
        is_dismissed: false,
    };
    // First, so that nobody has to wait for it.
    nursery.fork_spares();
    nursery.control.say(&FromNursery::Ready { package: PACKAGE_VERSION.as_bytes(), path: &path });
    if nursery.control.is_gone() {
        // Before it was told where to connect.
        nursery.close();
    }
    while !nursery.is_finished() {
        nursery.turn()?;
    }
    Ok(())
}

struct Nursery {
    signals: Signals,
    control: Control,
    charge: Charge,
    /// Where its guardians listen, until the controller is gone.
    house: Option<House>,
    /// Rung by a guardian that has left too few waiting.
    bell: OwnedFd,
    ringer: OwnedFd,
    records: Records,
    adoption: Adoption,
    /// A signal has ended it. Guardians that have a run go on.
    is_dismissed: bool,
}

impl Nursery {
    fn is_finished(&self) -> bool {
        self.is_dismissed
            || self.house.is_none() && self.records.is_empty() && self.adoption.is_idle()
    }

    fn turn(&mut self) -> std::io::Result<()> {
        let [signals, control, unwritten, bell] = self.poll()?;
        let now = Instant::now();
        if !signals.is_empty() {
            self.hear_signals(now);
        }
        if !control.is_empty() {
            self.hear_controller();
        }
        if !unwritten.is_empty() {
            self.control.flush();
        }
        if !bell.is_empty() {
            // However often it was rung.
            let mut rung = [0; 4096];
            while matches!(read(&self.bell, &mut rung), Ok(length) if length > 0) {}
        }
        if self.house.is_some() && self.control.is_gone() {
            // There was an end to be read, or what was said could not be written.
            self.close();
        }
        self.fork_spares();
        for died in self.adoption.advance(&self.records, now) {
            self.control.say(&died);
        }
        Ok(())
    }

    fn poll(&self) -> std::io::Result<[PollFlags; 4]> {
        let signals = self.signals.as_fd();
        // Where there is nothing to wait for, the signals' descriptor stands in, for nothing.
        let optional = |fd, flags| match fd {
            Some(fd) => PollFd::from_borrowed_fd(fd, flags),
            None => PollFd::from_borrowed_fd(signals, PollFlags::empty()),
        };
        let mut fds = [
            PollFd::from_borrowed_fd(signals, PollFlags::IN),
            optional(self.control.input(), PollFlags::IN),
            optional(self.control.unwritten(), PollFlags::OUT),
            PollFd::from_borrowed_fd(self.bell.as_fd(), PollFlags::IN),
        ];
        let timeout = self.adoption.deadline().map(until);
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(fds.map(|fd| fd.revents())),
            Err(error) => Err(error.into()),
        }
    }

    fn hear_signals(&mut self, now: Instant) {
        while let Some(received) = self.signals.next() {
            self.is_dismissed |= ends_a_guardian(received.signal);
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
        let Some(died) = self.records.remove(pid) else {
            // An orphan; those that it leaves are ours now.
            return self.adoption.look(now);
        };
        let ending = match status {
            Status::Exited(0) => return,
            Status::Exited(status) => Ending::Exited(status),
            Status::Signalled { signal, .. } => Ending::Signalled(signal),
        };
        self.adoption.begin(died, ending, now);
    }

    fn hear_controller(&mut self) {
        loop {
            let killed = match self.control.next() {
                Ok(Some(ToNursery::Kill { run })) => Some(run),
                Ok(None) => None,
                // It speaks nonsense: nobody is served any more.
                Ok(Some(ToNursery::Nurse { .. })) | Err(_) => return self.close(),
            };
            // Where it is gone, that is seen after this.
            let Some(run) = killed else { return };
            self.kill(run);
        }
    }

    /// It is answered in any case, now or when the guardian's tree is dead.
    fn kill(&mut self, run: u64) {
        if let Some(pid) = self.records.pid_of(run) {
            // It is our child and was not collected.
            let _ = signal_child(pid, SIGKILL);
        } else if !self.adoption.is_of(run) {
            let ending = Ending::Unknown;
            self.control.say(&FromNursery::Died { run, ending, survivors: Vec::new() });
        }
    }

    /// Guardians that have a run see for themselves that their controller is gone, and end it.
    fn close(&mut self) {
        self.house = None;
        self.records.close();
        for pid in self.records.waiting() {
            // It is our child and was not collected. Had it just got a connection, or a run on one,
            // that is of a controller which is gone or has let go; what it started is adopted.
            let _ = signal_child(pid, SIGKILL);
        }
    }

    /// Sees to it that [`SPARE`] guardians wait for connections, and more where some wait for a
    /// guardian.
    fn fork_spares(&mut self) {
        let Some(house) = &self.house else { return };
        let mut wanted = SPARE.saturating_sub(self.records.idle());
        if wanted > 0 && house.has_visitors() {
            wanted += BURST;
        }
        for _ in 0..wanted {
            let (listener, ringer) = (house.listener(), self.ringer.as_fd());
            let Charge { controller, secret } = self.charge;
            let nursery = std::process::id();
            let is_added = self.records.add(|slot| {
                let errand = Errand { nursery, controller, secret, slot };
                fork_guardian(listener, ringer, errand, guard)
            });
            if !is_added {
                // Connections wait, and those who made them give up.
                return;
            }
        }
    }
}
