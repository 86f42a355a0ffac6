# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

for file <- ~w(eventually programs bases fake_guardian other_vm workers grid),
    do: Code.require_file("support/#{file}.exs", __DIR__)

{uid, 0} = System.cmd("id", ["-u"])

# What a tag needs, and the command that sets it up.
needs = [
  root: {uid == "0\n", "sudo mix test"},
  cgroup:
    {Enum.all?(~w(memory cpu), &File.exists?("/sys/fs/cgroup/#{&1}/proton_stream_test/tasks")),
     "sudo cgcreate -a $(whoami) -g memory,cpu:proton_stream_test"}
]

exclude =
  for {tag, {false, command}} <- needs do
    IO.puts(:stderr, "Tests tagged #{inspect(tag)} need this, and are left out: #{command}")
    tag
  end

# A desk may lack something. Where everything is tested, what is missing is a failure.
exclude = if System.get_env("CI"), do: [], else: exclude
ExUnit.start(assert_receive_timeout: 5_000, exclude: exclude)
