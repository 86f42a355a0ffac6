// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

use crate::{Malformed, MAX_CREDIT};

/// Credit that one side may still spend (§5, §6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credit(u32);

impl Credit {
    /// Starts with `bytes`.
    pub fn new(bytes: u32) -> Self {
        Credit(bytes)
    }

    /// How much may be spent now.
    pub fn available(self) -> usize {
        self.0 as usize
    }

    /// Adds what the other side granted.
    ///
    /// # Errors
    /// When more than [`MAX_CREDIT`] would be outstanding.
    pub fn grant(&mut self, bytes: u32) -> Result<(), Malformed> {
        match self.0.checked_add(bytes) {
            Some(sum @ 0..=MAX_CREDIT) => {
                self.0 = sum;
                Ok(())
            }
            sum => Err(Malformed::Value {
                what: "outstanding credit",
                value: sum.map_or(u64::from(self.0) + u64::from(bytes), u64::from),
                allowed: "up to 2147483647",
            }),
        }
    }

    /// Takes `bytes` away, or nothing and says `false` where there is less.
    #[must_use]
    pub fn spend(&mut self, bytes: usize) -> bool {
        match u32::try_from(bytes).ok().and_then(|bytes| self.0.checked_sub(bytes)) {
            Some(left) => {
                self.0 = left;
                true
            }
            None => false,
        }
    }
}

/// Gathers what was consumed until it is worth telling: at half of the window, or when somebody waits for it (§5).
#[derive(Clone, Copy, Debug)]
pub struct Returned {
    window: u32,
    gathered: u32,
}

impl Returned {
    /// For a window of `window` bytes.
    pub fn new(window: u32) -> Self {
        Returned { window, gathered: 0 }
    }

    /// `bytes` were consumed; `awaited` says that they are waited for. Answers what to return now.
    pub fn add(&mut self, bytes: u32, awaited: bool) -> Option<u32> {
        self.gathered = self.gathered.saturating_add(bytes);
        let due = self.gathered > 0 && (awaited || self.gathered >= self.window / 2);
        due.then(|| std::mem::take(&mut self.gathered))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_beyond_the_most_is_refused_and_changes_nothing() {
        let mut credit = Credit::new(MAX_CREDIT - 1);
        assert!(credit.grant(2).is_err());
        assert_eq!(credit.available(), MAX_CREDIT as usize - 1);
        assert!(credit.grant(1).is_ok());
        assert!(credit.grant(u32::MAX).is_err());
    }

    #[test]
    fn more_than_there_is_cannot_be_spent() {
        let mut credit = Credit::new(10);
        assert!(!credit.spend(11));
        assert!(credit.spend(10));
        assert!(!credit.spend(1));
        assert!(credit.spend(0));
    }

    #[test]
    fn consumed_bytes_are_told_at_half_a_window_or_when_awaited() {
        let mut returned = Returned::new(100);
        assert_eq!(returned.add(49, false), None);
        assert_eq!(returned.add(1, false), Some(50));
        assert_eq!(returned.add(0, true), None);
        assert_eq!(returned.add(3, true), Some(3));
    }
}
