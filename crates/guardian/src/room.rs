// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Room for bytes under way. How much a pipe holds: the default while little flows, more under load, given back afterwards.
//!
//! A user without privilege has 16,384 pages of pipes in all (`pipe-user-pages-soft`, pipe(7)): 1,024
//! default pipes, or 64 of 1 MiB. Past that growing fails, and, worse, every new pipe holds 8 KiB: so
//! the last of it is left to others.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use memmap2::MmapMut;
use proton_stream_containment::give_memory_back;
use proton_stream_containment::pipe::{are_unlimited, capacity, set_capacity, DEFAULT};
use rustix::io::ioctl_fionread;
use rustix::pipe::pipe;

/// What it gives a user without privilege at most (`pipe-max-size`, pipe(7)).
const MOST: usize = 1024 * 1024;

/// One read of the controller takes at most this much.
const READ: usize = 64 * 1024;

/// One frame whose payload is copied, header and all. It stays below 64 KiB: one that fills a
/// default pipe to the last slot and spills a few bytes over costs the reader a second wake-up.
pub(crate) const FRAME: usize = 65_520;

/// From here on bytes are moved from pipe to pipe, not copied. Below it would cost more: a pipe's
/// room is slots, and a spliced piece takes at least one, however small it is.
pub(crate) const SPLICED: usize = 16 * 1024;

/// From here on a read is load. A reader that is quick seldom finds a pipe full.
const LOAD: usize = DEFAULT / 4;

/// So many times [`MOST`] must be free beside: enough for the pipes of 20 programs.
const SPARE: usize = 4;

/// So many guardians may each have the four pipes of a run that nobody has asked for: an eighth of
/// what a user without privilege has.
const AHEAD: usize = 32;

/// `size` zeros, of which only the pages that are used cost memory. An allocator does the same with
/// the first one only: what it was given back it clears, page by page (mallopt(3),
/// M_MMAP_THRESHOLD).
fn buffer(size: usize) -> io::Result<MmapMut> {
    MmapMut::map_anon(size)
}

/// Whether there is some for the pipes of a run that nobody has asked for yet, for the guardian in
/// this place.
pub(crate) fn is_for_another_run(place: usize) -> bool {
    place < AHEAD || are_unlimited()
}

/// How much can be read now.
pub(crate) fn held(source: BorrowedFd<'_>) -> usize {
    ioctl_fionread(source).map_or(0, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
}

/// What a guardian reads into and writes from, in one run after the other.
pub(crate) struct Buffers {
    pub(crate) read: MmapMut,
    pub(crate) frame: MmapMut,
}

impl Buffers {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Buffers { read: buffer(READ)?, frame: buffer(FRAME)? })
    }

    /// Between two runs: gives their memory back, and what else a run has used.
    pub(crate) fn give_back(&mut self) {
        forget(&mut self.read);
        forget(&mut self.frame);
        give_memory_back();
    }
}

/// Gives a buffer's memory back. Where there is no other to be had, it stays.
pub(crate) fn forget(memory: &mut MmapMut) {
    if let Ok(fresh) = buffer(memory.len()) {
        *memory = fresh;
    }
}

/// One pipe's room.
pub(crate) struct Room {
    size: usize,
    may_grow: bool,
}

impl Room {
    /// Of a pipe, or of a socket, which never grows.
    pub(crate) fn of(pipe: BorrowedFd<'_>) -> Self {
        let size = capacity(pipe).unwrap_or(0);
        // One that was created smaller tells that the user has no room left to take.
        Room { size, may_grow: size == DEFAULT }
    }

    /// Of nothing.
    pub(crate) fn none() -> Self {
        Room { size: 0, may_grow: false }
    }

    pub(crate) fn is_loaded_by(&self, held: usize) -> bool {
        self.size > 0 && held >= LOAD
    }

    pub(crate) fn is_grown(&self) -> bool {
        self.size > DEFAULT
    }

    /// Makes it as large as what may be under way in it, `window`, if the user may have so much and
    /// others find room still.
    pub(crate) fn grow(&mut self, pipe: BorrowedFd<'_>, window: usize) {
        let size = window.min(MOST);
        if !self.may_grow || size <= self.size {
            return;
        }
        // EPERM: the user's pages are used up.
        if set_capacity(pipe, size).is_ok() {
            self.size = capacity(pipe).unwrap_or(size);
            self.may_grow = leaves_room();
        } else {
            self.may_grow = false;
        }
        if !self.may_grow {
            self.give_back(pipe);
        }
    }

    /// `false` while it holds more than would fit.
    pub(crate) fn give_back(&mut self, pipe: BorrowedFd<'_>) -> bool {
        if self.is_grown() && set_capacity(pipe, DEFAULT).is_ok() {
            self.size = DEFAULT;
        }
        !self.is_grown()
    }
}

/// The kernel tells nobody how much a user has left, so it is tried.
fn leaves_room() -> bool {
    let spare: Result<Vec<_>, io::Error> = (0..SPARE)
        .map(|_| {
            let (reader, writer) = pipe()?;
            set_capacity(reader.as_fd(), MOST)?;
            Ok((reader, writer))
        })
        .collect();
    spare.is_ok()
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::thread;

    use rustix::process::{Gid, Uid};
    use rustix::thread::{set_thread_res_gid, set_thread_res_uid};

    use super::*;

    const MIB: usize = 1024 * 1024;

    /// Runs `test` as a user who has nothing yet. A thread's identity is its own (nptl(7) tells what
    /// a C library does about that; a system call does not).
    fn as_user(id: u32, test: impl FnOnce() + Send) {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "this test needs root");
            return eprintln!("not run, it needs root: sudo ./check rust");
        }
        thread::scope(|scope| {
            let tested = scope.spawn(|| {
                let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
                set_thread_res_gid(gid, gid, gid).unwrap();
                set_thread_res_uid(uid, uid, uid).unwrap();
                test();
            });
            tested.join().unwrap();
        });
    }

    fn size_of_a_new_pipe() -> usize {
        let (reader, _writer) = pipe().unwrap();
        capacity(reader.as_fd()).unwrap()
    }

    fn grown(window: usize) -> (OwnedFd, OwnedFd, Room) {
        let (reader, writer) = pipe().unwrap();
        let mut room = Room::of(reader.as_fd());
        room.grow(reader.as_fd(), window);
        assert_eq!(capacity(reader.as_fd()).unwrap(), room.size);
        (reader, writer, room)
    }

    #[test]
    fn a_pipe_grows_to_the_window_at_most_and_gives_back() {
        for (window, size) in [(0, DEFAULT), (MIB / 4, MIB / 4), (MIB, MIB), (64 * MIB, MIB)] {
            let (reader, _writer, mut room) = grown(window);
            assert_eq!(room.size, size, "for a window of {window}");
            assert_eq!(room.is_grown(), size > DEFAULT);
            assert!(room.give_back(reader.as_fd()));
            assert_eq!(capacity(reader.as_fd()).unwrap(), DEFAULT);
        }
    }

    #[test]
    fn what_is_in_use_is_given_back_later() {
        let (reader, writer, mut room) = grown(MIB);
        let held = vec![0; 2 * DEFAULT];
        rustix::io::write(&writer, &held).unwrap();
        assert!(!room.give_back(reader.as_fd()));
        assert!(room.is_grown());
        rustix::io::read(&reader, &mut vec![0; 2 * DEFAULT][..]).unwrap();
        assert!(room.give_back(reader.as_fd()));
    }

    #[test]
    fn the_last_pages_of_a_user_are_left_to_others() {
        as_user(61_234, || {
            let mut pipes = Vec::new();
            loop {
                let pipe = grown(MIB);
                if !pipe.2.is_grown() {
                    break;
                }
                assert!(pipes.len() < 64, "a user may have 64 MiB, by default");
                pipes.push(pipe);
            }
            assert!(pipes.len() > 32, "only {} grew", pipes.len());
            let others: Vec<_> = (0..48).map(|_| pipe().unwrap()).collect();
            let small = others.iter().filter(|(it, _)| capacity(it.as_fd()).unwrap() < DEFAULT);
            assert_eq!(small.count(), 0);
            drop((pipes, others));
            assert!(grown(MIB).2.is_grown(), "what was given back can be had");
        });
    }

    #[test]
    fn only_few_of_a_limited_users_guardians_have_pipes_of_no_run() {
        assert!(is_for_another_run(AHEAD - 1));
        as_user(61_236, || assert!(!is_for_another_run(AHEAD)));
        // Of a limited user these are all that there is, so that a new one is small.
        let all: Vec<_> = (0..=64).map(|_| pipe().unwrap()).collect();
        for (reader, _) in &all {
            let _ = set_capacity(reader.as_fd(), MIB);
        }
        assert_eq!(is_for_another_run(AHEAD), size_of_a_new_pipe() == DEFAULT);
    }

    #[test]
    fn a_user_who_has_no_room_left_gets_what_there_is() {
        as_user(61_235, || {
            let mut all = Vec::new();
            while size_of_a_new_pipe() == DEFAULT {
                let (reader, writer) = pipe().unwrap();
                let _ = set_capacity(reader.as_fd(), MIB);
                all.push((reader, writer));
                assert!(all.len() < 2_000, "the limits of pipe(7) are off");
            }
            let (_reader, _writer, room) = grown(MIB);
            assert!(!room.is_grown() && room.size < DEFAULT);
        });
    }
}
