# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule Bench.Group do
  @moduledoc false

  # A cgroup of the bench's own, where this user may make one, on either version.

  @controllers ~w(memory cpu pids)

  @doc "Runs with the name of a group below which there is nothing else; `nil` without one."
  @spec below((String.t() | nil -> result)) :: result when result: term()
  def below(fun) do
    name = "proton_bench_#{System.pid()}"
    made = for mount <- mounts(), path = Path.join(mount, name), File.mkdir(path) == :ok, do: path

    try do
      fun.(if(made != [], do: name))
    after
      for path <- made, do: remove(path, 100)
    end
  end

  # The kernel holds on to a group for a moment after the last death in it.
  defp remove(path, tries) do
    with {:error, :ebusy} when tries > 0 <- File.rmdir(path) do
      Process.sleep(10)
      remove(path, tries - 1)
    end
  end

  defp mounts do
    lines = "/proc/self/mountinfo" |> File.read!() |> String.split("\n", trim: true)
    fields = for line <- lines, do: String.split(line, " ")

    of_version_1 =
      for fields <- fields,
          "cgroup" in Enum.take(fields, -3),
          controllers = fields |> List.last() |> String.split(","),
          Enum.any?(@controllers, &(&1 in controllers)),
          do: Enum.at(fields, 4)

    of_version_2 =
      for fields <- fields, "cgroup2" in Enum.take(fields, -3), do: Enum.at(fields, 4)

    if of_version_1 != [], do: of_version_1, else: of_version_2
  end
end
