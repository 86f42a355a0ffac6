// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! One pipe under load: it is made to hold more while much flows, and gives that back afterwards.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use crate::room::Room;

/// So many times in a row, with less than [`IDLE`] between, is load.
const LOAD: u8 = 4;

/// A pipe that had little in it for so long gives its room back.
const IDLE: Duration = Duration::from_millis(100);

pub(crate) struct Load {
    room: Room,
    /// What may be under way at most.
    window: usize,
    /// How often in a row there was much in it.
    filled: u8,
    /// When that was last looked at.
    last: Option<Instant>,
    /// Since when a pipe that has grown has had little in it.
    idle_since: Option<Instant>,
}

impl Load {
    pub(crate) fn of(pipe: Option<&impl AsFd>, window: usize) -> Self {
        Load {
            room: pipe.map_or(Room::none(), |pipe| Room::of(pipe.as_fd())),
            window,
            filled: 0,
            last: None,
            idle_since: None,
        }
    }

    /// So much flows at once; answers with the window where the pipe may have grown to that now.
    pub(crate) fn add(
        &mut self,
        pipe: BorrowedFd<'_>,
        bytes: usize,
        now: Instant,
    ) -> Option<usize> {
        let last = self.last.replace(now);
        if !self.room.is_loaded_by(bytes) {
            self.filled = 0;
            return None;
        }
        self.idle_since = None;
        if last.is_none_or(|last| now.saturating_duration_since(last) >= IDLE) {
            self.filled = 0;
        }
        self.filled = self.filled.saturating_add(1);
        if self.filled < LOAD {
            return None;
        }
        self.room.grow(pipe, self.window);
        Some(self.window)
    }

    /// Little is left of it for now.
    pub(crate) fn pause(&mut self, now: Instant) {
        if self.idle_since.is_none() && self.room.is_grown() {
            self.idle_since = Some(now);
        }
    }

    /// When [`give_back`](Self::give_back) has something to do.
    pub(crate) fn idle_until(&self) -> Option<Instant> {
        self.idle_since.map(|since| since + IDLE)
    }

    /// Gives the room back that has not been used for a while; `None` while that isn't so,
    /// `Some(false)` where more is in it than would fit.
    pub(crate) fn give_back(&mut self, pipe: Option<&impl AsFd>, now: Instant) -> Option<bool> {
        self.idle_until().filter(|until| now >= *until)?;
        self.idle_since = None;
        Some(pipe.is_none_or(|pipe| self.room.give_back(pipe.as_fd())))
    }

    /// Gives the room back at once, if it can be: nobody will do so later.
    pub(crate) fn part(&mut self, pipe: BorrowedFd<'_>) {
        self.idle_since = None;
        self.room.give_back(pipe);
    }

    /// Has [`give_back`](Self::give_back) done once more.
    pub(crate) fn try_later(&mut self, now: Instant) {
        self.idle_since = Some(now);
    }
}
