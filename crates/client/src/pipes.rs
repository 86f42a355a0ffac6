// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! A program's streams as a reader and a writer have them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use proton_stream_protocol::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::session::{End, Shared, ROOM};

/// A program's stdin. Dropped, or shut down, the program reads an end of file after all that was
/// written before.
///
/// A write takes bytes over as long as less than 256 KiB wait; [`flush`] waits until they are in
/// the program's pipe.
///
/// [`flush`]: tokio::io::AsyncWrite::poll_flush
#[derive(Debug)]
pub struct ChildStdin(pub(crate) Pipe);

/// A program's stdout. Once it is dropped, whoever writes there gets SIGPIPE, or EPIPE where that
/// is ignored. What the guardian had taken from the pipe before is lost without a word.
#[derive(Debug)]
pub struct ChildStdout(pub(crate) Pipe);

/// A program's stderr. Once it is dropped, whoever writes there gets SIGPIPE, or EPIPE where that
/// is ignored.
#[derive(Debug)]
pub struct ChildStderr(pub(crate) Pipe);

pub(crate) struct Pipe(pub(crate) Arc<Shared>);

impl std::fmt::Debug for Pipe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("..")
    }
}

/// Reads whatever there is; ready when there will be no more.
pub(crate) fn gather(
    pipe: Option<&Pipe>,
    stream: Stream,
    all: &mut Vec<u8>,
    context: &Context<'_>,
) -> Poll<()> {
    let Some(Pipe(shared)) = pipe else { return Poll::Ready(()) };
    shared.with(|state| {
        let output = state.output(stream);
        while let Some(chunk) = output.take() {
            all.extend_from_slice(&chunk);
        }
        if output.end.is_some() {
            return Poll::Ready(());
        }
        output.reader = Some(context.waker().clone());
        Poll::Pending
    })
}

impl Pipe {
    fn poll_read(
        &self,
        stream: Stream,
        context: &Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        self.0.with(|state| {
            let output = state.output(stream);
            let before = buffer.filled().len();
            output.read(buffer);
            if buffer.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
            match output.end {
                Some(End::Whole) => Poll::Ready(Ok(())),
                Some(End::Cut) => Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the program was ended before all of its output was read",
                ))),
                None => {
                    output.reader = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
    }

    fn desert(&self, stream: Stream) {
        self.0.with(|state| state.desert(stream));
    }
}

impl AsyncRead for ChildStdout {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.poll_read(Stream::Stdout, context, buffer)
    }
}

impl AsyncRead for ChildStderr {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.poll_read(Stream::Stderr, context, buffer)
    }
}

impl AsyncWrite for ChildStdin {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0 .0.with(|state| {
            if !state.stdin.has_room(ROOM) {
                state.stdin.writer = Some(context.waker().clone());
                return Poll::Pending;
            }
            let length = bytes.len().min(ROOM);
            match state.stdin.push(Bytes::copy_from_slice(&bytes[..length])) {
                Ok(()) => Poll::Ready(Ok(length)),
                Err(error) => Poll::Ready(Err(error.into())),
            }
        })
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0 .0.with(|state| {
            let offset = state.stdin.accepted();
            state.stdin.ask(offset);
            match state.stdin.is_written(offset) {
                Ok(true) => Poll::Ready(Ok(())),
                Ok(false) => {
                    state.stdin.writer = Some(context.waker().clone());
                    Poll::Pending
                }
                Err(error) => Poll::Ready(Err(error.into())),
            }
        })
    }

    /// The end of file follows what was written, also if this is dropped.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0 .0.with(|state| state.stdin.finish());
        self.poll_flush(context)
    }
}

impl Drop for ChildStdin {
    fn drop(&mut self) {
        self.0 .0.with(|state| state.stdin.finish());
    }
}

impl Drop for ChildStdout {
    fn drop(&mut self) {
        self.0.desert(Stream::Stdout);
    }
}

impl Drop for ChildStderr {
    fn drop(&mut self) {
        self.0.desert(Stream::Stderr);
    }
}
