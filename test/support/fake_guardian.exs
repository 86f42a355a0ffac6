# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.FakeGuardian do
  @moduledoc false

  # A guardian that says what a test wants to hear, in place of the real one. It is a shell
  # script, which takes no notice of what it is told. The variable that names it belongs to
  # the whole VM, so tests that use it are not async.

  alias ProtonStream.Frame
  alias ProtonStream.Programs

  @doc """
  Installs a guardian that carries out these steps in order: a frame or raw bytes to be
  sent, or a line of shell. Then it waits for the end of its stdin, unless it has exited.
  """
  def install(steps) do
    lines = Enum.map(steps, &line/1)

    script =
      Enum.join(["#!/bin/sh", "exec 2> /dev/null" | lines] ++ ["exec cat > /dev/null", ""], "\n")

    path = Programs.temporary("fake-guardian", script, 0o700)
    named(path)
  end

  @doc "Names a guardian for the time of the test."
  def named(path) do
    before = System.get_env("PROTON_GUARDIAN")
    System.put_env("PROTON_GUARDIAN", path)

    ExUnit.Callbacks.on_exit(fn ->
      if before,
        do: System.put_env("PROTON_GUARDIAN", before),
        else: System.delete_env("PROTON_GUARDIAN")
    end)
  end

  @doc "HELLO and STARTED of a program that does not exist."
  def started(credit \\ 65_536) do
    [
      {:hello, Frame.package()},
      {:started, %{pid: 4_194_305, level: :tree, stdin_credit: credit, cgroup: ""}}
    ]
  end

  @doc "EXIT with status 0, or what is given instead."
  def ended(report \\ %{}) do
    {:exit,
     Map.merge(
       %{
         ending: {:exited, 0},
         core_dumped: false,
         oom_killed: false,
         cause: :program,
         user_time: 0,
         system_time: 0,
         max_rss: 0,
         survivors: []
       },
       report
     )}
  end

  defp line({:sh, line}), do: line
  defp line({:raw, bytes}), do: printf(bytes)

  defp line(frame) do
    bytes = IO.iodata_to_binary(Frame.encode(frame))
    printf(<<byte_size(bytes)::32, bytes::binary>>)
  end

  defp printf(bytes) do
    octal =
      for <<byte <- bytes>>,
        into: "",
        do: "\\" <> String.pad_leading(Integer.to_string(byte, 8), 3, "0")

    "printf '#{octal}'"
  end
end
