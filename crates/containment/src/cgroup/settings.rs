// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Writing values into a group's files, and seeing that the kernel kept them.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use rustix::fs::{openat, Mode, OFlags};
use rustix::io::Errno;

use crate::procfs::read_to_end;

/// A file of a group, read whole.
pub(super) fn read(directory: &OwnedFd, file: &CStr) -> Result<Vec<u8>, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(directory, file, flags, Mode::empty())?;
    let mut bytes = Vec::new();
    match read_to_end(&fd, &mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
    }
}

/// Writes a value in one write, which is how the kernel takes it: whole or not.
pub(super) fn write(directory: &OwnedFd, file: &CStr, value: &[u8]) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(directory, file, flags, Mode::empty())?;
    match rustix::io::write(&fd, value)? {
        count if count == value.len() => Ok(()),
        _ => Err(Errno::IO),
    }
}

/// Writes a value and reads it back: 0 for the errno when the kernel took it and has another.
pub(super) fn apply(directory: &OwnedFd, file: &CStr, value: &[u8]) -> Result<(), i32> {
    write(directory, file, value).map_err(Errno::raw_os_error)?;
    match read(directory, file) {
        Ok(kept) if is_kept(value, &kept, page_size()) => Ok(()),
        Ok(_) => Err(0),
        // A file that is only written (memory.force_empty, devices.allow): the write's success is
        // all there is.
        Err(_) => Ok(()),
    }
}

fn page_size() -> u128 {
    u128::try_from(rustix::param::page_size()).unwrap_or(4096)
}

/// Whether what is read is what was written.
///
/// - Numbers are compared as numbers: `007` and `7`, `0x10` and `16`, `64M` and `67108864`.
/// - Byte counts may be rounded to whole pages, down or up.
/// - `-1` is no limit, which reads as -1 or as a number that no machine reaches; so does a limit
///   that is beyond that number.
/// - A list of CPUs or nodes is compared as the set that it is.
/// - A file that has a line for each key must have one with the words that were written, or none
///   where they say that there is no limit.
fn is_kept(written: &[u8], read: &[u8], page: u128) -> bool {
    let (written, read) = (written.trim_ascii(), read.trim_ascii());
    if written == read {
        return true;
    }
    let (Ok(written), Ok(read)) = (std::str::from_utf8(written), std::str::from_utf8(read)) else {
        return false;
    };
    if let (Some(wanted), Some(kept)) = (amount(written), amount(read)) {
        return same_amount(wanted, kept, page);
    }
    if let (Some(wanted), Some(kept)) = (set(written), set(read)) {
        return wanted == kept;
    }
    is_among(written, read)
}

/// `8:0 1048576` or `8:0 rbps=5` among the lines, `1` in `oom_kill_disable 1` and in `default 1`,
/// `50000` in `50000 100000`.
fn is_among(written: &str, read: &str) -> bool {
    let wanted: Vec<&str> = written.split_whitespace().collect();
    let lines: Vec<Vec<&str>> =
        read.lines().map(|line| line.split_whitespace().collect()).collect();
    match wanted.as_slice() {
        [] => false,
        [one] => lines.first().is_some_and(|line| {
            line.len() == 2 && (line.first() == Some(one) || line.last() == Some(one))
        }),
        [key, values @ ..] => match lines.iter().find(|line| line.first() == Some(key)) {
            Some(line) => values.iter().all(|value| line.iter().skip(1).any(|kept| kept == value)),
            None => values.iter().all(|value| *value == "0" || value.ends_with("=max")),
        },
    }
}

/// Where the kernel's own "no limit" begins (PAGE_COUNTER_MAX in bytes, and beyond).
const BOUNDLESS: i128 = 1 << 62;

fn same_amount(wanted: i128, kept: i128, page: u128) -> bool {
    if wanted == kept {
        return true;
    }
    if wanted == -1 || wanted >= BOUNDLESS {
        return kept == -1 || kept >= BOUNDLESS;
    }
    // Only amounts of at least a page are rounded; 0 for 100 would not be what was asked.
    let (Ok(wanted), Ok(kept)) = (u128::try_from(wanted), u128::try_from(kept)) else {
        return false;
    };
    wanted >= page && kept % page == 0 && wanted.abs_diff(kept) < page
}

/// A number, or no limit, which is -1.
fn amount(text: &str) -> Option<i128> {
    if text == "max" {
        return Some(-1);
    }
    number(text)
}

/// A number as the kernel reads them: decimal, hexadecimal, or with a unit.
pub(super) fn number(text: &str) -> Option<i128> {
    let (digits, shift) = match text.char_indices().last()? {
        (end, 'k' | 'K') => (text.get(..end)?, 10),
        (end, 'm' | 'M') => (text.get(..end)?, 20),
        (end, 'g' | 'G') => (text.get(..end)?, 30),
        (end, 't' | 'T') => (text.get(..end)?, 40),
        _ => (text, 0),
    };
    let value = match digits.strip_prefix("0x") {
        Some(hexadecimal) => i128::from(u64::from_str_radix(hexadecimal, 16).ok()?),
        None => i128::from(digits.parse::<i64>().ok()?),
    };
    Some(value << shift)
}

/// `0-3,7` as the numbers it has.
fn set(text: &str) -> Option<Vec<u32>> {
    let mut members = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse::<u32>().ok()?);
        if last.checked_sub(first)? > 65_536 {
            return None;
        }
        members.extend(first..=last);
    }
    members.sort_unstable();
    members.dedup();
    Some(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(written: &str, read: &str) -> bool {
        is_kept(written.as_bytes(), read.as_bytes(), 4096)
    }

    #[test]
    fn the_same_value_in_another_form_is_kept() {
        for (written, read) in [
            ("268435456", "268435456\n"),
            ("256M", "268435456\n"),
            ("007", "7\n"),
            ("268435457", "268435456\n"),
            ("-1", "9223372036854771712\n"),
            ("-1", "-1\n"),
            ("9223372036854775807", "9223372036854771712\n"),
            ("max", "max\n"),
            ("-1", "max\n"),
            ("9223372036854775807", "max\n"),
            ("50000", "50000 100000\n"),
            ("max 20000", "max 20000\n"),
            ("100", "default 100\n8:0 5\n"),
            ("8:0 rbps=1048576", "8:0 rbps=1048576 wbps=max riops=max wiops=max\n"),
            ("8:0 rbps=max", ""),
            ("8:0 0", "8:16 5\n"),
            ("0,1", "0-1\n"),
            ("0-1,2", "0-2\n"),
            ("8:0  1048576", "8:0 1048576\n8:16 5\n"),
            ("1", "oom_kill_disable 1\nunder_oom 0\noom_kill 0\n"),
            ("FROZEN\n", "FROZEN\n"),
        ] {
            assert!(kept(written, read), "{written:?} reads {read:?}");
        }
    }

    #[test]
    fn another_value_is_not_kept() {
        for (written, read) in [
            ("1", "2\n"),
            ("100", "0\n"),
            ("268435456", "9223372036854771712\n"),
            ("268435456", "268431360\n"),
            ("50000", "-1\n"),
            ("garbage", "9223372036854771712\n"),
            ("0-1", "0\n"),
            ("8:0 1048576", "8:16 1048576\n"),
            ("1", "oom_kill_disable 0\nunder_oom 1\n"),
            ("max", "5\n"),
            ("5", "max\n"),
            ("50000 100000", "max 100000\n"),
            ("8:0 rbps=1048576", "8:0 rbps=4096 wbps=max riops=max wiops=max\n"),
            ("8:0 rbps=1048576", ""),
            ("5", ""),
        ] {
            assert!(!kept(written, read), "{written:?} reads {read:?}");
        }
    }
}
