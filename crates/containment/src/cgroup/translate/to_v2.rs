// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Names of version 1 on a version 2 tree.

use super::super::settings::number;
use super::{between, scaled, Context, Write};
use crate::Error;

/// Files that only version 1 has, and nothing on version 2 has the effect of. Whole names, or all
/// that begin so where there is a `*`.
const WITHOUT_COUNTERPART: [&str; 22] = [
    "memory.kmem.*",
    "memory.swappiness",
    "memory.oom_control",
    "memory.move_charge_at_immigrate",
    "memory.force_empty",
    "memory.pressure_level",
    "cpu.rt_period_us",
    "cpu.rt_runtime_us",
    "cpuacct.*",
    "blkio.*",
    "freezer.*",
    "devices.*",
    "net_cls.*",
    "net_prio.*",
    "cpuset.cpu_exclusive",
    "cpuset.mem_exclusive",
    "cpuset.mem_hardwall",
    "cpuset.memory_*",
    "cpuset.sched_*",
    "hugetlb.*.rsvd.limit_in_bytes",
    "notify_on_release",
    "tasks",
];

/// The kernel's, where a quota is given without a period.
const DEFAULT_PERIOD: &[u8] = b"100000";

pub(super) fn translate(context: &Context<'_>, into: &mut Vec<Write>) -> Result<(), Error> {
    let value = context.value();
    let write = match context.wish.file.as_slice() {
        b"memory.limit_in_bytes" => context.write(b"memory.max", amount(value))?,
        // Version 1 pushes a group back to it under pressure only, version 2 always.
        b"memory.soft_limit_in_bytes" => context.write(b"memory.high", amount(value))?,
        b"memory.memsw.limit_in_bytes" => context.write(b"memory.swap.max", swap(context)?)?,
        // It is always so on version 2.
        b"memory.use_hierarchy" if value == b"1" => return Ok(()),
        b"cpu.cfs_quota_us" => {
            if context.comes_later(b"cpu.cfs_period_us") {
                return Ok(());
            }
            let period = context.other(b"cpu.cfs_period_us").unwrap_or(DEFAULT_PERIOD);
            context.write(b"cpu.max", [amount(value), period].join(b" ".as_slice()))?
        }
        b"cpu.cfs_period_us" => {
            if context.comes_later(b"cpu.cfs_quota_us") {
                return Ok(());
            }
            let quota = amount(context.other(b"cpu.cfs_quota_us").unwrap_or(b"-1"));
            context.write(b"cpu.max", [quota, value].join(b" ".as_slice()))?
        }
        b"cpu.cfs_burst_us" => context.write(b"cpu.max.burst", value)?,
        // As the kernel itself converts: 1024 shares are a weight of 100.
        b"cpu.shares" => {
            let weight = scaled(context.number()?, 100, 1024, 1, 10_000);
            context.write(b"cpu.weight", weight.to_string())?
        }
        // As systemd converts: the defaults are 500 and 100.
        b"blkio.weight" => {
            let weight = scaled(context.number()?, 100, 500, 1, 10_000);
            context.write(b"io.weight", weight.to_string())?
        }
        b"blkio.bfq.weight" => context.write(b"io.bfq.weight", value)?,
        b"blkio.throttle.read_bps_device" => throttle(context, "rbps")?,
        b"blkio.throttle.write_bps_device" => throttle(context, "wbps")?,
        b"blkio.throttle.read_iops_device" => throttle(context, "riops")?,
        b"blkio.throttle.write_iops_device" => throttle(context, "wiops")?,
        name => {
            if let Some(size) = between(name, b"hugetlb.", b".limit_in_bytes") {
                let file = [b"hugetlb.".as_slice(), size, b".max"].concat();
                context.write(&file, amount(value))?
            } else if WITHOUT_COUNTERPART.iter().any(|known| matches(known, name)) {
                return Err(context.refuse("no counterpart on cgroup v2"));
            } else {
                context.write(name, context.wish.value.as_slice())?
            }
        }
    };
    into.push(write);
    Ok(())
}

fn matches(known: &str, name: &[u8]) -> bool {
    match known.split_once('*') {
        None => known.as_bytes() == name,
        Some((start, end)) => name.starts_with(start.as_bytes()) && name.ends_with(end.as_bytes()),
    }
}

/// No limit is -1 on version 1.
fn amount(value: &[u8]) -> &[u8] {
    if value == b"-1" {
        b"max"
    } else {
        value
    }
}

/// Version 1 limits memory and swap together, version 2 swap by itself.
fn swap(context: &Context<'_>) -> Result<Vec<u8>, Error> {
    if context.is_boundless() {
        return Ok(b"max".to_vec());
    }
    let both = context.number()?;
    let memory = context.other(b"memory.limit_in_bytes").or(context.other(b"memory.max"));
    let memory = memory.and_then(|text| number(std::str::from_utf8(text).ok()?));
    match memory {
        Some(memory) if (0..=both).contains(&memory) => Ok((both - memory).to_string().into()),
        Some(_) => Err(context.refuse("it is less than memory.limit_in_bytes")),
        None => Err(context.refuse(
            "on cgroup v2 swap is limited by itself: give memory.limit_in_bytes as well, from \
             which the difference is known, or memory.swap.max",
        )),
    }
}

/// `8:0 1048576` is `8:0 rbps=1048576`, and 0 is no limit.
fn throttle(context: &Context<'_>, kind: &str) -> Result<Write, Error> {
    let text = String::from_utf8_lossy(context.value()).into_owned();
    let words: Vec<&str> = text.split_whitespace().collect();
    let [device, limit] = words.as_slice() else {
        return Err(context.refuse("the value is not MAJOR:MINOR NUMBER"));
    };
    let limit = if *limit == "0" { "max" } else { limit };
    context.write(b"io.max", format!("{device} {kind}={limit}"))
}
