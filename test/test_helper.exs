# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

for file <- ~w(eventually programs fake_guardian other_vm workers),
    do: Code.require_file("support/#{file}.exs", __DIR__)

ExUnit.start(assert_receive_timeout: 5_000)
