// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

use crate::cursor::Cursor;
use crate::Malformed;

/// One of the things that a cgroup counts (§9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Gauge {
    /// Bytes of memory in use.
    Memory,
    /// The most that it has been.
    MemoryPeak,
    /// Its limit.
    MemoryLimit,
    /// Microseconds on a CPU.
    Cpu,
    /// Those in user mode.
    CpuUser,
    /// Those in the kernel.
    CpuSystem,
    /// Microseconds for which its processes had to wait because the quota was used up.
    CpuThrottled,
    /// Processes and threads.
    Pids,
    /// Their limit.
    PidsLimit,
    /// Processes that the OOM killer took.
    OomKills,
    /// Microseconds for which some of its tasks waited for a CPU.
    CpuSome,
    /// Microseconds for which some waited for memory.
    MemorySome,
    /// Microseconds for which all of them did.
    MemoryFull,
    /// Microseconds for which some waited for a disk.
    IoSome,
    /// Microseconds for which all of them did.
    IoFull,
}

const ALL: [(u8, Gauge); 15] = [
    (0x01, Gauge::Memory),
    (0x02, Gauge::MemoryPeak),
    (0x03, Gauge::MemoryLimit),
    (0x04, Gauge::Cpu),
    (0x05, Gauge::CpuUser),
    (0x06, Gauge::CpuSystem),
    (0x07, Gauge::CpuThrottled),
    (0x08, Gauge::Pids),
    (0x09, Gauge::PidsLimit),
    (0x0a, Gauge::OomKills),
    (0x0b, Gauge::CpuSome),
    (0x0c, Gauge::MemorySome),
    (0x0d, Gauge::MemoryFull),
    (0x0e, Gauge::IoSome),
    (0x0f, Gauge::IoFull),
];

impl Gauge {
    /// In the order of their tags.
    pub fn all() -> impl Iterator<Item = Gauge> {
        ALL.into_iter().map(|(_, gauge)| gauge)
    }

    fn tag(self) -> u8 {
        ALL.into_iter().find(|(_, gauge)| *gauge == self).map_or(0, |(tag, _)| tag)
    }

    pub(crate) fn decode_all(cursor: &mut Cursor<'_>) -> Result<Vec<(Self, u64)>, Malformed> {
        let mut gauges: Vec<(Self, u64)> = Vec::new();
        while !cursor.is_empty() {
            let tag = cursor.u8("tag")?;
            let known = ALL.into_iter().find(|(known, _)| *known == tag);
            let (_, gauge) = known.ok_or(Malformed::Tag(tag))?;
            if gauges.iter().any(|(known, _)| *known == gauge) {
                return Err(Malformed::Twice(tag));
            }
            gauges.push((gauge, cursor.u64("value")?));
        }
        Ok(gauges)
    }

    pub(crate) fn encode_all(gauges: &[(Self, u64)], out: &mut Vec<u8>) {
        for (gauge, value) in gauges {
            out.push(gauge.tag());
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}
