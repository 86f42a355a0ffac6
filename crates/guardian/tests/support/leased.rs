// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! A start that takes long.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

use std::fs::remove_dir_all;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::directory;

/// A program whose exec takes long: it is leased to somebody who does not give it up, which the
/// kernel waits for 45 seconds (fcntl(2), F_SETLEASE).
pub struct Leased {
    directory: PathBuf,
    holder: Child,
}

const LEASE: &str = "import fcntl, os, signal, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)
file = os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print('leased', flush=True)
sys.stdin.read()";

impl Leased {
    pub fn new(name: &str) -> Self {
        let directory = directory(name);
        let path = directory.join("program");
        std::fs::copy("/bin/true", &path).unwrap();
        let mut holder = Command::new("python3");
        holder.args(["-c", LEASE]).arg(&path).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = holder.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "leased\n");
        Leased { directory, holder }
    }

    pub fn path(&self) -> String {
        self.directory.join("program").to_str().unwrap().to_owned()
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
        let _ = remove_dir_all(&self.directory);
    }
}
