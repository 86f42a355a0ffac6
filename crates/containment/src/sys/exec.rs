// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! The exec itself, where it can be had without the C library: in a child that shares its guardian's
//! memory, `errno` is the guardian's, too.

use std::ffi::{c_char, CStr};

use crate::environment::Block;

/// Strings as exec wants them: owned, and a null-terminated array of pointers to them.
#[derive(Debug)]
pub(crate) struct Strings {
    pointers: Vec<*const c_char>,
    _owned: Vec<u8>,
}

impl Strings {
    /// The bytes of a vector are on the heap: moving it moves none of them.
    pub(crate) fn new(block: Block) -> Self {
        let owned = block.into_bytes();
        let mut pointers: Vec<*const c_char> =
            owned.split_inclusive(|byte| *byte == 0).map(|string| string.as_ptr().cast()).collect();
        pointers.push(std::ptr::null());
        Self { pointers, _owned: owned }
    }
}

/// Answers what it failed for.
#[cfg(target_arch = "x86_64")]
pub(super) fn execve(path: &CStr, arguments: &Strings, environment: &Strings) -> i32 {
    let result: isize;
    // SAFETY: the path is terminated, both arrays end with null and point to terminated strings,
    // and all of it lives in the plan. The kernel's calling convention: the number and the result
    // in rax; rcx and r11 are lost.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") libc::SYS_execve as isize => result,
            in("rdi") path.as_ptr(),
            in("rsi") arguments.pointers.as_ptr(),
            in("rdx") environment.pointers.as_ptr(),
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    i32::try_from(-result).unwrap_or(libc::EIO)
}

/// Answers what it failed for.
#[cfg(target_arch = "aarch64")]
pub(super) fn execve(path: &CStr, arguments: &Strings, environment: &Strings) -> i32 {
    let result: isize;
    // SAFETY: as above. The kernel's calling convention: the number in x8, the result in x0.
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") libc::SYS_execve as isize,
            inlateout("x0") path.as_ptr() => result,
            in("x1") arguments.pointers.as_ptr(),
            in("x2") environment.pointers.as_ptr(),
            options(nostack),
        );
    }
    i32::try_from(-result).unwrap_or(libc::EIO)
}

/// Answers what it failed for.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) fn execve(path: &CStr, arguments: &Strings, environment: &Strings) -> i32 {
    // SAFETY: the path is terminated, both arrays end with null and point to terminated strings,
    // and all of it lives in the plan.
    unsafe {
        let (arguments, environment) = (&arguments.pointers, &environment.pointers);
        libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr());
    }
    super::child::errno()
}

/// Whether [`execve`] leaves `errno` alone.
pub(super) const HAS_OWN_EXECVE: bool = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));
