// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! What the controller says, and in which phase it may say what.

use std::time::Instant;

use proton_stream_protocol::{Cause, FromGuardian, Malformed, ToGuardian};
use rustix::io::{read, Errno};

use super::{Hearing, Phase, Session};
use crate::inbox::Event;
use crate::outbox::Outbox;
use crate::output::Output;
use crate::requests::Answer;
use crate::run::Run;
use crate::specification;

/// ERROR's codes (PROTOCOL §8).
const ERROR_VERSION: u8 = 1;
const ERROR_MALFORMED: u8 = 2;

/// How many large pieces of stdin are moved on before the streams and the timers are looked at.
const PIECES_A_TURN: usize = 4;

impl Session<'_> {
    /// Takes what it has said: large pieces of stdin, which go on unread, and the frames between.
    pub(super) fn hear_controller(&mut self, buffer: &mut [u8], now: Instant) {
        for _ in 0..PIECES_A_TURN {
            self.move_stdin();
            if !self.read_controller(buffer, now) || self.inbox.to_move().is_none() {
                break;
            }
        }
    }

    fn move_stdin(&mut self) {
        let (Some(most), Phase::Running(run)) = (self.inbox.to_move(), &mut self.phase) else {
            return;
        };
        if self.hearing != Hearing::Frames {
            return;
        }
        let moved = run.input.take(self.controller, most);
        if moved > 0 {
            self.inbox.has_moved(moved);
            run.outputs.iter_mut().for_each(Output::may_answer);
        }
    }

    /// Answers whether it has said anything.
    fn read_controller(&mut self, buffer: &mut [u8], now: Instant) -> bool {
        let most = self.inbox.appetite().min(buffer.len());
        let buffer = &mut buffer[..most];
        // Later ones would be nobody's; the kernel closes what nobody asks for.
        let heard = match self.phase {
            Phase::Idle => self.passed.read(self.controller, &mut *buffer),
            _ => read(self.controller, &mut *buffer),
        };
        let mut bytes: &[u8] = match heard {
            Ok(length) if length > 0 => &buffer[..length],
            Err(Errno::AGAIN | Errno::INTR) => return false,
            Ok(_) | Err(_) => {
                self.controller_is_gone(now);
                return false;
            }
        };
        let is_goodbye = self.hearing == Hearing::Goodbye && self.nursed.is_some();
        if self.hearing != Hearing::Frames && !is_goodbye {
            return true;
        }
        // Out of `self` while it is read from: what it tells changes the rest.
        let mut inbox = std::mem::take(&mut self.inbox);
        loop {
            let heard = match inbox.next(&mut bytes) {
                Ok(None) => break,
                Ok(Some(event)) if self.hearing == Hearing::Goodbye => self.hear_again(event, now),
                Ok(Some(event)) => self.hear(event, now),
                Err(malformed) => Err(malformed),
            };
            if let Err(malformed) = heard {
                if self.hearing == Hearing::Goodbye {
                    // There is nothing to be ended, and nobody to be told.
                    self.hearing = Hearing::Gone;
                } else {
                    self.refuse(&malformed, now);
                }
                return false;
            }
        }
        self.inbox = inbox;
        true
    }

    fn hear(&mut self, event: Event<'_, '_>, now: Instant) -> Result<(), Malformed> {
        let frame = match event {
            Event::Stdin(bytes) => {
                return match &mut self.phase {
                    Phase::Running(run) => {
                        run.outputs.iter_mut().for_each(Output::may_answer);
                        run.input.accept(bytes)
                    }
                    Phase::Over => Ok(()),
                    Phase::Idle | Phase::Starting(_) => {
                        Err(Malformed::Order("STDIN before STARTED"))
                    }
                }
            }
            Event::Frame(kind, body) => ToGuardian::decode(kind, body)?,
        };
        match (frame, &mut self.phase) {
            (ToGuardian::Open(open), Phase::Idle) => self.open(&open, now),
            (ToGuardian::Open(_), _) => return Err(Malformed::Order("a second OPEN")),
            (ToGuardian::Again { .. }, _) => return Err(Malformed::Order("AGAIN before EXIT")),
            (_, Phase::Idle) => return Err(Malformed::Order("a frame before OPEN")),
            (ToGuardian::Credit { stream, bytes }, Phase::Running(run)) => {
                run.output(stream).grant(bytes)?;
            }
            (ToGuardian::Credit { stream, bytes }, Phase::Starting(pending)) => {
                pending.terms.credit[usize::from(stream.number() - 1)].grant(bytes)?;
            }
            (ToGuardian::Sync, Phase::Running(run)) => run.input.sync(),
            (ToGuardian::Eof, Phase::Running(run)) => run.input.finish(),
            (ToGuardian::Eof, Phase::Starting(pending)) => pending.eof = true,
            (ToGuardian::OutputGone(stream), Phase::Running(run)) => {
                run.output(stream).desert(&mut self.outbox);
            }
            (ToGuardian::OutputGone(_), Phase::Starting(_)) => {
                return Err(Malformed::Order("OUTPUT_GONE before STARTED"));
            }
            (ToGuardian::Signal { number, tree }, Phase::Running(run)) => run.signal(number, tree),
            (ToGuardian::Query, phase) => {
                ask(phase, &mut self.outbox, |run| run.stats())?;
            }
            (ToGuardian::Limits(limits), phase) => {
                let limits: Vec<_> = limits.into_iter().map(specification::limit).collect();
                ask(phase, &mut self.outbox, |run| run.update_limits(&limits))?;
            }
            (ToGuardian::Freeze(frozen), phase) => {
                ask(phase, &mut self.outbox, |run| run.freeze(frozen, now))?;
            }
            (ToGuardian::Close, _) => self.end(Cause::Close, now),
            (_, Phase::Starting(_) | Phase::Running(_) | Phase::Over) => {}
        }
        Ok(())
    }

    /// After the last frame of a run: what was on its way to that is nobody's, and another run may
    /// follow.
    fn hear_again(&mut self, event: Event<'_, '_>, now: Instant) -> Result<(), Malformed> {
        let Event::Frame(kind, body) = event else { return Ok(()) };
        let ToGuardian::Again { run, open } = ToGuardian::decode(kind, body)? else {
            return Ok(());
        };
        if self.left || !self.nursed.is_some_and(|nursed| nursed.takes_another(run)) {
            return Err(Malformed::Order("AGAIN where no run may follow"));
        }
        self.begin();
        self.open(&open, now);
        Ok(())
    }

    fn refuse(&mut self, malformed: &Malformed, now: Instant) {
        let code = match malformed {
            Malformed::Version { .. } => ERROR_VERSION,
            _ => ERROR_MALFORMED,
        };
        self.outbox.say(&FromGuardian::Error { code, message: malformed.to_string().as_bytes() });
        self.hearing = Hearing::Refused;
        self.end_silently(now);
    }
}

/// Asks the run something, unless it has yet to answer the question before.
fn ask(
    phase: &mut Phase,
    outbox: &mut Outbox<'_>,
    question: impl FnOnce(&mut Run) -> Answer,
) -> Result<(), Malformed> {
    match phase {
        Phase::Running(run) if run.owes_an_answer() || outbox.owes_an_answer() => {
            Err(Malformed::Order("a request before the answer to the last one"))
        }
        Phase::Running(run) => {
            question(run).say(outbox);
            Ok(())
        }
        Phase::Starting(_) => Err(Malformed::Order("a request before STARTED")),
        // EXIT was the answer.
        Phase::Idle | Phase::Over => Ok(()),
    }
}
