// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! What is known of one run: pure data, which the guardian's frames and the user's calls change.

use std::collections::VecDeque;
use std::task::Waker;

use bytes::Bytes;
use proton_stream_protocol::{FromGuardian, Malformed, Stream, ToGuardian, MAX_CREDIT};
use tokio::sync::oneshot;

use super::inbox::Event;
use super::output::{End, Output};
use super::stdin::Stdin;
use crate::options::Options;
use crate::{trace, Error, Exit, GuardianEnd, Stats, Step};

/// How far a run has come.
#[derive(Debug)]
pub(crate) enum Phase {
    /// The guardian has said nothing yet, so nothing was started.
    Silent,
    /// It has said HELLO.
    Greeted,
    Running,
    /// The program was not started. The error is taken by who waits for the start.
    Failed(Option<Error>),
    Ended(Exit),
    /// The runtime has ended, or nobody holds the program any more: it is being ended, and nobody
    /// will tell how that went.
    LetGo,
}

/// A question about the program's group, and who asked.
pub(crate) struct Question {
    pub(crate) frame: Vec<u8>,
    pub(crate) from: oneshot::Sender<Result<Stats, Error>>,
}

pub(crate) struct State {
    pub(crate) phase: Phase,
    traced: trace::Run,
    pub(crate) pid: Option<u32>,
    pub(crate) level: u8,
    pub(crate) cgroup: Vec<u8>,
    pub(crate) outputs: [Output; 2],
    pub(crate) stdin: Stdin,
    questions: VecDeque<Question>,
    is_closing: bool,
    is_room_made: bool,
    /// The guardian's own word on why it can't go on.
    pub(crate) complaint: Option<GuardianEnd>,
    /// Of the driver, which is woken when something has to wait for the socket.
    pub(crate) driver: Option<Waker>,
    pub(crate) out: Vec<u8>,
    pub(crate) sent: usize,
    /// Which receiver of messages is the current one, and what it was told.
    pub(crate) receiver: u64,
    pub(crate) reader: Option<Waker>,
    pub(crate) is_exit_told: bool,
    pub(crate) closes: usize,
    /// Which stream has given the last message.
    last: Stream,
}

impl State {
    pub(crate) fn new(options: &Options, traced: trace::Run, unsent: Vec<u8>) -> Self {
        let [stdout, stderr] = options.window;
        Self {
            phase: Phase::Silent,
            traced,
            pid: None,
            level: 0,
            cgroup: Vec::new(),
            outputs: [Output::new(stdout), Output::new(stderr)],
            stdin: Stdin::new(options.stdin_limit),
            questions: VecDeque::new(),
            is_closing: false,
            is_room_made: false,
            complaint: None,
            driver: None,
            out: unsent,
            sent: 0,
            receiver: 0,
            reader: None,
            is_exit_told: false,
            closes: 0,
            last: Stream::Stderr,
        }
    }

    pub(crate) fn output(&mut self, stream: Stream) -> &mut Output {
        match stream {
            Stream::Stdout => &mut self.outputs[0],
            Stream::Stderr => &mut self.outputs[1],
        }
    }

    /// Whether nothing will change any more.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Failed(_) | Phase::Ended(_) | Phase::LetGo)
    }

    pub(crate) fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running)
    }

    /// Takes in what the guardian said.
    pub(crate) fn hear(&mut self, event: Event) -> Result<(), Malformed> {
        match event {
            Event::Output(stream, piece) => {
                if !self.is_running() {
                    return Err(Malformed::Order("output outside of a run"));
                }
                self.output(stream).put(piece);
                self.wake_reader();
            }
            Event::Frame(kind, body) => self.hear_frame(FromGuardian::decode(kind, &body)?)?,
        }
        Ok(())
    }

    fn hear_frame(&mut self, frame: FromGuardian<'_>) -> Result<(), Malformed> {
        match (frame, &self.phase) {
            (FromGuardian::Hello { .. }, Phase::Silent) => self.phase = Phase::Greeted,
            (FromGuardian::Error { code, message }, _) => {
                self.complaint = Some(match code {
                    3 => GuardianEnd::ShortFrame,
                    _ => GuardianEnd::Protocol(String::from_utf8_lossy(message).into_owned()),
                });
            }
            (_, Phase::Silent) => return Err(Malformed::Order("a frame before HELLO")),
            (FromGuardian::Started { pid, level, stdin_credit, cgroup }, Phase::Greeted) => {
                self.phase = Phase::Running;
                self.pid = Some(pid).filter(|pid| *pid != 0);
                self.level = level;
                self.cgroup = cgroup.to_vec();
                self.stdin.begin(stdin_credit);
                self.traced.started(pid);
            }
            (FromGuardian::StartError { step, errno, detail }, Phase::Greeted) => {
                self.phase = Phase::Failed(Some(Error::Start {
                    step: Step::from_number(step),
                    errno: i32::try_from(errno).ok().filter(|errno| *errno != 0),
                    detail: String::from_utf8_lossy(detail).into_owned(),
                }));
            }
            (frame, Phase::Running) => self.hear_while_running(frame)?,
            _ => return Err(Malformed::Order("a frame outside of a run")),
        }
        Ok(())
    }

    fn hear_while_running(&mut self, frame: FromGuardian<'_>) -> Result<(), Malformed> {
        match frame {
            FromGuardian::StdinCredit { bytes } => self.stdin.grant(bytes),
            FromGuardian::StdinGone => self.stdin.lose(),
            FromGuardian::EndOfOutput(stream) => self.output(stream).finish(End::Whole),
            FromGuardian::Reaped => self.pid = None,
            FromGuardian::Exit(report) => {
                self.finish(Exit::reported(report, self.is_closing), End::Whole);
            }
            FromGuardian::Stats(gauges) => self.answer(Ok(Stats::new(&gauges)))?,
            FromGuardian::Done => self.answer(Ok(Stats::default()))?,
            FromGuardian::Refused { errno, detail } => self.answer(Err(Error::Group {
                what: String::from_utf8_lossy(detail).into_owned(),
                errno: i32::try_from(errno).ok().filter(|errno| *errno != 0),
            }))?,
            _ => return Err(Malformed::Order("a frame of the start in a run")),
        }
        Ok(())
    }

    /// The program has ended, and this is how.
    pub(crate) fn finish(&mut self, exit: Exit, end: End) {
        self.traced.ended(&exit);
        self.pid = None;
        self.phase = Phase::Ended(exit);
        self.settle(end);
    }

    /// Whoever waits for something that will not come is told.
    pub(crate) fn settle(&mut self, end: End) {
        self.stdin.lose();
        self.outputs.iter_mut().for_each(|output| output.finish(end));
        self.questions.clear();
        self.wake_reader();
    }

    fn wake_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// One question is on its way at a time.
    pub(crate) fn ask(&mut self, question: Question) {
        if self.questions.is_empty() {
            self.out.extend_from_slice(&question.frame);
        }
        self.questions.push_back(question);
    }

    fn answer(&mut self, answer: Result<Stats, Error>) -> Result<(), Malformed> {
        let asked = self.questions.pop_front();
        let question = asked.ok_or(Malformed::Order("an answer without a question"))?;
        if let Some(next) = self.questions.front() {
            self.out.extend_from_slice(&next.frame);
        }
        // Who asked may have given up.
        let _ = question.from.send(answer);
        Ok(())
    }

    /// Ends the program: nothing more is delivered. Tells whether that begins now.
    pub(crate) fn close(&mut self) -> bool {
        let begins = self.is_running() && !self.is_closing;
        if begins {
            self.is_closing = true;
            ToGuardian::Close.encode(&mut self.out);
            self.outputs.iter_mut().for_each(Output::discard);
            self.stdin.lose();
        }
        begins
    }

    /// Nobody reads a stream any more: who writes there gets SIGPIPE, and what is on its way is
    /// thrown away.
    pub(crate) fn desert(&mut self, stream: Stream) {
        let output = self.output(stream);
        output.discard();
        let is_open = output.end.is_none();
        if is_open && self.is_running() && !self.is_closing {
            ToGuardian::OutputGone(stream).encode(&mut self.out);
        }
    }

    /// A program that is killed leaves no more than its pipes hold. That is taken, so that its exit
    /// doesn't wait for a reader, who may come later. Tells whether that was not done before.
    pub(crate) fn make_room_for_the_rest(&mut self, windows: [u32; 2]) -> bool {
        if !self.is_running() || std::mem::replace(&mut self.is_room_made, true) {
            return false;
        }
        for (stream, window) in Stream::BOTH.into_iter().zip(windows) {
            let bytes = GREATEST_PIPE.min(MAX_CREDIT - window);
            if bytes > 0 {
                ToGuardian::Credit { stream, bytes }.encode(&mut self.out);
            }
        }
        true
    }

    /// Appends what may be said now, up to about `most` bytes.
    pub(crate) fn pump(&mut self, most: usize) {
        if !self.is_running() {
            return;
        }
        for stream in Stream::BOTH {
            if let Some(bytes) = self.output(stream).due() {
                if !self.is_closing {
                    ToGuardian::Credit { stream, bytes }.encode(&mut self.out);
                }
            }
        }
        while self.out.len() < most && self.stdin.say(&mut self.out) {}
        if self.stdin.has_room(ROOM) {
            self.stdin.wake();
        }
    }

    /// The next chunk of either stream, so that neither has to wait for the other.
    pub(crate) fn next_output(&mut self) -> Option<(Stream, Bytes)> {
        let other = match self.last {
            Stream::Stdout => Stream::Stderr,
            Stream::Stderr => Stream::Stdout,
        };
        for stream in [other, self.last] {
            if let Some(chunk) = self.output(stream).take() {
                self.last = stream;
                return Some((stream, chunk));
            }
        }
        None
    }
}

/// More than a guardian makes of a pipe.
const GREATEST_PIPE: u32 = 2 * 1024 * 1024;

/// So many bytes may be queued by who waits for room.
pub(crate) const ROOM: usize = 256 * 1024;
