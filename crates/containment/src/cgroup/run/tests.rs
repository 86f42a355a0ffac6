// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! The logic of finding, making, locking and removing, in directories that stand for cgroup
//! mounts. What the kernel does with a group's files is in `beneath::pretend`.

use std::fs;
use std::path::PathBuf;

use super::super::mounts::{Mount, Version};
use super::super::Setting;
use super::*;

mod making;
mod occupied;
mod version_2;

/// A host whose hierarchies are directories.
struct Fake {
    root: PathBuf,
    hierarchy: Hierarchy,
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn names(list: &[&str]) -> Vec<Vec<u8>> {
    list.iter().map(|name| name.as_bytes().to_vec()).collect()
}

fn directory(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("proton-run-{}-{name}", std::process::id()))
}

impl Fake {
    fn mount(root: &std::path::Path, version: Version, controllers: &[&str]) -> Mount {
        let point = root.join(controllers.join(","));
        for group in ["", "base", "base/other"] {
            fs::create_dir_all(point.join(group)).expect("a mount");
            for file in ["cgroup.procs", "limit"] {
                fs::write(point.join(group).join(file), "").expect("a file");
            }
        }
        Mount {
            point: point.into_os_string().into_encoded_bytes(),
            root: b"/".to_vec(),
            version,
            controllers: names(controllers),
            magic: None,
        }
    }

    fn new(name: &str) -> Self {
        let root = directory(name);
        let mount = |controllers: &[&str]| Self::mount(&root, Version::V1, controllers);
        let hierarchy = Hierarchy::V1(vec![mount(&["memory"]), mount(&["cpu", "cpuacct"])]);
        Self { root, hierarchy }
    }

    /// The groups and files in a directory.
    fn groups(&self, mount: &str, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.root.join(mount).join(path)).expect("a directory");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("an entry"))
            .filter(|entry| entry.path().is_dir())
            .map(|entry| entry.file_name().into_string().expect("text"))
            .collect();
        names.sort();
        names
    }

    /// This process is in `base`.
    fn host(&self) -> Host {
        Host {
            hierarchy: self.hierarchy.clone(),
            memberships: b"2:memory:/base\n1:cpu,cpuacct:/base\n0::/base\n".to_vec(),
            is_root: true,
        }
    }

    fn made(&self, request: &Request) -> Result<Run, Error> {
        prepare_at(request, &self.host(), &Around::default())
    }

    fn group(&self, path: &str) -> PathBuf {
        let group = self.root.join(path);
        fs::create_dir_all(&group).expect("a group");
        for file in ["cgroup.procs", "limit"] {
            fs::write(group.join(file), "").expect("its file");
        }
        group
    }
}

fn request(controllers: &[&str], place: Where) -> Request {
    Request {
        controllers: names(controllers),
        place: Some(place),
        wait: Duration::from_millis(50),
        ..Request::default()
    }
}

fn base(path: &str) -> Where {
    Where::Base(path.as_bytes().to_vec())
}

fn at(path: &str) -> Where {
    Where::Path(path.as_bytes().to_vec())
}

fn setting(controller: &str, file: &str, value: &str) -> Setting {
    Setting { controller: controller.into(), file: file.into(), value: value.into() }
}

fn refusal(host: &Fake, request: &Request) -> (Step, i32, Vec<u8>) {
    let error = host.made(request).expect_err("refused");
    (error.step, error.errno, error.detail)
}

fn leaf(run: &Run) -> String {
    String::from_utf8(run.path().to_vec()).expect("text")
}
