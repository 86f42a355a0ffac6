// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Asking the system's name services, which may be on a network that is gone: never for longer
//! than a deadline, and not when nobody waits for the answer any more.

use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::io::Errno;

const DEADLINE: Duration = Duration::from_secs(2);

/// An entry of a user with very many groups still fits; more is no answer.
const LONGEST: usize = 1 << 20;

/// What `getent DATABASE NAME` prints, or `None` when it has no such entry (or there is no
/// getent). The error is an errno: ETIMEDOUT, or ECANCELED when `give_up` was hung up.
pub(super) fn ask(
    program: &str,
    database: &str,
    name: &[u8],
    give_up: Option<BorrowedFd<'_>>,
) -> Result<Option<Vec<u8>>, i32> {
    let spawned = Command::new(program)
        .args([database, "--"])
        .arg(OsStr::from_bytes(name))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.raw_os_error().unwrap_or(libc::EIO)),
    };
    let answer = match child.stdout.take() {
        Some(output) => collect(output, give_up),
        None => Err(libc::EIO),
    };
    let succeeded = end(child);
    Ok(Some(answer?).filter(|answer| succeeded && !answer.is_empty()))
}

/// Waits for it, though not for long, and kills it where that was in vain (by its handle, so that
/// nobody else can be hit). One that even SIGKILL doesn't move at once is collected with the
/// program's descendants.
fn end(mut child: Child) -> bool {
    for patience in 0..100 {
        if let Ok(Some(status)) = child.try_wait() {
            return status.success();
        }
        if patience == 20 {
            let _ = child.kill();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}

fn collect(
    mut output: std::process::ChildStdout,
    give_up: Option<BorrowedFd<'_>>,
) -> Result<Vec<u8>, i32> {
    let deadline = Instant::now() + DEADLINE;
    let mut answer = Vec::new();
    let mut chunk = [0_u8; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(libc::ETIMEDOUT);
        }
        let wait = Timespec {
            tv_sec: left.as_secs().try_into().unwrap_or(0),
            tv_nsec: left.subsec_nanos().into(),
        };
        let watched = give_up.unwrap_or(output.as_fd());
        let mut polled = [
            PollFd::from_borrowed_fd(output.as_fd(), PollFlags::IN),
            // Its input stays unread: it is the session's, not ours.
            PollFd::from_borrowed_fd(watched, PollFlags::RDHUP),
        ];
        match poll(&mut polled, Some(&wait)) {
            Ok(0) => return Err(libc::ETIMEDOUT),
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.raw_os_error()),
        }
        let hung_up = PollFlags::HUP | PollFlags::RDHUP | PollFlags::ERR | PollFlags::NVAL;
        let [answered, left] = polled.map(|fd| fd.revents());
        if give_up.is_some() && left.intersects(hung_up) {
            return Err(libc::ECANCELED);
        }
        if answered.is_empty() {
            continue;
        }
        match output.read(&mut chunk) {
            Ok(0) => return Ok(answer),
            Ok(count) => answer.extend_from_slice(chunk.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.raw_os_error().unwrap_or(libc::EIO)),
        }
        if answer.len() > LONGEST {
            return Err(libc::EMSGSIZE);
        }
    }
}
