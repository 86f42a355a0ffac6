// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! The way to a guardian: its executable, the nursery that forks it, the socket to it.

mod link;
mod locate;
mod nursery;
mod process;

pub(crate) use link::{exec, fork, Link, Way};
pub(crate) use locate::{locate, Executable};
pub(crate) use nursery::nursery;
