// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

//! Nothing: cargo wants a package to have a target that isn't a bench.
