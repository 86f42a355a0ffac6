// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Limits under names that mean the same on either version.
//!
//! Each becomes a setting under the name that version 2 has, which `translate` turns into what
//! version 1 has.

use super::settings::number;
use super::{Limit, Wish};
use crate::environment::shown;
use crate::Error;

/// What may be given.
#[derive(Clone, Copy)]
enum Kind {
    /// Bytes, a count, or no limit.
    Amount(&'static str),
    /// CPUs, as a decimal fraction, or no limit.
    Cpus,
    /// A share, where 100 is what others have.
    Weight,
    /// `0-3,7`.
    List,
}

/// Name, controller and file of version 2, and what may be given.
const LIMITS: [(&str, &str, &str, Kind); 9] = [
    ("memory", "memory", "memory.max", Kind::Amount("a number of bytes")),
    ("memory_high", "memory", "memory.high", Kind::Amount("a number of bytes")),
    ("swap", "memory", "memory.swap.max", Kind::Amount("a number of bytes")),
    ("cpu", "cpu", "cpu.max", Kind::Cpus),
    ("cpu_weight", "cpu", "cpu.weight", Kind::Weight),
    ("io_weight", "io", "io.weight", Kind::Weight),
    ("cpus", "cpuset", "cpuset.cpus", Kind::List),
    ("mems", "cpuset", "cpuset.mems", Kind::List),
    ("pids", "pids", "pids.max", Kind::Amount("a number of processes")),
];

/// The kernel's own, in microseconds.
const PERIOD: u64 = 100_000;

/// The least quota that the kernel takes: a hundredth of a CPU.
const LEAST_QUOTA: u64 = 1_000;

/// What is to be written for a limit.
pub(super) fn wish(limit: &Limit) -> Result<Wish, Error> {
    let known = LIMITS.iter().find(|(name, ..)| name.as_bytes() == limit.name);
    let Some((name, controller, file, kind)) = known else {
        let names: Vec<&str> = LIMITS.iter().map(|(name, ..)| *name).collect();
        return Err(Error::specification(format!(
            "limit {} is unknown, allowed are {}",
            shown(&limit.name),
            names.join(", ")
        )));
    };
    let text = std::str::from_utf8(&limit.value).unwrap_or_default();
    let value = match kind {
        Kind::Amount(_) => amount(text),
        Kind::Cpus => quota(text),
        Kind::Weight => weight(text),
        Kind::List => list(text),
    };
    match value {
        Some(value) => Ok(Wish {
            controller: controller.as_bytes().to_vec(),
            file: file.as_bytes().to_vec(),
            value: value.into_bytes(),
            key: name.as_bytes().to_vec(),
        }),
        None => Err(Error::specification(format!(
            "limit {name} is {}, allowed is {}",
            shown(&limit.value),
            kind.allowed()
        ))),
    }
}

impl Kind {
    fn allowed(self) -> String {
        match self {
            Self::Amount(what) => format!("{what}, or max"),
            Self::Cpus => "a number of CPUs of at least 0.01, or max".into(),
            Self::Weight => "1 to 10000".into(),
            Self::List => "a list such as 0-3,7".into(),
        }
    }
}

fn amount(text: &str) -> Option<String> {
    if text == "max" {
        return Some(text.into());
    }
    number(text).filter(|amount| *amount >= 0).map(|amount| amount.to_string())
}

/// The quota and its period, from CPUs with up to six decimal places.
fn quota(text: &str) -> Option<String> {
    if text == "max" {
        return Some(format!("max {PERIOD}"));
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits(whole) || !is_digits(fraction) || fraction.len() > 6 {
        return None;
    }
    let whole: u64 = whole.parse().ok().filter(|whole| *whole <= 100_000)?;
    let millionths: u64 = format!("{fraction:0<6}").parse().ok()?;
    let quota = whole * PERIOD + (millionths + 5) / 10;
    (quota >= LEAST_QUOTA).then(|| format!("{quota} {PERIOD}"))
}

fn weight(text: &str) -> Option<String> {
    let weight: u32 = text.parse().ok()?;
    (1..=10_000).contains(&weight).then(|| weight.to_string())
}

fn list(text: &str) -> Option<String> {
    let is_member = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        matches!((first.parse::<u32>(), last.parse::<u32>()), (Ok(first), Ok(last)) if first <= last)
    };
    text.split(',').all(is_member).then(|| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(name: &str, value: &str) -> Result<(String, String), Error> {
        let limit = Limit { name: name.into(), value: value.into() };
        let text = |bytes| String::from_utf8(bytes).expect("text");
        wish(&limit).map(|wish| (text(wish.file), text(wish.value)))
    }

    #[test]
    fn limits_become_settings_of_version_2() {
        for (name, value, file, written) in [
            ("memory", "268435456", "memory.max", "268435456"),
            ("memory", "256M", "memory.max", "268435456"),
            ("memory", "max", "memory.max", "max"),
            ("memory_high", "1G", "memory.high", "1073741824"),
            ("swap", "0", "memory.swap.max", "0"),
            ("cpu", "0.5", "cpu.max", "50000 100000"),
            ("cpu", "2", "cpu.max", "200000 100000"),
            ("cpu", "0.01", "cpu.max", "1000 100000"),
            ("cpu", "1.333333", "cpu.max", "133333 100000"),
            ("cpu", "max", "cpu.max", "max 100000"),
            ("cpu_weight", "10000", "cpu.weight", "10000"),
            ("io_weight", "1", "io.weight", "1"),
            ("cpus", "0-3,7", "cpuset.cpus", "0-3,7"),
            ("mems", "0", "cpuset.mems", "0"),
            ("pids", "64", "pids.max", "64"),
            ("pids", "max", "pids.max", "max"),
        ] {
            assert_eq!(given(name, value), Ok((file.into(), written.into())), "{name} {value}");
        }
    }

    #[test]
    fn other_values_are_refused_in_words() {
        for (name, value) in [
            ("memory", ""),
            ("memory", "-1"),
            ("memory", "lots"),
            ("memory", "1.5G"),
            ("cpu", "0"),
            ("cpu", "0.001"),
            ("cpu", "-1"),
            ("cpu", "1e3"),
            ("cpu", ".5"),
            ("cpu", "1."),
            ("cpu", "0.1234567"),
            ("cpu", "100001"),
            ("cpu_weight", "0"),
            ("cpu_weight", "10001"),
            ("cpu_weight", "max"),
            ("cpus", "3-1"),
            ("cpus", ""),
            ("cpus", "0,"),
            ("pids", "-5"),
        ] {
            let error = given(name, value).expect_err("refused");
            let sentence = error.to_string();
            assert!(sentence.contains(&format!("limit {name} is ")), "{sentence}");
            assert!(sentence.contains("allowed is"), "{sentence}");
        }
        let error = given("memmory", "1").expect_err("unknown");
        assert!(error.to_string().contains("allowed are memory, memory_high, swap"), "{error}");
    }
}
