// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! One program from its start to the moment when nothing of it is left: streams, tree, cgroup.

use std::time::{Duration, Instant};

use proton_stream_containment::cgroup::Limit;
use proton_stream_containment::{Error, Program, Released};
use proton_stream_protocol::{Cause, FromGuardian, Stream};
use rustix::event::PollFlags;

use crate::ending::{Ending, SIGTERM};
use crate::input::Input;
use crate::outbox::Outbox;
use crate::output::Output;
use crate::polling::{Found, PollSet, Token};
use crate::requests::{self, Answer, Freezing};
use crate::specification::Terms;

/// How often a cgroup that is still busy is tried again: the kernel lets go of
/// it about 100 µs after the last death.
const RETRY: Duration = Duration::from_millis(1);

/// For how long.
const RELEASE: Duration = Duration::from_millis(400);

/// A program that ends closes its streams one by one, and is dead within this time: till then they
/// are left alone, and all is told at once.
const MOMENT: Duration = Duration::from_millis(1);

/// What the run's last frame will be.
pub(crate) enum Verdict {
    /// EXIT.
    Exit,
    /// START_ERROR, of which nothing may stay behind either.
    Refused(Error),
    /// START_ERROR `cancelled`.
    Cancelled,
    /// None: the controller is gone, or ERROR was the last.
    Silence,
}

pub(crate) struct Run {
    pub(crate) program: Program,
    pub(crate) input: Input,
    pub(crate) outputs: [Output; 2],
    pub(crate) verdict: Verdict,
    stderr_first: bool,
    terms: Terms,
    cause: Cause,
    ending: Option<Ending>,
    /// How long a stream that could have ended is waited for.
    drain_until: Option<Instant>,
    /// No process of the tree is left.
    alone: bool,
    /// The same, or what is left can't be killed.
    over: bool,
    /// When the program's pid became free, and whether the controller knows that.
    reaped: Option<Instant>,
    told_reaped: bool,
    /// Asked before the cgroup goes.
    oom_killed: bool,
    freezing: Option<Freezing>,
    cgroup: Cgroup,
    closing: Closing,
}

/// Whether the program closes its streams, which it may do without an end.
enum Closing {
    No,
    /// They are left alone until then.
    Until(Instant),
    /// They were.
    Past,
}

enum Cgroup {
    Held,
    /// Until when it is tried, and when next.
    Busy {
        give_up: Instant,
        next: Instant,
    },
    Gone,
}

impl Run {
    pub(crate) fn new(mut program: Program, verdict: Verdict, terms: Terms) -> Self {
        let pipes = program.take_pipes();
        let [stdout, stderr] = terms.credit;
        Run {
            program,
            input: Input::new(pipes.stdin),
            outputs: [
                Output::new(Stream::Stdout, pipes.stdout, stdout),
                Output::new(Stream::Stderr, pipes.stderr, stderr),
            ],
            verdict,
            stderr_first: false,
            terms,
            cause: Cause::Program,
            ending: None,
            drain_until: None,
            alone: false,
            over: false,
            reaped: None,
            told_reaped: false,
            oom_killed: false,
            freezing: None,
            cgroup: Cgroup::Held,
            closing: Closing::No,
        }
    }

    pub(crate) fn cause(&self) -> Cause {
        self.cause
    }

    pub(crate) fn oom_killed(&self) -> bool {
        self.oom_killed
    }

    pub(crate) fn output(&mut self, stream: Stream) -> &mut Output {
        &mut self.outputs[usize::from(stream.number() - 1)]
    }

    /// What could not be killed.
    pub(crate) fn survivors(&self) -> Vec<u32> {
        if self.alone {
            Vec::new()
        } else {
            self.program.survivors()
        }
    }

    /// Without effect on what is dead.
    pub(crate) fn signal(&mut self, number: u8, tree: bool) {
        if tree {
            self.program.signal_tree(i32::from(number));
        } else {
            // It may be dead, or another user's by now: neither is the controller's fault.
            let _ = self.program.signal(i32::from(number));
        }
    }

    /// Whether the answer to a request is still to come.
    pub(crate) fn owes_an_answer(&self) -> bool {
        self.freezing.is_some()
    }

    pub(crate) fn stats(&self) -> Answer {
        requests::stats(&self.program)
    }

    pub(crate) fn update_limits(&self, limits: &[Limit]) -> Answer {
        requests::update_limits(&self.program, limits)
    }

    pub(crate) fn freeze(&mut self, frozen: bool, now: Instant) -> Answer {
        // What is about to end goes on to its end.
        let frozen = frozen && self.ending.is_none();
        let (answer, freezing) = Freezing::begin(&self.program, frozen, now);
        self.freezing = freezing;
        answer
    }

    /// What to poll for.
    pub(crate) fn interest<'a>(&'a self, set: &mut PollSet<'a>) {
        if let Some(end) = self.program.descriptor() {
            set.add(Token::Program, end, PollFlags::IN);
        }
        if matches!(self.closing, Closing::Until(_)) {
            return;
        }
        if let Some((pipe, events)) = self.input.interest() {
            set.add(Token::Stdin, pipe, events);
        }
        for (token, output) in Token::OUTPUTS.into_iter().zip(&self.outputs) {
            if let Some((pipe, events)) = output.interest() {
                set.add(token, pipe, events);
            }
        }
    }

    /// Moves bytes, both ways.
    pub(crate) fn relay(&mut self, found: &Found, outbox: &mut Outbox<'_>, now: Instant) {
        self.outputs.iter_mut().for_each(|output| output.wake(now));
        if self.is_closing(found, now) {
            return;
        }
        let stdin = found.flags(Token::Stdin);
        if !stdin.is_empty() {
            self.input.turn(stdin);
        }
        self.input.report(outbox, now);
        for (token, output) in Token::OUTPUTS.into_iter().zip(&mut self.outputs) {
            if found.any(token) {
                output.is_ready_now(found.flags(token));
            }
        }
        // Each goes first every other time: a controller that takes one frame a
        // turn must not hear of one stream only.
        self.stderr_first ^= true;
        let first = usize::from(self.stderr_first);
        self.outputs[first].turn(outbox, now);
        self.outputs[1 - first].turn(outbox, now);
    }

    fn is_closing(&mut self, found: &Found, now: Instant) -> bool {
        let begins = || {
            let outputs = Token::OUTPUTS.into_iter();
            found.flags(Token::Stdin).contains(PollFlags::ERR)
                || outputs.map(|token| found.flags(token)).any(|it| it.contains(PollFlags::HUP))
        };
        if matches!(self.closing, Closing::No) && self.program.ended().is_none() && begins() {
            self.closing = Closing::Until(now + MOMENT);
        }
        matches!(self.closing, Closing::Until(_))
    }

    /// Ends the tree, SIGTERM first, unless that has begun.
    pub(crate) fn end(&mut self, cause: Cause, now: Instant) {
        if self.ending.is_none() && !self.alone {
            // The status of a program that was quicker is its own.
            if self.program.ended().is_none() {
                self.cause = cause;
            }
            self.ending =
                Some(Ending::begin(&mut self.program, SIGTERM, self.terms.kill_delay, now));
        }
    }

    /// Ends the tree for somebody who wants no more output.
    pub(crate) fn close(&mut self, now: Instant) {
        self.end(Cause::Close, now);
        self.input.lose();
        self.outputs.iter_mut().for_each(Output::discard);
    }

    /// Kills what a start that failed or was cancelled has left.
    pub(crate) fn abort(&mut self, now: Instant) {
        self.ending = Some(Ending::kill(&mut self.program, now));
        self.input.was_never_there();
        self.outputs.iter_mut().for_each(Output::discard);
    }

    /// Goes on with whatever is due; `died` says that a child may have.
    pub(crate) fn advance(&mut self, outbox: &mut Outbox<'_>, died: bool, now: Instant) {
        if died || self.timer(outbox).is_some_and(|deadline| now >= deadline) {
            self.look_after_the_tree(outbox, now);
        }
        if matches!(self.closing, Closing::Until(time) if now >= time || self.reaped.is_some()) {
            self.closing = Closing::Past;
        }
        if let Some(freezing) = &mut self.freezing {
            let is_over = self.ending.is_some() || self.over;
            let answer = freezing.look(&self.program, is_over, now);
            if !matches!(answer, Answer::Later) {
                answer.say(outbox);
                self.freezing = None;
            }
        }
        self.drain(outbox, now);
        self.input.give_back(now);
        for output in &mut self.outputs {
            output.give_back(outbox, now);
        }
        if self.over {
            self.release(now);
        }
    }

    fn look_after_the_tree(&mut self, outbox: &Outbox<'_>, now: Instant) {
        let had_ended = self.program.ended().is_some();
        let reaped = self.program.reap();
        if self.program.ended().is_some() && !had_ended {
            self.reaped = Some(now);
            self.program_has_ended(outbox);
        }
        self.alone |= reaped.alone;
        if let (Some(ending), false) = (&mut self.ending, self.alone) {
            ending.advance(&mut self.program, reaped.deaths, now);
        }
        let given_up = self.ending.as_ref().is_some_and(Ending::has_given_up);
        if (self.alone || given_up) && !self.over {
            self.over = true;
            self.outputs.iter_mut().for_each(|output| output.owe(outbox));
            self.drain_until = None;
        }
    }

    fn program_has_ended(&mut self, outbox: &Outbox<'_>) {
        // What it wrote is in the pipes by now; what comes later is its descendants'.
        self.outputs.iter_mut().for_each(|output| output.owe(outbox));
        if !self.terms.wait_for_tree {
            self.input.lose();
        }
    }

    /// Sees to it that a stream which a descendant (or, after the tree's end, a
    /// process outside of it) holds open delays the end by the drain timeout at most.
    fn drain(&mut self, outbox: &mut Outbox<'_>, now: Instant) {
        let waiting =
            self.program.ended().is_some() && self.ending.is_none() && !self.terms.wait_for_tree;
        if !self.over && !waiting {
            return;
        }
        let ended = self.outputs.iter().all(Output::has_ended);
        if !ended {
            if !self.drains(outbox) {
                return;
            }
            if now < *self.drain_until.get_or_insert(now + self.terms.drain_timeout) {
                return;
            }
        }
        self.drain_until = None;
        if self.over {
            self.outputs.iter_mut().for_each(|output| output.end(outbox));
        } else {
            self.end(Cause::Program, now);
        }
    }

    /// Whether the drain timeout runs. While there is a tree to be killed it does so also without
    /// credit, or who floods a stream would live on: what is in the pipe then outlives the tree.
    fn drains(&self, outbox: &Outbox<'_>) -> bool {
        let over = self.over;
        let mut outputs = self.outputs.iter();
        outputs.all(|output| if over { output.is_settled(outbox) } else { output.is_delivered() })
    }

    fn release(&mut self, now: Instant) {
        let give_up = match self.cgroup {
            Cgroup::Held => {
                self.oom_killed = self.program.oom_killed();
                now + RELEASE
            }
            Cgroup::Busy { give_up, next } if now >= next => give_up,
            Cgroup::Busy { .. } | Cgroup::Gone => return,
        };
        self.cgroup = match self.program.release() {
            Released::Retry if now < give_up => Cgroup::Busy { give_up, next: now + RETRY },
            _ => Cgroup::Gone,
        };
    }

    /// Tells that the program's pid is free, when EXIT, which tells it too, has to wait.
    pub(crate) fn tell_reaped(&mut self, outbox: &mut Outbox<'_>, now: Instant) {
        if self.reaped_is_due().is_some_and(|due| now >= due) {
            self.told_reaped = true;
            outbox.say(&FromGuardian::Reaped);
        }
    }

    fn reaped_is_due(&self) -> Option<Instant> {
        let is_to_be_told = matches!(self.verdict, Verdict::Exit) && !self.told_reaped;
        self.reaped.filter(|_| is_to_be_told).map(|reaped| reaped + MOMENT)
    }

    /// Whether the run's last frame can be sent.
    pub(crate) fn is_done(&self, outbox: &Outbox<'_>) -> bool {
        matches!(self.cgroup, Cgroup::Gone)
            && self.outputs.iter().all(|output| output.is_done(outbox))
    }

    /// When there is something to do that no descriptor tells.
    pub(crate) fn deadline(&self, outbox: &Outbox<'_>) -> Option<Instant> {
        if self.can_go_on(outbox) {
            return Some(Instant::now());
        }
        self.timer(outbox)
    }

    fn can_go_on(&self, outbox: &Outbox<'_>) -> bool {
        !matches!(self.closing, Closing::Until(_))
            && self.outputs.iter().any(|output| output.can_go_on(outbox))
    }

    fn timer(&self, outbox: &Outbox<'_>) -> Option<Instant> {
        let ending = match &self.ending {
            Some(ending) if !self.alone => ending.deadline(),
            _ => None,
        };
        let cgroup = match self.cgroup {
            Cgroup::Busy { next, .. } => Some(next),
            Cgroup::Held | Cgroup::Gone => None,
        };
        // A stream that has become busy again is what is waited for, not a time that may be past.
        let drain = self.drain_until.filter(|_| self.drains(outbox));
        let stdin = self.input.idle_until();
        let [stdout, stderr] = self.outputs.each_ref().map(Output::idle_until);
        let freezing = self.freezing.as_ref().map(Freezing::deadline);
        let closing = match self.closing {
            Closing::Until(time) => Some(time),
            Closing::No | Closing::Past => None,
        };
        let reaped = self.reaped_is_due();
        let rests = self.outputs.iter().filter_map(Output::rests_until).min();
        let times =
            [ending, drain, cgroup, stdin, stdout, stderr, freezing, closing, reaped, rests];
        times.into_iter().flatten().min()
    }
}
