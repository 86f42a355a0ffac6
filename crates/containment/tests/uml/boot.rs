// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Gets a user-mode Linux and boots it with this executable in its initial file system.
//!
//! Nothing is installed: two packages are downloaded and unpacked below the target directory, once.
//! The executable goes in with the shared libraries that it has mapped, at the paths that the
//! dynamic loader looks at: a second, static build would cost more than the boot.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{kill_process_group, Pid, Signal};

use super::cpio::Archive;

/// What the guest prints last, with its status.
const LAST_LINE: &str = "the tests in the guest ended with status";

/// All of it takes about 20 s.
const DEADLINE: Duration = Duration::from_secs(85);

const SETUP: &str = "\
user-mode Linux is needed to test cgroup version 2, and could not be fetched. To set it up:
    sudo apt-get update && sudo apt-get install user-mode-linux busybox-static";

/// Boots, shows what the guest says, and takes over its status.
pub(crate) fn run(words: &[&str]) -> ExitCode {
    let began = Instant::now();
    let cache = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("uml");
    fs::create_dir_all(&cache).expect("a directory below the target directory");
    let tools = match Tools::find(&cache) {
        Ok(tools) => tools,
        Err(why) => {
            eprintln!("{why}\n{SETUP}");
            return ExitCode::FAILURE;
        }
    };
    let own = cache.join(format!("run-{}", std::process::id()));
    fs::create_dir_all(&own).expect("a directory of our own");
    let archive = own.join("initramfs");
    fs::write(&archive, initramfs(&tools.busybox, words)).expect("the initial file system");
    let output = boot(&tools.linux, &archive, &own);
    let _ = fs::remove_dir_all(&own);
    print!("{output}");
    println!("the guest ran for {} s", began.elapsed().as_secs());
    if output.lines().any(|line| line.trim_end() == format!("{LAST_LINE} 0")) {
        return ExitCode::SUCCESS;
    }
    ExitCode::FAILURE
}

/// The programs that the host needs.
struct Tools {
    linux: PathBuf,
    busybox: PathBuf,
}

impl Tools {
    /// Installed ones, or those in the cache, filled first if need be.
    fn find(cache: &Path) -> Result<Self, String> {
        let unpacked = cache.join("unpacked");
        Self::among(&["/".as_ref(), &unpacked]).map_or_else(|| Self::fetch(cache, &unpacked), Ok)
    }

    fn among(roots: &[&Path]) -> Option<Self> {
        let find = |names: [&str; 2]| {
            let places = roots.iter().flat_map(|root| names.map(|name| root.join(name)));
            places.into_iter().find(|path| is_static_enough(path))
        };
        Some(Self {
            linux: find(["usr/bin/linux.uml", "usr/bin/linux"])?,
            busybox: find(["bin/busybox", "usr/bin/busybox"])?,
        })
    }

    fn fetch(cache: &Path, unpacked: &Path) -> Result<Self, String> {
        // A download of its own, renamed when it is whole: two tests may run at the same time.
        let own = cache.join(format!("fetch-{}", std::process::id()));
        fs::create_dir_all(&own).map_err(|error| error.to_string())?;
        let download = || command(&own, "apt-get -q download user-mode-linux busybox-static");
        let result = download()
            .or_else(|why| {
                // A fresh machine has no lists of packages yet; only root may get them.
                command(&own, "apt-get -q update").map_err(|_| why)?;
                download()
            })
            .and_then(|()| {
                for entry in fs::read_dir(&own).expect("our own directory").flatten() {
                    let name = entry.file_name().into_string().unwrap_or_default();
                    if name.ends_with(".deb") {
                        command(&own, &format!("dpkg -x {name} root"))?;
                    }
                }
                Ok(())
            });
        if result.is_ok() {
            // Where another test was quicker its files are as good.
            let _ = fs::rename(own.join("root"), unpacked);
        }
        let _ = fs::remove_dir_all(&own);
        result?;
        Self::among(&[unpacked]).ok_or_else(|| "the packages don't have what was expected".into())
    }
}

/// Runs a command, for a minute at most.
fn command(directory: &Path, line: &str) -> Result<(), String> {
    let status = Command::new("timeout")
        .args(["-k", "5", "60"])
        .args(line.split(' '))
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{line}: {status}")),
        Err(error) => Err(format!("{line}: {error}")),
    }
}

/// Whether it is there and is no script; a busybox that needs libraries would not run in the guest.
fn is_static_enough(path: &Path) -> bool {
    let Ok(bytes) = fs::read(path) else { return false };
    let is_linux = path.file_name().is_some_and(|name| name != "busybox");
    bytes.starts_with(b"\x7fELF") && (is_linux || interpreter(&bytes).is_none())
}

/// The dynamic loader that an executable names, near its beginning.
fn interpreter(executable: &[u8]) -> Option<String> {
    let head = executable.get(..4096).unwrap_or(executable);
    let start = head.windows(4).position(|window| window == b"/lib")?;
    let rest = head.get(start..)?;
    let end = rest.iter().position(|&byte| byte == 0)?;
    let path = std::str::from_utf8(rest.get(..end)?).ok()?;
    path.contains("/ld-").then(|| path.to_owned())
}

/// The files that this process has mapped to execute: itself, its libraries, the loader.
fn mapped() -> BTreeSet<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").expect("maps");
    let lines = maps.lines().filter(|line| line.contains("r-xp"));
    let paths = lines.filter_map(|line| line.find('/').and_then(|start| line.get(start..)));
    paths.map(PathBuf::from).collect()
}

fn initramfs(busybox: &Path, words: &[&str]) -> Vec<u8> {
    let own = std::env::current_exe().expect("this executable");
    let executable = fs::read(&own).expect("this executable");
    let mut archive = Archive::default();
    for path in ["bin", "dev", "etc", "lib", "lib64", "proc", "sys", "tmp"] {
        archive.directory(path);
    }
    archive.file("bin/busybox", &fs::read(busybox).expect("busybox"));
    archive.file("etc/passwd", b"root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n");
    archive.file("etc/group", b"root:x:0:\nnogroup:x:65534:\n");
    for library in mapped().iter().filter(|path| **path != own) {
        let name = library.file_name().and_then(|name| name.to_str()).expect("a name");
        let content = fs::read(library).expect("a library");
        archive.file(&format!("lib/{name}"), &content);
        if let Some(loader) = interpreter(&executable).filter(|path| path.ends_with(name)) {
            archive.file(loader.trim_start_matches('/'), &content);
        }
    }
    archive.file("test", &executable);
    let words = words
        .iter()
        .filter(|word| word.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_'));
    let words: Vec<&str> = words.copied().collect();
    let init = format!(
        "#!/bin/busybox sh\n\
         /bin/busybox --install -s /bin\n\
         export PATH=/bin LD_LIBRARY_PATH=/lib RUST_BACKTRACE=0\n\
         mount -t proc proc /proc\n\
         mount -t sysfs sysfs /sys\n\
         mount -t devtmpfs devtmpfs /dev\n\
         mount -t tmpfs tmpfs /tmp\n\
         mount -t cgroup2 cgroup2 /sys/fs/cgroup\n\
         for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do\n\
         echo +$controller > /sys/fs/cgroup/cgroup.subtree_control\n\
         done\n\
         /test --guest {} < /dev/null > /dev/console 2>&1\n\
         echo {LAST_LINE} $? > /dev/console\n\
         poweroff -f\n",
        words.join(" ")
    );
    archive.file("init", init.as_bytes());
    archive.finish()
}

/// Builds what [`boot`] preloads, and for which `fpregs.c` has the reason. The compiler is the one that links Rust.
fn preloaded(own: &Path) -> PathBuf {
    let (source, library) = (own.join("fpregs.c"), own.join("fpregs.so"));
    fs::write(&source, include_str!("fpregs.c")).expect("a source");
    let options = ["-shared", "-fPIC", "-O1", "-o"];
    let status = Command::new("cc").args(options).args([&library, &source]).status();
    assert!(status.expect("cc").success(), "cc could not build {}", source.display());
    library
}

fn boot(linux: &Path, archive: &Path, own: &Path) -> String {
    let log = own.join("console");
    let console = fs::File::create(&log).expect("a console");
    let mut child = Command::new(linux)
        .arg("mem=256M")
        .arg(format!("initrd={}", archive.display()))
        .arg(format!("uml_dir={}", own.display()))
        .args(["rdinit=/init", "con=null", "con0=null,fd:1", "con1=null", "ssl=null"])
        .args(["quiet", "panic=-1"])
        // Where its memory is; the default may be mounted without the right to execute.
        .env("TMPDIR", own)
        .env("LD_PRELOAD", preloaded(own))
        .stdin(Stdio::null())
        .stdout(console.try_clone().expect("a console"))
        .stderr(console)
        .process_group(0)
        .spawn()
        .expect("user-mode Linux");
    let ended = wait(&mut child);
    let mut output = String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
    if !ended {
        output.push_str("\nthe guest was killed at its deadline\n");
    }
    output
}

/// Waits for the guest; one that is late is killed, with the processes that are its own.
fn wait(child: &mut Child) -> bool {
    let began = Instant::now();
    while child.try_wait().expect("our own child").is_none() {
        if began.elapsed() > DEADLINE {
            if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            child.wait().expect("our own child");
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}
