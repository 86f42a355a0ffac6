// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! See the library.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    proton_stream_guardian::main()
}
