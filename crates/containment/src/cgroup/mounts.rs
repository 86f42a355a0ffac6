// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Which cgroup hierarchies are mounted where, from `/proc/self/mountinfo`.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{fstatfs, open, Mode, OFlags};
use rustix::io::Errno;

/// Which of the kernel's two interfaces a hierarchy has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V2,
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) point: Vec<u8>,
    /// Which group of the hierarchy is seen there.
    pub(super) root: Vec<u8>,
    pub(super) version: Version,
    /// Several where they are mounted together (`cpu,cpuacct`), or on version 2.
    pub(super) controllers: Vec<Vec<u8>>,
    /// The type that its file system must have; `None` only in tests, which have directories in
    /// its place.
    pub(super) magic: Option<u64>,
}

/// How this host has its controllers; decided once, before a group is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hierarchy {
    /// No cgroup file system is mounted.
    None,
    /// A mount for each controller.
    V1(Vec<Mount>),
    /// One tree for all.
    V2(Mount),
    /// Controllers on version 1 mounts, and beside them a version 2 tree with the others, or with
    /// none.
    Hybrid(Vec<Mount>, Mount),
}

/// Where a controller is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// At this mount, under this name.
    At(&'a Mount, &'a [u8]),
    /// What it is wanted for is in every group of version 2, without being enabled.
    Core(&'a Mount),
}

/// CGROUP_SUPER_MAGIC and CGROUP2_SUPER_MAGIC of `statfs(2)`.
const V1_MAGIC: u64 = 0x0027_e0eb;
const V2_MAGIC: u64 = 0x6367_7270;

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

impl Mount {
    /// Opens it, if it is what it says.
    pub(super) fn open(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = open(self.point.as_slice(), flags, Mode::empty())?;
        let kind = u64::try_from(fstatfs(&fd)?.f_type).ok();
        if self.magic.is_some() && kind != self.magic {
            return Err(Errno::NOTSUP);
        }
        Ok(fd)
    }
}

impl Hierarchy {
    /// What is mounted, and, from the version 2 tree itself, which controllers that has.
    pub(super) fn detect(mountinfo: &[u8]) -> Self {
        let mut hierarchy = Self::parse(mountinfo);
        if let Self::V2(tree) | Self::Hybrid(_, tree) = &mut hierarchy {
            let file = Path::new(OsStr::from_bytes(&tree.point)).join("cgroup.controllers");
            let names = std::fs::read(file).unwrap_or_default();
            tree.controllers = names
                .split(u8::is_ascii_whitespace)
                .filter(|name| !name.is_empty())
                .map(<[u8]>::to_vec)
                .collect();
        }
        hierarchy
    }

    fn parse(mountinfo: &[u8]) -> Self {
        let mounts: Vec<Mount> =
            mountinfo.split(|&byte| byte == b'\n').filter_map(parse_line).collect();
        let (v1, mut v2): (Vec<_>, Vec<_>) =
            mounts.into_iter().partition(|mount| mount.version == Version::V1);
        // Of several mounts the last hides those under it.
        match (v1.is_empty(), v2.pop()) {
            (true, None) => Self::None,
            (false, None) => Self::V1(v1),
            (true, Some(tree)) => Self::V2(tree),
            (false, Some(tree)) => Self::Hybrid(v1, tree),
        }
    }

    /// Version 1 mounts.
    pub(super) fn v1(&self) -> &[Mount] {
        match self {
            Self::V1(mounts) | Self::Hybrid(mounts, _) => mounts,
            Self::None | Self::V2(_) => &[],
        }
    }

    /// Each mount once: version 1 mounts several controllers together.
    pub(super) fn mounts(&self) -> Vec<&Mount> {
        let mut mounts: Vec<&Mount> = self.v1().iter().chain(self.tree()).collect();
        mounts.sort_by(|a, b| a.point.cmp(&b.point));
        mounts.dedup_by(|a, b| a.point == b.point);
        mounts
    }

    /// The version 2 tree, with or without controllers.
    pub(super) fn tree(&self) -> Option<&Mount> {
        match self {
            Self::V2(tree) | Self::Hybrid(_, tree) => Some(tree),
            Self::None | Self::V1(_) => None,
        }
    }

    /// Where a controller is, by the name that it has on either version. A controller is in one
    /// hierarchy at a time, so the order of looking decides nothing but what `cpuacct` and
    /// `freezer` mean on a hybrid host, where version 1 has them.
    pub(super) fn find<'a>(&'a self, controller: &'a [u8]) -> Option<Found<'a>> {
        let old = if controller == b"io" { b"blkio" } else { controller };
        let has = |mount: &Mount, name: &[u8]| mount.controllers.iter().any(|known| known == name);
        if let Some(mount) = self.v1().iter().rev().find(|mount| has(mount, old)) {
            return Some(Found::At(mount, old));
        }
        let tree = self.tree()?;
        match controller {
            b"cpuacct" | b"freezer" | b"perf_event" => Some(Found::Core(tree)),
            b"blkio" if has(tree, b"io") => Some(Found::At(tree, b"io")),
            name if has(tree, name) => Some(Found::At(tree, name)),
            _ => None,
        }
    }
}

/// `36 35 98:0 /root /point options [optional ...] - type source super,options`
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let root = unescaped(fields.nth(3)?);
    let point = unescaped(fields.next()?);
    fields.find(|field| *field == b"-")?;
    let kind = fields.next()?;
    let options = fields.nth(1)?;
    match kind {
        b"cgroup2" => Some(Mount {
            point,
            root,
            version: Version::V2,
            controllers: Vec::new(),
            magic: Some(V2_MAGIC),
        }),
        b"cgroup" => {
            let controllers = options
                .split(|&byte| byte == b',')
                .filter(|word| {
                    !OTHER_OPTIONS.contains(word) && !word.starts_with(b"release_agent=")
                })
                .map(<[u8]>::to_vec)
                .collect();
            Some(Mount { point, root, version: Version::V1, controllers, magic: Some(V1_MAGIC) })
        }
        _ => None,
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
34 31 0:34 / /sys/fs/cgroup/blkio rw,relatime - cgroup cgroup rw,blkio
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/a,name=systemd
41 31 0:38 / /with\\040space\\134 rw - cgroup cgroup rw,pids
42 31 0:33 / /over rw - cgroup cgroup rw,memory";
    const V2: &str =
        "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";

    fn point(hierarchy: &Hierarchy, controller: &str) -> Option<String> {
        match hierarchy.find(controller.as_bytes())? {
            Found::At(mount, _) => Some(String::from_utf8_lossy(&mount.point).into_owned()),
            Found::Core(_) => Some("core".into()),
        }
    }

    fn with(mut hierarchy: Hierarchy, names: &[&str]) -> Hierarchy {
        if let Hierarchy::V2(tree) | Hierarchy::Hybrid(_, tree) = &mut hierarchy {
            tree.controllers = names.iter().map(|name| name.as_bytes().to_vec()).collect();
        }
        hierarchy
    }

    #[test]
    fn each_controller_is_found_at_its_mount() {
        let hierarchy = Hierarchy::parse(V1.as_bytes());
        let cpu = Some("/sys/fs/cgroup/cpu,cpuacct".into());
        assert_eq!(point(&hierarchy, "cpu"), cpu);
        assert_eq!(point(&hierarchy, "cpuacct"), cpu);
        assert_eq!(point(&hierarchy, "pids"), Some("/with space\\".into()));
        assert_eq!(point(&hierarchy, "memory"), Some("/over".into()));
        assert_eq!(point(&hierarchy, "name=systemd"), Some("/sys/fs/cgroup/systemd".into()));
        assert_eq!(point(&hierarchy, "io"), Some("/sys/fs/cgroup/blkio".into()));
        assert_eq!(point(&hierarchy, "rw"), None);
        assert_eq!(point(&hierarchy, "cpus"), None);
    }

    #[test]
    fn the_hierarchy_is_told_by_what_is_mounted() {
        let of = |text: &str| Hierarchy::parse(text.as_bytes());
        assert_eq!(of(""), Hierarchy::None);
        assert!(matches!(of(V1), Hierarchy::V1(mounts) if mounts.len() == 6));
        assert!(matches!(of(V2), Hierarchy::V2(_)));
        assert!(
            matches!(of(&[V1, V2].join("\n")), Hierarchy::Hybrid(mounts, _) if mounts.len() == 6)
        );
    }

    #[test]
    fn the_old_names_are_found_in_one_tree() {
        let hierarchy = with(Hierarchy::parse(V2.as_bytes()), &["cpu", "io", "memory"]);
        let tree = Some("/sys/fs/cgroup".into());
        for name in ["cpu", "memory", "io", "blkio"] {
            assert_eq!(point(&hierarchy, name), tree, "{name}");
        }
        for name in ["cpuacct", "freezer"] {
            assert_eq!(point(&hierarchy, name), Some("core".into()), "{name}");
        }
        for name in ["devices", "net_cls", "pids", "name=systemd", ""] {
            assert_eq!(point(&hierarchy, name), None, "{name}");
        }
    }

    #[test]
    fn on_a_hybrid_host_each_controller_is_where_it_is() {
        let both = Hierarchy::parse([V1, V2].join("\n").as_bytes());
        let both = with(both, &["hugetlb"]);
        assert_eq!(point(&both, "memory"), Some("/over".into()));
        assert_eq!(point(&both, "hugetlb"), Some("/sys/fs/cgroup".into()));
        assert_eq!(point(&both, "rdma"), None);
    }

    #[test]
    fn lines_that_are_cut_are_passed_over() {
        for end in 0..V2.len() {
            let _ = Hierarchy::parse(&V2.as_bytes()[..end]);
        }
        assert_eq!(Hierarchy::parse(b"1 2 3 4\n\n- cgroup2\n"), Hierarchy::None);
    }
}
