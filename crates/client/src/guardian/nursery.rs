// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! This process's nursery: one process beside it that forks a guardian for each program, and
//! adopts what a guardian leaves which is killed (PROTOCOL §10).
//!
//! It is started by the first open and again by the first one after its end, and belongs to the
//! process, not to a runtime: a thread of its own reads what it tells.

use std::collections::HashMap;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use proton_stream_protocol::{
    Ending, FromNursery, Header, ToNursery, HEADER_LENGTH, PACKAGE_VERSION, SECRET_LENGTH,
};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::net::{send, socketpair, AddressFamily, SendFlags, SocketFlags, SocketType};
use tokio::sync::oneshot;

use super::locate::Executable;

/// How long a nursery may take to be ready.
const PATIENCE: Duration = Duration::from_secs(5);

/// For so long after one could not be started, or did not answer, there is none.
const PAUSE: Duration = Duration::from_secs(5);

/// Runs of this process, whatever nursery has them.
static NEXT_RUN: AtomicU64 = AtomicU64::new(1);

/// One for each guardian's executable; in practice one.
static NURSERIES: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

struct Entry {
    executable: Executable,
    /// A fork of this process has another one, and is not known to this one's nursery.
    controller: u32,
    state: Known,
}

enum Known {
    Starting(Vec<oneshot::Sender<()>>),
    Ready(Arc<Nursery>),
    NoneUntil(Instant),
}

pub(crate) struct Nursery {
    path: PathBuf,
    secret: [u8; SECRET_LENGTH],
    /// A socket: to write to a pipe whose reader has died is SIGPIPE, which a host may not ignore.
    orders: OwnedFd,
    runs: Mutex<HashMap<u64, Fate>>,
    is_gone: AtomicBool,
    /// It did not answer.
    suspected: Mutex<Option<Instant>>,
}

/// What is known of a run's guardian.
#[derive(Default)]
struct Fate {
    died: Option<Died>,
    waiting: Option<oneshot::Sender<Died>>,
}

/// How a guardian ended, and what of its tree could not be killed.
pub(crate) type Died = (Ending, Vec<u32>);

/// A run that the nursery may be asked about, for as long as this is held.
pub(crate) struct Ticket {
    nursery: Arc<Nursery>,
    run: u64,
}

/// What holds these is never left half changed.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The nursery, started if need be; `None` where there is none.
pub(crate) async fn nursery(executable: &Executable) -> Option<Arc<Nursery>> {
    match look(executable, true) {
        Look::Here(nursery) => return Some(nursery),
        Look::Nowhere => return None,
        // Also an error says that it is over.
        Look::Wait(coming) => drop(coming.await),
    }
    match look(executable, false) {
        Look::Here(nursery) => Some(nursery),
        Look::Nowhere | Look::Wait(_) => None,
    }
}

enum Look {
    Here(Arc<Nursery>),
    Nowhere,
    Wait(oneshot::Receiver<()>),
}

fn look(executable: &Executable, may_start: bool) -> Look {
    let controller = std::process::id();
    let mut nurseries = lock(&NURSERIES);
    nurseries.retain(|entry| entry.controller == controller);
    let place = nurseries.iter().position(|entry| entry.executable == *executable);
    match place.map(|place| &mut nurseries[place].state) {
        Some(Known::Ready(nursery)) if !nursery.is_gone.load(Ordering::Acquire) => {
            return match nursery.is_suspected() {
                true => Look::Nowhere,
                false => Look::Here(Arc::clone(nursery)),
            };
        }
        Some(Known::NoneUntil(until)) if Instant::now() < *until => return Look::Nowhere,
        Some(Known::Starting(waiting)) => {
            let (sender, coming) = oneshot::channel();
            waiting.push(sender);
            return Look::Wait(coming);
        }
        _ if !may_start => return Look::Nowhere,
        _ => {}
    }
    let (sender, coming) = oneshot::channel();
    nurseries.retain(|entry| entry.executable != *executable);
    let theirs = executable.clone();
    let thread = std::thread::Builder::new().name("proton-nursery".into());
    let state = match thread.spawn(move || serve(&theirs)) {
        Ok(_) => Known::Starting(vec![sender]),
        Err(_) => Known::NoneUntil(Instant::now() + PAUSE),
    };
    nurseries.push(Entry { executable: executable.clone(), controller, state });
    Look::Wait(coming)
}

fn publish(executable: &Executable, state: Known) {
    let mut nurseries = lock(&NURSERIES);
    if let Some(entry) = nurseries.iter_mut().find(|entry| entry.executable == *executable) {
        if let Known::Starting(waiting) = std::mem::replace(&mut entry.state, state) {
            drop(nurseries);
            for waiting in waiting {
                // Who waited may have given up.
                let _ = waiting.send(());
            }
        }
    }
}

/// The thread: starts a nursery and hears it out.
fn serve(executable: &Executable) {
    let Ok((mut child, orders, mut told, secret)) = begin(executable) else {
        return publish(executable, Known::NoneUntil(Instant::now() + PAUSE));
    };
    let Some(path) = await_ready(&mut told) else {
        publish(executable, Known::NoneUntil(Instant::now() + PAUSE));
        drop(orders);
        // It is our child and was not collected.
        let _ = child.kill();
        let _ = child.wait();
        return;
    };
    let nursery = Arc::new(Nursery {
        path,
        secret,
        orders,
        runs: Mutex::default(),
        is_gone: AtomicBool::new(false),
        suspected: Mutex::default(),
    });
    publish(executable, Known::Ready(Arc::clone(&nursery)));
    while let Some(frame) = next_frame(&mut told) {
        match FromNursery::decode(frame.0, &frame.1) {
            Ok(FromNursery::Died { run, ending, survivors }) => {
                nursery.died(run, (ending, survivors));
            }
            _ => break,
        }
    }
    nursery.is_gone.store(true, Ordering::Release);
    // Nobody knows any more what became of them.
    lock(&nursery.runs).values_mut().for_each(|fate| fate.waiting = None);
    let _ = child.wait();
}

type Begun = (Child, OwnedFd, ChildStdout, [u8; SECRET_LENGTH]);

fn begin(executable: &Executable) -> io::Result<Begun> {
    let mut secret = [0; SECRET_LENGTH];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut secret)?;
    let mut command = executable.command("nursery");
    let flags = SocketFlags::CLOEXEC;
    let (orders, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let mut child = command.stdin(Stdio::from(theirs)).stdout(Stdio::piped()).spawn()?;
    let told = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let mut nurse = Vec::new();
    let (package, controller) = (PACKAGE_VERSION.as_bytes(), std::process::id());
    ToNursery::Nurse { package, controller, secret }.encode(&mut nurse);
    // One that has gone at once is one that is not ready.
    let _ = say(&orders, &nurse);
    Ok((child, orders, told, secret))
}

/// So little that it is taken whole, or not at all: a nursery that is stopped blocks nobody.
fn say(orders: &OwnedFd, frame: &[u8]) -> rustix::io::Result<usize> {
    send(orders, frame, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
}

fn await_ready(told: &mut ChildStdout) -> Option<PathBuf> {
    let time = Timespec { tv_sec: PATIENCE.as_secs().try_into().ok()?, tv_nsec: 0 };
    let mut fds = [PollFd::from_borrowed_fd(told.as_fd(), PollFlags::IN)];
    if poll(&mut fds, Some(&time)).ok()? == 0 {
        return None;
    }
    let (kind, body) = next_frame(told)?;
    match FromNursery::decode(kind, &body) {
        Ok(FromNursery::Ready { path, .. }) => Some(
            Path::new(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(path)).into(),
        ),
        _ => None,
    }
}

fn next_frame(told: &mut ChildStdout) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; HEADER_LENGTH];
    told.read_exact(&mut head).ok()?;
    let header = Header::from_nursery(head).ok()?;
    let mut body = vec![0; header.body_length];
    told.read_exact(&mut body).ok()?;
    Some((header.kind, body))
}

impl Nursery {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn secret(&self) -> [u8; SECRET_LENGTH] {
        self.secret
    }

    /// For a while nobody asks it for a guardian.
    pub(crate) fn suspect(&self) {
        *lock(&self.suspected) = Some(Instant::now() + PAUSE);
    }

    fn is_suspected(&self) -> bool {
        lock(&self.suspected).is_some_and(|until| Instant::now() < until)
    }

    pub(super) fn enrol(self: &Arc<Self>) -> Ticket {
        let run = NEXT_RUN.fetch_add(1, Ordering::Relaxed);
        lock(&self.runs).insert(run, Fate::default());
        Ticket { nursery: Arc::clone(self), run }
    }

    fn died(&self, run: u64, died: Died) {
        let mut runs = lock(&self.runs);
        let Some(fate) = runs.get_mut(&run) else { return };
        // What was told unasked says more than the answer to a later question.
        let died = match (&fate.died, died.0) {
            (Some(before), Ending::Unknown) => before.clone(),
            _ => died,
        };
        match fate.waiting.take() {
            Some(waiting) => drop(waiting.send(died)),
            None => fate.died = Some(died),
        }
    }
}

impl Ticket {
    pub(super) fn run(&self) -> u64 {
        self.run
    }

    /// Has the run's guardian killed, with all that it holds.
    pub(crate) fn kill(&self) {
        let mut order = Vec::new();
        ToNursery::Kill { run: self.run }.encode(&mut order);
        // One that is gone has taken none of its guardians with it: they see to their own.
        let _ = say(&self.nursery.orders, &order);
    }

    /// What became of the guardian, once what it has left is dead; `None` where nobody knows.
    /// It is killed if it has not ended.
    pub(crate) async fn fate(&self) -> Option<Died> {
        let coming = {
            let mut runs = lock(&self.nursery.runs);
            let fate = runs.get_mut(&self.run)?;
            if let Some(died) = fate.died.take() {
                return Some(died);
            }
            let (sender, coming) = oneshot::channel();
            fate.waiting = Some(sender);
            coming
        };
        if self.nursery.is_gone.load(Ordering::Acquire) {
            return None;
        }
        self.kill();
        coming.await.ok()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        lock(&self.nursery.runs).remove(&self.run);
    }
}
