// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! The one loop between a controller and its program. It blocks nowhere but in
//! its poll, and reads the controller in every state.

mod hearing;

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use proton_stream_containment::{
    give_memory_back, start, Ahead, Announce, Around, Error, Signals, Starting, Step,
};
use proton_stream_protocol::{Cause, FromGuardian, Open, PACKAGE_VERSION};
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::process::chdir;

use crate::ending::{ends_a_guardian, SIGCHLD, SIGURG};
use crate::inbox::Inbox;
use crate::outbox::Outbox;
use crate::output::Output;
use crate::passing::Passed;
use crate::polling::{has_left, Found, PollSet, Token};
use crate::report;
use crate::room::{self, Buffers};
use crate::run::{Run, Verdict};
use crate::specification::{self, Terms};

/// A program that has run for so long may run for days, and whoever starts many is done by then.
/// What its start has used is given back, once.
const SETTLED: Duration = Duration::from_secs(2);

/// A connection whose run is over, and that was not closed for so long, may be kept for another run,
/// which then finds made what it needs. Who closes it, or runs one program after the other, does so
/// sooner.
const LULL: Duration = Duration::from_millis(5);

/// For so long what was made for another run waits for it: longer than a controller keeps the
/// connection (PROTOCOL §10).
const KEPT: Duration = Duration::from_secs(4);

/// HELLO waits so long for what comes of a start, to be said in one go: each word wakes the
/// controller.
const GREETING: Duration = Duration::from_millis(20);

/// The guardian's side of one connection.
pub(crate) struct Session<'t> {
    controller: BorrowedFd<'t>,
    nursed: Option<&'t dyn Nursed>,
    /// Something could not be killed.
    left: bool,
    signals: &'t mut Signals,
    inbox: Inbox,
    /// What came with OPEN, until the program has it.
    passed: Passed,
    /// What is made before a run is asked for.
    ahead: Ahead,
    outbox: Outbox<'t>,
    hearing: Hearing,
    phase: Phase,
    /// When things are made for another run.
    lull: Option<Instant>,
    /// When memory is given back, and what was made for another run.
    settled: Option<Instant>,
}

/// The guardian's side of a nursery that has forked it.
pub(crate) trait Nursed {
    /// Is told of a cgroup before it is made.
    fn announce(&self, group: &[u8]);
    /// Is told when the nursery may be gone.
    fn is_bereft(&self);
    /// Where programs are started.
    fn directory(&self) -> &CStr;
    /// Is asked whether the connection has a run already, or waits for AGAIN.
    fn has_run(&self) -> bool;
    /// Is asked whether to make things for another run.
    fn makes_ahead(&self) -> bool;
    /// Is asked whether another run may follow on the same connection, and told its number.
    fn takes_another(&self, run: u64) -> bool;
    /// Is told when what was asked for is done, or takes its time.
    fn rests(&self);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Hearing {
    /// The controller is listened to.
    Frames,
    /// The last frame was said. The controller closes first: a VM whose port
    /// program goes while it still writes throws away what it has not read.
    Goodbye,
    /// It spoke nonsense, and what it says is thrown away until the tree is dead.
    Refused,
    /// It has closed its end.
    Gone,
}

enum Phase {
    /// OPEN has not come.
    Idle,
    Starting(Box<Pending>),
    Running(Box<Run>),
    /// The last frame was said.
    Over,
}

/// The program's process exists, its `execve` has not been heard of.
struct Pending {
    starting: Starting,
    terms: Terms,
    /// EOF came already.
    eof: bool,
    /// Till then nothing is said.
    quiet_until: Instant,
}

/// Relays between the controller on `input` and `output` and the program that it asks for, to the end of both.
///
/// The answer is whether something could not be killed.
pub(crate) fn serve(
    input: BorrowedFd<'_>,
    output: BorrowedFd<'_>,
    signals: &mut Signals,
    buffers: &mut Buffers,
    nursed: Option<&dyn Nursed>,
) -> io::Result<bool> {
    let mut session = Session {
        controller: input,
        nursed,
        left: false,
        signals,
        inbox: Inbox::default(),
        passed: Passed::default(),
        ahead: Ahead::default(),
        outbox: Outbox::new(output, &mut buffers.frame),
        hearing: Hearing::Goodbye,
        phase: Phase::Over,
        lull: None,
        settled: None,
    };
    if nursed.is_none_or(Nursed::has_run) {
        session.begin();
    } else {
        // The one that this connection was made ahead of comes soon.
        session.ahead.fill();
        session.settled = Some(Instant::now() + KEPT);
    }
    while !session.is_finished() {
        let found = session.poll()?;
        session.turn(&found, &mut buffers.read);
        if is_due(&mut session.lull) {
            session.ahead.fill();
        }
        if is_due(&mut session.settled) {
            session.ahead.clear();
            room::forget(&mut buffers.read);
            session.inbox.forget();
            session.outbox.forget();
            give_memory_back();
        }
    }
    Ok(session.left)
}

/// Answers it once.
fn is_due(time: &mut Option<Instant>) -> bool {
    time.take_if(|time| Instant::now() >= *time).is_some()
}

impl Session<'_> {
    fn is_finished(&self) -> bool {
        let unheard = self.hearing == Hearing::Gone || self.outbox.is_gone();
        match self.phase {
            Phase::Idle => unheard,
            Phase::Over => unheard || self.hearing == Hearing::Refused && self.outbox.is_clear(),
            Phase::Starting(_) | Phase::Running(_) => false,
        }
    }

    /// A run, of which OPEN will tell or has told.
    fn begin(&mut self) {
        self.hearing = Hearing::Frames;
        self.phase = Phase::Idle;
        // Of the run before; this one sets its own.
        (self.lull, self.settled) = (None, None);
        self.outbox.say(&FromGuardian::Hello { package: PACKAGE_VERSION.as_bytes() });
    }

    /// While a start is under way that is soon over.
    fn quiet_until(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Starting(pending) if Instant::now() < pending.quiet_until => {
                Some(pending.quiet_until)
            }
            _ => None,
        }
    }

    fn rest(&self) {
        if let Some(nursed) = self.nursed {
            nursed.rests();
        }
    }

    fn poll(&self) -> Result<Found, Errno> {
        let mut set = PollSet::new(self.signals.as_fd());
        if self.hearing != Hearing::Gone {
            set.add(Token::Controller, self.controller, PollFlags::IN);
        }
        let quiet_until = self.quiet_until();
        if quiet_until.is_none() {
            self.rest();
        }
        if !self.outbox.is_clear() && quiet_until.is_none() {
            set.add(Token::Outbox, self.outbox.controller(), PollFlags::OUT);
        }
        let mut deadline = [self.lull, self.settled, quiet_until].into_iter().flatten().min();
        match &self.phase {
            Phase::Starting(pending) => {
                set.add(Token::Starting, pending.starting.as_fd(), PollFlags::IN);
            }
            Phase::Running(run) => {
                run.interest(&mut set);
                deadline = run.deadline(&self.outbox).into_iter().chain(deadline).min();
            }
            Phase::Idle | Phase::Over => {}
        }
        set.poll(deadline)
    }

    fn turn(&mut self, found: &Found, buffer: &mut [u8]) {
        let now = Instant::now();
        let mut died = found.any(Token::Program);
        died |= found.any(Token::Signals) && self.hear_signals(now);
        if found.any(Token::Controller) {
            self.hear_controller(buffer, now);
        }
        // A child's death may have been told before the start was.
        died |= self.hear_of_the_start(now);
        if let Phase::Running(run) = &mut self.phase {
            self.outbox.flush();
            run.relay(found, &mut self.outbox, now);
            if !run.outputs.iter().all(Output::has_ended) {
                // What is due depends on whether the controller takes what it is sent.
                self.outbox.flush();
            }
            run.advance(&mut self.outbox, died, now);
            if run.is_done(&self.outbox) {
                self.say_what_became_of_it();
            } else {
                run.tell_reaped(&mut self.outbox, now);
            }
        }
        if self.quiet_until().is_none() {
            self.outbox.flush();
        }
        if self.outbox.is_gone() && self.hearing != Hearing::Gone {
            self.controller_is_gone(now);
        }
        if self.outbox.is_short() && self.hearing == Hearing::Frames {
            self.hearing = Hearing::Refused;
            self.end_silently(now);
        }
    }

    /// Answers whether a child may have died.
    fn hear_signals(&mut self, now: Instant) -> bool {
        let mut died = false;
        while let Some(received) = self.signals.next() {
            match received.signal {
                SIGCHLD => died = true,
                signal if ends_a_guardian(signal) => self.end(Cause::Signal(signal as u8), now),
                SIGURG => {
                    if let Some(nursed) = self.nursed {
                        nursed.is_bereft();
                    }
                }
                // Of a terminal's signals only the shell command has a use.
                _ => {}
            }
        }
        died
    }

    /// Ends whatever there is to end, in order.
    fn end(&mut self, cause: Cause, now: Instant) {
        match &mut self.phase {
            Phase::Running(run) if cause == Cause::Close => run.close(now),
            Phase::Running(run) => run.end(cause, now),
            Phase::Starting(_) => self.abort(Verdict::Cancelled, now),
            // No program: nobody needs this guardian.
            Phase::Idle | Phase::Over => {
                if cause != Cause::Close {
                    self.hearing = Hearing::Gone;
                }
            }
        }
    }

    fn open(&mut self, open: &Open<'_>, now: Instant) {
        let read = specification::read(open);
        if read.as_ref().is_ok_and(|(specification, _)| specification.may_wait()) {
            if self.nursed.is_some_and(|nursed| chdir(nursed.directory()).is_err()) {
                return self.leave(now);
            }
            self.rest();
            self.outbox.flush();
        }
        // Who has left without having heard HELLO may try elsewhere, and no program runs twice.
        if has_left(self.controller) {
            return self.controller_is_gone(now);
        }
        let passed = std::mem::take(&mut self.passed);
        // Those that this start has no use for are closed after it.
        let ahead = std::mem::take(&mut self.ahead);
        let announce = self.nursed.map(|nursed| move |group: &[u8]| nursed.announce(group));
        let started = read.and_then(|(specification, terms)| {
            let around = Around {
                give_up: Some(self.controller),
                announce: announce.as_ref().map(|announce| announce as Announce<'_>),
                passed: passed.deal(&specification.stdio)?,
                base: self.nursed.map(Nursed::directory),
                ahead: Some(&ahead),
            };
            let starting = start(&specification, &around)?;
            Ok(Pending { starting, terms, eof: false, quiet_until: now + GREETING })
        });
        match started {
            Ok(pending) => self.phase = Phase::Starting(Box::new(pending)),
            Err(error) if self.may_start_elsewhere(&error) => self.leave(now),
            Err(error) => {
                self.outbox.say(&report::start_error(&error));
                self.goodbye();
            }
        }
    }

    /// Answers whether it was told.
    fn hear_of_the_start(&mut self, now: Instant) -> bool {
        let Phase::Starting(pending) = &mut self.phase else { return false };
        match pending.starting.outcome() {
            None => return false,
            Some(Err(error)) if self.may_start_elsewhere(&error) => self.leave(now),
            Some(Err(error)) => self.abort(Verdict::Refused(error), now),
            Some(Ok(())) => {
                let Phase::Starting(pending) = std::mem::replace(&mut self.phase, Phase::Over)
                else {
                    return false;
                };
                let Pending { starting, terms, eof, .. } = *pending;
                let (program, spent) = starting.into_parts();
                let mut run = Run::new(program, Verdict::Exit, terms);
                self.outbox.say(&FromGuardian::Started {
                    pid: run.program.pid().unwrap_or(0),
                    level: report::level(run.program.level()),
                    stdin_credit: run.input.initial_credit(),
                    cgroup: run.program.cgroup_path(),
                });
                self.outbox.flush();
                drop(spent);
                if eof {
                    run.input.finish();
                }
                self.phase = Phase::Running(Box::new(run));
                self.settled = Some(now + SETTLED);
            }
        }
        true
    }

    /// Kills what a start that won't be completed has left, and says `verdict` when it is gone.
    fn abort(&mut self, verdict: Verdict, now: Instant) {
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Starting(pending) => {
                let program = pending.starting.into_program();
                let mut run = Run::new(program, verdict, pending.terms);
                run.abort(now);
                self.phase = Phase::Running(Box::new(run));
            }
            other => self.phase = other,
        }
    }

    fn controller_is_gone(&mut self, now: Instant) {
        if let Phase::Starting(_) = self.phase {
            // HELLO: who has stopped talking may listen, and must not start the program elsewhere.
            self.outbox.flush();
        }
        self.leave(now);
    }

    /// Whether a program could not be started because its process may not enter the directory that
    /// the controller is in, and that has not heard HELLO yet. Then it tries elsewhere: a port
    /// program is a fork of its own.
    fn may_start_elsewhere(&self, error: &Error) -> bool {
        let directory = self.nursed.map(|nursed| nursed.directory().to_bytes());
        let is_shut_out = error.step == Step::Directory && Some(&*error.detail) == directory;
        is_shut_out && !self.outbox.is_clear()
    }

    /// Says nothing any more.
    fn leave(&mut self, now: Instant) {
        self.outbox.drop_all();
        self.hearing = Hearing::Gone;
        self.end_silently(now);
    }

    /// Ends the program, of which no frame will tell.
    fn end_silently(&mut self, now: Instant) {
        match &mut self.phase {
            Phase::Running(run) => {
                run.verdict = Verdict::Silence;
                run.close(now);
            }
            Phase::Starting(_) => self.abort(Verdict::Silence, now),
            Phase::Idle | Phase::Over => self.phase = Phase::Over,
        }
    }

    fn say_what_became_of_it(&mut self) {
        let Phase::Running(run) = std::mem::replace(&mut self.phase, Phase::Over) else { return };
        self.left = !run.survivors().is_empty();
        match &run.verdict {
            Verdict::Exit => self.outbox.say(&FromGuardian::Exit(report::exit(&run))),
            Verdict::Refused(error) => self.outbox.say(&report::start_error(error)),
            Verdict::Cancelled => self.outbox.say(&report::cancelled()),
            Verdict::Silence => {}
        }
        self.goodbye();
    }

    fn goodbye(&mut self) {
        self.phase = Phase::Over;
        if self.hearing == Hearing::Frames {
            self.hearing = Hearing::Goodbye;
            let now = Instant::now();
            self.settled = Some(now + KEPT);
            let more = !self.left && self.nursed.is_some_and(Nursed::makes_ahead);
            self.lull = more.then_some(now + LULL);
        }
    }
}
