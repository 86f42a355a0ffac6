// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! A program that says little, and often: a wake-up for each of its words costs more than the words.
//!
//! It is left alone for a moment now and then, so that more comes together. Where it has a processor
//! of its own that is often enough for it to get ahead of who listens. Not one that is asked: what is
//! written to its stdin may be the question, and what it says the answer.

use std::time::{Duration, Instant};

/// What a pipe gives that is empty then is little below this.
const LITTLE: usize = 8 * 1024;

/// So often in a row, with less than this between, is chatter.
const OFTEN: u32 = 16;
const BETWEEN: Duration = Duration::from_micros(100);

/// A rest. The kernel adds what it thinks nobody minds, 50 µs (prctl(2), PR_SET_TIMERSLACK).
const REST: Duration = Duration::from_micros(50);

pub(crate) struct Chatter {
    little: u32,
    last: Option<Instant>,
    until: Option<Instant>,
}

impl Chatter {
    pub(crate) fn new() -> Self {
        Chatter { little: 0, last: None, until: None }
    }

    /// The pipe has given so much, and is empty.
    pub(crate) fn was_heard(&mut self, length: usize, now: Instant) {
        let is_soon = self.last.is_some_and(|last| now.saturating_duration_since(last) < BETWEEN);
        self.last = Some(now);
        self.little = if length < LITTLE && is_soon { self.little + 1 } else { 0 };
        if self.little == OFTEN {
            *self = Chatter { until: Some(now + REST), ..Chatter::new() };
        }
    }

    /// The program has been told something.
    pub(crate) fn was_told(&mut self) {
        *self = Chatter::new();
    }

    /// Until when it is left alone.
    pub(crate) fn rests_until(&self) -> Option<Instant> {
        self.until
    }

    /// Ends a rest that is over.
    pub(crate) fn wake(&mut self, now: Instant) {
        self.until = self.until.filter(|until| now < *until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_micros(20);

    /// Hears so many words, one soon after the other.
    fn hear(chatter: &mut Chatter, words: u32, length: usize, now: &mut Instant) {
        for _ in 0..words {
            *now += SOON;
            chatter.was_heard(length, *now);
        }
    }

    #[test]
    fn who_says_little_and_often_is_left_alone_for_a_moment_now_and_then() {
        let (mut chatter, mut now) = (Chatter::new(), Instant::now());
        for _ in 0..3 {
            hear(&mut chatter, OFTEN, 80, &mut now);
            assert_eq!(chatter.rests_until(), None);
            hear(&mut chatter, 1, 80, &mut now);
            let until = now + REST;
            chatter.wake(now);
            assert_eq!(chatter.rests_until(), Some(until), "woken too early");
            now = until;
            chatter.wake(now);
            assert_eq!(chatter.rests_until(), None);
        }
    }

    #[test]
    fn who_says_much_or_seldom_or_is_asked_is_heard_at_once() {
        let (mut chatter, mut now) = (Chatter::new(), Instant::now());
        hear(&mut chatter, 1000, LITTLE, &mut now);
        for _ in 0..1000 {
            now += BETWEEN;
            chatter.was_heard(80, now);
        }
        for _ in 0..1000 {
            hear(&mut chatter, 1, 80, &mut now);
            chatter.was_told();
        }
        assert_eq!(chatter.rests_until(), None);
        hear(&mut chatter, OFTEN + 1, 80, &mut now);
        assert!(chatter.rests_until().is_some());
        chatter.was_told();
        assert_eq!(chatter.rests_until(), None);
    }
}
