// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Names of version 2 on version 1 mounts.

use super::super::settings::number;
use super::{between, scaled, Context, Write};
use crate::Error;

/// Files that only version 2 has, and nothing on version 1 has the effect of.
const WITHOUT_COUNTERPART: [&[u8]; 16] = [
    b"memory.min",
    b"memory.low",
    b"memory.high",
    b"memory.oom.group",
    b"memory.reclaim",
    b"memory.swap.high",
    b"memory.zswap.max",
    b"memory.zswap.writeback",
    b"cpu.weight.nice",
    b"io.latency",
    b"io.cost.qos",
    b"io.cost.model",
    b"cpuset.cpus.partition",
    b"cpuset.cpus.exclusive",
    b"cgroup.freeze",
    b"cgroup.type",
];

/// What `io.max` has, and where version 1 has it.
const THROTTLES: [(&str, &[u8]); 4] = [
    ("rbps", b"blkio.throttle.read_bps_device"),
    ("wbps", b"blkio.throttle.write_bps_device"),
    ("riops", b"blkio.throttle.read_iops_device"),
    ("wiops", b"blkio.throttle.write_iops_device"),
];

pub(super) fn translate(context: &Context<'_>, into: &mut Vec<Write>) -> Result<(), Error> {
    let value = context.value();
    let write = match context.wish.file.as_slice() {
        b"memory.max" => context.write(b"memory.limit_in_bytes", amount(value))?,
        b"memory.swap.max" => context.write(b"memory.memsw.limit_in_bytes", swap(context)?)?,
        b"cpu.max" => {
            let mut words = value.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
            let (quota, period, more) = (words.next(), words.next(), words.next());
            if more.is_some() {
                return Err(context.refuse("the value is not QUOTA PERIOD"));
            }
            if let Some(period) = period {
                into.push(context.write(b"cpu.cfs_period_us", period)?);
            }
            context.write(b"cpu.cfs_quota_us", amount(quota.unwrap_or_default()))?
        }
        b"cpu.max.burst" => context.write(b"cpu.cfs_burst_us", value)?,
        b"cpu.weight" => {
            let shares = scaled(context.number()?, 1024, 100, 2, 262_144);
            context.write(b"cpu.shares", shares.to_string())?
        }
        b"io.weight" => context.write(b"blkio.weight", weight(context)?)?,
        b"io.bfq.weight" => context.write(b"blkio.bfq.weight", value)?,
        b"io.max" => return throttles(context, into),
        name => {
            if let Some(size) = between(name, b"hugetlb.", b".max") {
                let file = [b"hugetlb.".as_slice(), size, b".limit_in_bytes"].concat();
                context.write(&file, amount(value))?
            } else if WITHOUT_COUNTERPART.contains(&name) {
                return Err(context.refuse("no counterpart on cgroup v1"));
            } else {
                context.write(name, context.wish.value.as_slice())?
            }
        }
    };
    into.push(write);
    Ok(())
}

/// No limit is `max` on version 2, but for pids on both.
fn amount(value: &[u8]) -> &[u8] {
    if value == b"max" {
        b"-1"
    } else {
        value
    }
}

/// Version 2 limits swap by itself, version 1 memory and swap together.
fn swap(context: &Context<'_>) -> Result<Vec<u8>, Error> {
    if context.is_boundless() {
        return Ok(b"-1".to_vec());
    }
    let swap = context.number()?;
    let memory = context.other(b"memory.max").or(context.other(b"memory.limit_in_bytes"));
    let memory = memory.and_then(|text| number(std::str::from_utf8(text).ok()?));
    match memory.filter(|memory| *memory >= 0) {
        Some(memory) if context.comes_later(b"memory.max") => Err(context.refuse(&format!(
            "on cgroup v1 it is a limit of both, {}, which can't be set before memory.max",
            memory + swap
        ))),
        Some(memory) => Ok((memory + swap).to_string().into()),
        None => Err(context.refuse(
            "on cgroup v1 memory and swap are limited together: give memory.max as well, from \
             which the sum is known, or memory.memsw.limit_in_bytes",
        )),
    }
}

/// `100` or `default 100`; a weight for one device has another file.
fn weight(context: &Context<'_>) -> Result<String, Error> {
    let text = String::from_utf8_lossy(context.value()).into_owned();
    let number = number(text.strip_prefix("default ").unwrap_or(&text));
    let number = number
        .filter(|number| *number >= 0)
        .ok_or_else(|| context.refuse("the value is not a number"))?;
    Ok(scaled(number, 500, 100, 10, 1000).to_string())
}

fn throttles(context: &Context<'_>, into: &mut Vec<Write>) -> Result<(), Error> {
    let malformed = || context.refuse("the value is not MAJOR:MINOR KEY=NUMBER ...");
    let text = String::from_utf8_lossy(context.value()).into_owned();
    let mut words = text.split_whitespace();
    let device = words.next().ok_or_else(malformed)?;
    for word in words {
        let (key, limit) = word.split_once('=').ok_or_else(malformed)?;
        let (_, file) =
            THROTTLES.into_iter().find(|(known, _)| *known == key).ok_or_else(malformed)?;
        let limit = if limit == "max" { "0" } else { limit };
        into.push(context.write(file, format!("{device} {limit}"))?);
    }
    Ok(())
}
