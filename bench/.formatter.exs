# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: CC0-1.0

[inputs: ["{mix,.formatter}.exs", "lib/**/*.ex"]]
