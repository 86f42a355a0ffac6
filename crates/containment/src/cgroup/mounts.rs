// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Which cgroup hierarchies are mounted where, from `/proc/self/mountinfo`.

/// How this host has its controllers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hierarchy {
    /// No cgroup file system is mounted.
    None,
    /// A mount for each controller.
    V1,
    /// One tree for all.
    V2,
    /// Controllers on version 1 mounts, and a version 2 tree beside them.
    Hybrid,
}

/// One mount of version 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) point: Vec<u8>,
    /// Several where they are mounted together (`cpu,cpuacct`).
    pub(super) controllers: Vec<Vec<u8>>,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Mounts {
    v1: Vec<Mount>,
    v2: Option<Vec<u8>>,
    /// The type that a controller's file system must have; `None` only in tests, which have
    /// directories in its place.
    pub(super) magic: Option<u64>,
}

/// CGROUP_SUPER_MAGIC of `statfs(2)`.
const V1_MAGIC: u64 = 0x0027_e0eb;

/// Words of a version 1 mount's options that name no controller.
const OTHER_OPTIONS: [&[u8]; 9] = [
    b"rw",
    b"ro",
    b"noprefix",
    b"clone_children",
    b"xattr",
    b"cpuset_v2_mode",
    b"favordynmods",
    b"none",
    b"all",
];

impl Mounts {
    pub(super) fn parse(mountinfo: &[u8]) -> Self {
        let mut mounts = Self { v1: Vec::new(), v2: None, magic: Some(V1_MAGIC) };
        for line in mountinfo.split(|&byte| byte == b'\n') {
            mounts.add(line);
        }
        mounts
    }

    #[cfg(test)]
    pub(super) fn for_test(v1: Vec<Mount>) -> Self {
        Self { v1, v2: None, magic: None }
    }

    /// `36 35 98:0 /root /point options [optional ...] - type source super,options`
    fn add(&mut self, line: &[u8]) -> Option<()> {
        let mut fields = line.split(|&byte| byte == b' ');
        let point = unescaped(fields.nth(4)?);
        fields.find(|field| *field == b"-")?;
        let kind = fields.next()?;
        let options = fields.nth(1)?;
        match kind {
            b"cgroup2" => self.v2 = Some(point),
            b"cgroup" => {
                let controllers: Vec<Vec<u8>> = options
                    .split(|&byte| byte == b',')
                    .filter(|word| {
                        !OTHER_OPTIONS.contains(word) && !word.starts_with(b"release_agent=")
                    })
                    .map(<[u8]>::to_vec)
                    .collect();
                self.v1.push(Mount { point, controllers });
            }
            _ => {}
        }
        Some(())
    }

    pub(super) fn hierarchy(&self) -> Hierarchy {
        match (self.v1.is_empty(), &self.v2) {
            (true, None) => Hierarchy::None,
            (false, None) => Hierarchy::V1,
            (true, Some(_)) => Hierarchy::V2,
            (false, Some(_)) => Hierarchy::Hybrid,
        }
    }

    /// Where a controller is; of several mounts the last, which hides those under it.
    pub(super) fn find(&self, controller: &[u8]) -> Option<&Mount> {
        self.v1.iter().rev().find(|mount| mount.controllers.iter().any(|name| name == controller))
    }
}

/// The kernel writes space, tab, newline and backslash as `\ooo`.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        if let (b'\\', Some([a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7'])) =
            (first, tail.get(..3))
        {
            plain.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
            rest = tail.get(3..).unwrap_or_default();
        } else {
            plain.push(first);
            rest = tail;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
33 31 0:33 /docker/1 /sys/fs/cgroup/memory rw,relatime shared:10 master:4 - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/a,name=systemd
41 31 0:38 / /with\\040space\\134 rw - cgroup cgroup rw,pids
42 31 0:33 / /over rw - cgroup cgroup rw,memory";
    const V2: &str =
        "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";

    fn point(mounts: &Mounts, controller: &str) -> Option<String> {
        let mount = mounts.find(controller.as_bytes())?;
        Some(String::from_utf8_lossy(&mount.point).into_owned())
    }

    #[test]
    fn each_controller_is_found_at_its_mount() {
        let mounts = Mounts::parse(V1.as_bytes());
        let cpu = Some("/sys/fs/cgroup/cpu,cpuacct".into());
        assert_eq!(point(&mounts, "cpu"), cpu);
        assert_eq!(point(&mounts, "cpuacct"), cpu);
        assert_eq!(point(&mounts, "pids"), Some("/with space\\".into()));
        assert_eq!(point(&mounts, "memory"), Some("/over".into()));
        assert_eq!(point(&mounts, "name=systemd"), Some("/sys/fs/cgroup/systemd".into()));
        assert_eq!(point(&mounts, "rw"), None);
        assert_eq!(point(&mounts, "cpus"), None);
    }

    #[test]
    fn the_hierarchy_is_told_by_what_is_mounted() {
        let of = |text: &str| Mounts::parse(text.as_bytes()).hierarchy();
        assert_eq!(of(""), Hierarchy::None);
        assert_eq!(of(V1), Hierarchy::V1);
        assert_eq!(of(V2), Hierarchy::V2);
        assert_eq!(of(&[V1, V2].join("\n")), Hierarchy::Hybrid);
    }

    #[test]
    fn lines_that_are_cut_are_passed_over() {
        for end in 0..V2.len() {
            let _ = Mounts::parse(&V2.as_bytes()[..end]);
        }
        assert_eq!(Mounts::parse(b"1 2 3 4\n\n- cgroup2\n").hierarchy(), Hierarchy::None);
    }
}
