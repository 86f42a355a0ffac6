# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Bases do
  @moduledoc false

  # Cgroups of a test's own, at version 1 mounts, made by root and removed with the test.

  import ProtonStream.Eventually

  @doc "Makes a base with a name of its own for these controllers."
  def base(controllers) do
    name = "proton_stream_test_#{System.pid()}_#{System.unique_integer([:positive])}"
    paths = for controller <- controllers, uniq: true, do: Path.join(mount(controller), name)
    Enum.each(paths, &File.mkdir!/1)

    ExUnit.Callbacks.on_exit(fn ->
      for path <- paths,
          do: eventually("#{path} can be removed", fn -> File.rmdir(path) == :ok end)
    end)

    name
  end

  @doc "Where a controller is mounted."
  def mount(controller) do
    lines = "/proc/self/mountinfo" |> File.read!() |> String.split("\n")

    line =
      Enum.find(lines, fn line ->
        String.contains?(line, " - cgroup ") and
          controller in (line |> String.split([" ", ","]) |> Enum.take(-6))
      end)

    line |> String.split(" ") |> Enum.at(4)
  end

  @doc "Where version 2 is mounted."
  def tree do
    lines = "/proc/self/mountinfo" |> File.read!() |> String.split("\n")
    line = Enum.find(lines, &String.contains?(&1, " - cgroup2 "))
    line |> String.split(" ") |> Enum.at(4)
  end

  @doc "The groups that are left below a base."
  def groups(controllers, base) do
    for controller <- controllers,
        path <- Path.wildcard(Path.join([mount(controller), base, "*"])),
        File.dir?(path),
        do: path
  end
end
