// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Memory that a nursery shares with its guardians: what each of them is doing, readable for the
//! nursery also when a guardian is dead, and written without a system call.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicU8, Ordering::SeqCst};
use std::time::Duration;

use rustix::time::{clock_gettime, ClockId};

use crate::sys;

/// How many guardians there can be. What is not used of the memory costs nothing.
const SLOTS: usize = 16_384;

/// The longest path of a group that has room.
const PATH: usize = 500;

/// The memory. All zeros are a board on which nothing is written.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Shared {
    idle: AtomicU32,
    /// When there were last too few of those, in milliseconds of the machine's uptime.
    scarce: AtomicU64,
    is_closed: AtomicBool,
    /// The guardian of each slot, or 0. Beside each other, since all are looked through.
    pids: [AtomicU32; SLOTS],
    slots: [SlotMemory; SLOTS],
}

#[derive(Debug)]
#[repr(C)]
struct SlotMemory {
    /// 0 for none.
    run: AtomicU64,
    waits: AtomicBool,
    length: AtomicU32,
    path: [AtomicU8; PATH],
}

/// The board of the calling process, and of those that it forks.
#[derive(Debug, Clone, Copy)]
pub struct Board(&'static Shared);

/// One guardian's place on the board.
#[derive(Debug, Clone, Copy)]
pub struct Slot {
    board: Board,
    index: usize,
    pid: &'static AtomicU32,
    memory: &'static SlotMemory,
}

impl Board {
    /// Makes one, which lasts as long as the process and its forks.
    #[doc(alias = "mmap")]
    pub fn new() -> io::Result<Self> {
        Ok(Self(sys::shared()?))
    }

    /// A place by its number; `None` beyond the last one.
    pub fn slot(self, index: usize) -> Option<Slot> {
        let pid = self.0.pids.get(index)?;
        self.0.slots.get(index).map(|memory| Slot { board: self, index, pid, memory })
    }

    /// Gives the memory of places back which nobody has.
    #[doc(alias = "madvise")]
    pub fn clear(self, places: Range<usize>) {
        sys::clear(self.0.slots.get(places).unwrap_or_default());
    }

    /// How many guardians wait for a connection.
    pub fn idle(self) -> u32 {
        self.0.idle.load(SeqCst)
    }

    /// Too few wait at this moment.
    pub fn are_scarce(self) {
        self.0.scarce.store(uptime(), SeqCst);
    }

    /// Whether there were always enough for that long.
    pub fn were_enough(self, time: Duration) -> bool {
        let since = uptime().saturating_sub(self.0.scarce.load(SeqCst));
        Duration::from_millis(since) >= time
    }

    /// Nobody is to wait any more. A guardian that ends a run sees that before it waits, or has
    /// ended the run before the nursery looks for those that have none.
    pub fn close(self) {
        self.0.is_closed.store(true, SeqCst);
    }

    /// Whether nobody is to wait any more.
    pub fn is_closed(self) -> bool {
        self.0.is_closed.load(SeqCst)
    }

    /// One less waits, if at least `least` still do. The answer is how many do, or `None` for
    /// nothing done.
    fn less(self, least: u32) -> Option<u32> {
        let less = |idle: u32| idle.checked_sub(1).filter(|left| *left >= least);
        self.0.idle.fetch_update(SeqCst, SeqCst, less).ok().map(|before| before - 1)
    }
}

impl Slot {
    /// The board that it is on.
    pub fn board(self) -> Board {
        self.board
    }

    /// The number of the place. Low ones are taken first.
    pub fn index(self) -> usize {
        self.index
    }

    /// The process that has the place; 0 for none.
    pub fn pid(self) -> u32 {
        self.pid.load(SeqCst)
    }

    /// It belongs to that process now, or to none.
    pub fn set_pid(self, pid: u32) {
        self.pid.store(pid, SeqCst);
    }

    /// Its guardian waits. The answer is how many others do.
    pub fn wait(self) -> u32 {
        // In this order, and in `take` in that one: whoever is killed between the two is counted
        // once too seldom, and one guardian too many waits.
        self.memory.waits.store(true, SeqCst);
        self.board.0.idle.fetch_add(1, SeqCst)
    }

    /// Its guardian, if it did, waits no longer. The answer is how many others do.
    pub fn take(self) -> u32 {
        if !self.memory.waits.load(SeqCst) {
            return self.board.idle();
        }
        let left = self.board.less(0).unwrap_or(0);
        self.memory.waits.store(false, SeqCst);
        left
    }

    /// Its guardian waits no longer, if at least `least` others do. Whether that was so.
    pub fn leave(self, least: u32) -> bool {
        let is_less = self.board.less(least).is_some();
        if is_less {
            self.memory.waits.store(false, SeqCst);
        }
        is_less
    }

    /// The run that its guardian has, which is not 0; 0 for none.
    pub fn run(self) -> u64 {
        self.memory.run.load(SeqCst)
    }

    /// Its guardian has another run, or none. What was said of the last one is forgotten.
    pub fn set_run(self, run: u64) {
        self.memory.length.store(0, SeqCst);
        self.memory.run.store(run, SeqCst);
    }

    /// The path of the run's group. One that is too long is not said.
    pub fn set_group(self, path: &[u8]) {
        let Ok(length) = u32::try_from(path.len()) else { return };
        if path.len() > PATH {
            return;
        }
        for (into, byte) in self.memory.path.iter().zip(path) {
            into.store(*byte, SeqCst);
        }
        // Last: what a guardian had not finished when it was killed is not read.
        self.memory.length.store(length, SeqCst);
    }

    /// What was said last; `None` for nothing.
    pub fn group(self) -> Option<Vec<u8>> {
        let length = usize::try_from(self.memory.length.load(SeqCst)).ok()?;
        if length == 0 {
            return None;
        }
        Some(self.memory.path.iter().take(length).map(|byte| byte.load(SeqCst)).collect())
    }
}

/// In milliseconds; the same for all processes.
fn uptime() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::try_from(now).map_or(0, |now| now.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_forgotten_with_the_run() {
        let board = Board::new().expect("memory");
        let (slot, other) = (board.slot(3).expect("a slot"), board.slot(4).expect("a slot"));
        assert_eq!((slot.pid(), slot.run(), slot.group()), (0, 0, None));
        slot.set_pid(42);
        assert_eq!((slot.pid(), other.pid()), (42, 0));
        slot.set_run(7);
        slot.set_group(b"base/proton-1-123456789");
        assert_eq!((slot.run(), other.run()), (7, 0));
        assert_eq!(slot.group().as_deref(), Some(&b"base/proton-1-123456789"[..]));
        slot.set_group(&[b'x'; PATH + 1]);
        assert_eq!(slot.group().map(|path| path.len()), Some(23));
        slot.set_run(8);
        assert_eq!((slot.run(), slot.group()), (8, None));
        assert!(board.slot(SLOTS).is_none());
    }

    #[test]
    fn what_is_cleared_is_as_new_and_the_rest_as_it_was() {
        let board = Board::new().expect("memory");
        for index in 0..100 {
            board.slot(index).expect("a slot").set_run(7);
        }
        board.clear(50..100);
        let runs: Vec<u64> = (0..100).map(|it| board.slot(it).expect("a slot").run()).collect();
        assert!(runs[..50].iter().all(|run| *run == 7));
        // Those in which it begins and ends stay.
        let page = 4096 / std::mem::size_of::<SlotMemory>() + 1;
        assert!(runs[50 + page..100 - page].iter().all(|run| *run == 0), "{runs:?}");
        board.clear(SLOTS..SLOTS + 1);
    }

    #[test]
    fn there_are_enough_when_they_were_not_scarce_for_a_time() {
        let board = Board::new().expect("memory");
        assert!(board.were_enough(Duration::ZERO));
        board.are_scarce();
        assert!(!board.were_enough(Duration::from_secs(3600)));
        while !board.were_enough(Duration::from_millis(2)) {
            std::thread::yield_now();
        }
    }

    #[test]
    fn those_that_wait_are_counted_and_never_below_none() {
        let board = Board::new().expect("memory");
        let slots = [0, 1, 2].map(|index| board.slot(index).expect("a slot"));
        assert_eq!(slots.map(Slot::wait), [0, 1, 2]);
        assert!(slots[0].leave(2));
        assert!(!slots[1].leave(2));
        // One that has left already, as one that is collected after its death.
        assert_eq!((slots[0].take(), slots[1].take(), slots[2].take()), (2, 1, 0));
        assert_eq!((slots[2].take(), board.idle()), (0, 0));
        assert!(!board.is_closed());
        board.close();
        assert!(board.is_closed());
    }
}
