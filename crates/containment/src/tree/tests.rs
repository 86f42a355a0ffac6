// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Finding and verifying. Nothing is signalled here: this process has other tests' children.

use std::ffi::CString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::*;

/// A child that is killed with the test.
struct Owned(Child);

impl Owned {
    /// A shell with a child of its own, and that one's pid.
    fn shell() -> (Self, u32) {
        let mut child = Command::new("/bin/sh")
            .args(["-c", "sleep 60 & echo $!; trap 'kill $!' TERM; read line; kill $!"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        (Self(child), line.trim().parse().expect("a pid"))
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // The shell's input ends, so it ends its child and itself.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

fn found(tree: &Tree) -> Vec<u32> {
    let mut pids = Vec::new();
    tree.walk(&mut |found| pids.push(found.pid));
    pids
}

#[test]
fn children_and_a_scan_find_the_same_descendants() {
    let (shell, grandchild) = Owned::shell();
    let me = std::process::id();
    let procfs = || Procfs::open(c"/proc").expect("/proc");
    for listing in [Listing::Children(procfs()), Listing::Scan(procfs())] {
        let pids = found(&Tree { me, listing: listing.into() });
        assert!(pids.contains(&shell.0.id()));
        assert!(pids.contains(&grandchild));
        assert!(!pids.contains(&me));
        assert!(!pids.contains(&1));
    }
}

/// A directory that stands for `/proc`, about processes that are there.
struct Invented(PathBuf);

impl Invented {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("proton-tree-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    fn process(&self, pid: u32, parent: u32, children: &[u32]) {
        let own = self.0.join(format!("{pid}/task/{pid}"));
        fs::create_dir_all(&own).expect("a directory");
        let stat = format!("{pid} (x) S {parent} 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 1 0 5 0\n");
        fs::write(self.0.join(format!("{pid}/stat")), stat).expect("stat");
        let children: Vec<String> = children.iter().map(u32::to_string).collect();
        fs::write(own.join("children"), children.join(" ")).expect("children");
    }

    fn tree(&self) -> Tree {
        let path = CString::new(self.0.as_os_str().as_encoded_bytes()).expect("a path");
        let tree = Tree::through(Procfs::open(&path).ok());
        assert!(matches!(tree.listing(), Listing::Children(_)));
        tree
    }
}

impl Drop for Invented {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_number_that_is_somebody_elses_by_now_is_passed_over() {
    let (shell, grandchild) = Owned::shell();
    let (me, child) = (std::process::id(), shell.0.id());
    let proc = Invented::new("recycled");
    proc.process(me, 1, &[child]);
    proc.process(child, me, &[grandchild]);
    proc.process(grandchild, child, &[]);
    assert_eq!(found(&proc.tree()), [child, grandchild]);
    // Listed under its parent of a moment ago, it is a stranger's child now.
    proc.process(grandchild, 4242, &[]);
    assert_eq!(found(&proc.tree()), [child]);
    // Adopted meanwhile: it is this process's own child.
    proc.process(grandchild, me, &[]);
    assert_eq!(found(&proc.tree()), [child, grandchild]);
    proc.process(child, 4242, &[grandchild]);
    assert_eq!(found(&proc.tree()), []);
}

#[test]
fn init_and_this_process_are_never_found() {
    let me = std::process::id();
    let proc = Invented::new("init");
    proc.process(me, 1, &[0, 1, me]);
    proc.process(1, me, &[me]);
    assert_eq!(found(&proc.tree()), []);
}

#[test]
fn a_child_that_is_hidden_is_found_all_the_same() {
    let (shell, _) = Owned::shell();
    let proc = Invented::new("hidden");
    proc.process(std::process::id(), 1, &[shell.0.id()]);
    assert_eq!(found(&proc.tree()), [shell.0.id()]);
}

#[test]
fn without_proc_the_tree_is_blind_and_says_so() {
    let proc = Invented::new("blind");
    let path = CString::new(proc.0.as_os_str().as_encoded_bytes()).expect("a path");
    let tree = Tree::through(Procfs::open(&path).ok());
    assert!(tree.is_blind());
    assert_eq!(found(&tree), []);
}
