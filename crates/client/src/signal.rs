// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

use std::fmt;

use crate::Error;

/// A signal by its number, 1 to 64.
///
/// ```
/// use proton_stream::Signal;
///
/// assert_eq!(Signal::new(15)?, Signal::TERM);
/// assert!(Signal::new(0).is_err());
/// # Ok::<(), proton_stream::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signal(u8);

macro_rules! names {
    ($($name:ident $number:literal)*) => {
        /// Linux's numbers on x86, ARM and RISC-V.
        #[allow(missing_docs)] // signal(7) tells what they are
        impl Signal {
            $(pub const $name: Signal = Signal($number);)*
        }

        const NAMES: &[(&str, u8)] = &[$((stringify!($name), $number)),*];
    };
}

names! {
    HUP 1 INT 2 QUIT 3 ILL 4 TRAP 5 ABRT 6 BUS 7 FPE 8 KILL 9 USR1 10 SEGV 11 USR2 12 PIPE 13
    ALRM 14 TERM 15 STKFLT 16 CHLD 17 CONT 18 STOP 19 TSTP 20 TTIN 21 TTOU 22 URG 23 XCPU 24
    XFSZ 25 VTALRM 26 PROF 27 WINCH 28 IO 29 PWR 30 SYS 31
}

impl Signal {
    /// Any of them, also those without a name.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a number that no signal has.
    pub fn new(number: i32) -> Result<Self, Error> {
        match u8::try_from(number) {
            Ok(number @ 1..=64) => Ok(Signal(number)),
            _ => Err(Error::Invalid {
                what: "a signal's number",
                value: number.to_string(),
                allowed: "1 to 64",
            }),
        }
    }

    /// Its number.
    pub fn number(self) -> u8 {
        self.0
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => write!(f, "SIG{name}"),
            None => write!(f, "signal {}", self.0),
        }
    }
}
