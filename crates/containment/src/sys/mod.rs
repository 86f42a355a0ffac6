// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! The only unsafe code: system calls that rustix lacks, behind safe functions.

mod child;
mod exec;
mod init;
mod launch;
mod memory;
mod process;
mod signals;
mod slice;
mod waiting;

pub(crate) use child::{End, Failure, Limit, Plan, Point, BASE};
pub(crate) use exec::Strings;
pub(crate) use init::{Namespace, Report};
pub(crate) use launch::Launch;
pub use memory::give_memory_back;
pub(crate) use memory::{clear, shared};
pub(crate) use process::{
    close_range_works, fork_alone, is_dead, kill_direct_child, kill_own_group, send_signal,
    wait_any, wait_any_change, Death, Waited,
};
pub(crate) use signals::{
    block_only, default_disposition, ignore_some, pending, signal_descriptor,
};
pub(crate) use slice::Slice;
pub(crate) use waiting::Waiting;
