// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! A fork of the nursery that is a guardian: of one run after the other.
//!
//! It is forked before it is needed, so that a start has to wait for no fork but the program's own,
//! and when it has ended one run with nothing left it takes another, on the same connection or on
//! the next, so that a program which is started often costs no guardian each time. What it knows of
//! a run it has forgotten by the next.

use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use proton_stream_containment::{Forked, Signals, Slot};
use proton_stream_protocol::SECRET_LENGTH;
use rustix::process::{getppid, set_parent_process_death_signal, setsid, Pid, Signal};

use super::door::{Door, Knock};
use crate::room::{self, Buffers};
use crate::session::{self, Nursed};

/// What a guardian needs to know.
#[derive(Clone, Copy)]
pub(crate) struct Errand {
    pub(crate) nursery: u32,
    /// The process that connects, and whose directory is the program's.
    pub(crate) controller: u32,
    pub(crate) secret: [u8; SECRET_LENGTH],
    /// Where it writes which run it has.
    pub(crate) slot: Slot,
}

/// The exit status of a guardian that has left somebody alive, whom the nursery goes on to kill.
const LEFT: u8 = 3;

/// The exit status of one that could not go on.
const FAILED: u8 = 125;

/// So many wait for connections at any time: one for the next, and another one for who comes before
/// that has started its program.
pub(crate) const SPARE: u32 = 2;

/// Those that have ended a run wait as well, since what ends together is often started together
/// again: for this long, or, where others were always quicker, since there were last too few. Who
/// stays longer gives the memory of its run back. A thousand that did so earlier would be in the way
/// of what is started meanwhile.
const PATIENCE: Duration = Duration::from_secs(3);

/// After so many runs a fresh one takes over: whatever they have left in its memory goes with it.
const MOST_RUNS: usize = 1000;

/// Serves connections, and answers its exit status.
pub(crate) fn guard(forked: Forked, errand: Errand) -> u8 {
    let Forked { listener, bell, mut signals } = forked;
    // It can't fail: a fork leads no group.
    let _ = setsid();
    let Ok(door) = Door::new(listener, signals.as_fd(), errand.controller, errand.secret) else {
        return FAILED;
    };
    let Ok(mut buffers) = Buffers::new() else { return FAILED };
    let bell = Bell { ringer: bell, is_due: Cell::new(false) };
    let has_room = room::is_for_another_run(errand.slot.index());
    // A number has no NUL.
    let directory = CString::new(format!("/proc/{}/cwd", errand.controller)).unwrap_or_default();
    let guard = Guard { errand, door, bell, directory, has_room, runs: Cell::new(0) };
    // Its nursery has counted it among those that wait.
    let mut is_counted = true;
    while guard.runs.get() < MOST_RUNS {
        let Some((connection, run)) = guard.wait(is_counted, &mut signals, &mut buffers) else {
            return 0;
        };
        is_counted = false;
        let status = guard.serve(connection.as_fd(), run, &mut signals, &mut buffers);
        guard.rests();
        // It waits again itself, in place of the one that a run would have needed.
        guard.bell.is_due.set(false);
        if status != 0 {
            return status;
        }
        errand.slot.set_run(0);
    }
    0
}

struct Guard {
    errand: Errand,
    door: Door,
    bell: Bell,
    /// As a port program one would have been started there. The link leads to the directory itself,
    /// whatever its name is now, also when it has none any more.
    directory: CString,
    /// Whether it may have pipes for a run that nobody has asked for.
    has_room: bool,
    /// How many it has begun.
    runs: Cell<usize>,
}

/// The way to tell the nursery that another guardian is to wait. The fork must not be in the
/// way of the start that has just been asked for.
struct Bell {
    ringer: OwnedFd,
    is_due: Cell<bool>,
}

impl Bell {
    fn ring(&self) {
        if self.is_due.replace(false) {
            // Where the pipe is full it has rung.
            let _ = rustix::io::write(&self.ringer, b"!");
        }
    }
}

impl Guard {
    /// The next connection; `None` when there is no use for this guardian any more.
    fn wait(
        &self,
        mut is_counted: bool,
        signals: &mut Signals,
        buffers: &mut Buffers,
    ) -> Option<(OwnedFd, u64)> {
        let Self { errand, door, bell, .. } = self;
        let (slot, board) = (errand.slot, errand.slot.board());
        let is_fresh = is_counted;
        // One that waits goes with its nursery; one that has a run only hears of it.
        let hears = |signal| set_parent_process_death_signal(Some(signal)).is_ok();
        if !hears(Signal::KILL) || !is_child_of(errand.nursery) {
            return None;
        }
        loop {
            let others = match std::mem::replace(&mut is_counted, true) {
                true => board.idle().saturating_sub(1),
                false => slot.wait(),
            };
            let are_enough = board.were_enough(PATIENCE);
            if board.is_closed() || are_enough && slot.leave(SPARE) {
                return None;
            }
            let is_needed = is_fresh && others < SPARE;
            let mut knock = door.wait((!is_needed).then_some(PATIENCE), signals);
            if matches!(knock, Knock::Nobody) {
                if slot.leave(SPARE) {
                    // Who has come since then may have been announced to this one only.
                    knock = door.look();
                    if matches!(knock, Knock::Nobody) {
                        return None;
                    }
                    slot.wait();
                } else {
                    buffers.give_back();
                    knock = door.wait(None, signals);
                }
            }
            let connection = match knock {
                Knock::Controller(connection) => connection,
                Knock::Dismissal => return None,
                Knock::Stranger | Knock::Nobody => continue,
            };
            let left = slot.take();
            if left < SPARE {
                board.are_scarce();
                bell.is_due.set(true);
            }
            if left == 0 {
                // Before it is listened to, for which others would have to wait.
                bell.ring();
            }
            is_counted = false;
            if let Some(run) = door.listen_to(&connection) {
                return hears(Signal::URG).then_some((connection, run));
            }
        }
    }

    fn serve(
        &self,
        connection: BorrowedFd<'_>,
        run: u64,
        signals: &mut Signals,
        buffers: &mut Buffers,
    ) -> u8 {
        if run != 0 {
            self.begin(run);
        }
        // It may have gone before it was said which signal tells of that.
        self.is_bereft();
        match session::serve(connection, connection, signals, buffers, Some(self)) {
            Ok(false) => 0,
            Ok(true) => LEFT,
            Err(_) => FAILED,
        }
    }

    fn begin(&self, run: u64) {
        self.runs.set(self.runs.get() + 1);
        self.errand.slot.set_run(run);
    }
}

impl Nursed for Guard {
    fn announce(&self, group: &[u8]) {
        self.errand.slot.set_group(group);
    }

    fn is_bereft(&self) {
        if !is_child_of(self.errand.nursery) {
            self.door.shut();
        }
    }

    fn has_run(&self) -> bool {
        self.errand.slot.run() != 0
    }

    fn makes_ahead(&self) -> bool {
        self.has_room && self.runs.get() < MOST_RUNS
    }

    fn takes_another(&self, run: u64) -> bool {
        let may = run != 0 && self.runs.get() < MOST_RUNS && is_child_of(self.errand.nursery);
        if may {
            self.begin(run);
        }
        may
    }

    fn directory(&self) -> &CStr {
        &self.directory
    }

    fn rests(&self) {
        // A connection that was made ahead of its run is there to be taken, as the next guardian is.
        if self.has_run() {
            self.bell.ring();
        }
    }
}

fn is_child_of(nursery: u32) -> bool {
    getppid().map(Pid::as_raw_nonzero).is_some_and(|pid| pid.get().unsigned_abs() == nursery)
}
