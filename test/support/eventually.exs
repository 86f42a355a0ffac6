# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Eventually do
  @moduledoc false

  # Waiting for a condition with a generous deadline: a slow machine is no failure.

  import ExUnit.Assertions

  @deadline 10_000

  @doc "Waits until the function returns something true, and returns that."
  def eventually(what, condition), do: eventually(what, condition, deadline())

  defp eventually(what, condition, deadline) do
    cond do
      value = condition.() ->
        value

      System.monotonic_time(:millisecond) > deadline ->
        flunk("still not so after #{@deadline} ms: #{what}")

      true ->
        receive do
        after
          5 -> eventually(what, condition, deadline)
        end
    end
  end

  @doc "Waits for the end of a process and returns its reason."
  def await_down(monitor) do
    receive do
      {:DOWN, ^monitor, _, _, reason} -> reason
    after
      @deadline -> flunk("the process is still alive after #{@deadline} ms")
    end
  end

  @doc "Whether an operating-system process runs; one that waits to be reaped does not."
  def runs?(os_pid) do
    case File.read("/proc/#{os_pid}/stat") do
      {:ok, stat} ->
        [state | _] = stat |> String.split(") ") |> List.last() |> String.split(" ")
        state not in ["Z", "X"]

      {:error, _} ->
        false
    end
  end

  @doc "The operating-system processes that run with such an entry in their environment."
  def tagged(entry) do
    for path <- Path.wildcard("/proc/[0-9]*/environ"),
        {:ok, environ} <- [File.read(path)],
        entry in :binary.split(environ, <<0>>, [:global]),
        os_pid = path |> Path.dirname() |> Path.basename() |> String.to_integer(),
        runs?(os_pid),
        do: os_pid
  end

  def await_gone(os_pids) do
    for os_pid <- List.wrap(os_pids),
        do: eventually("#{os_pid} is gone", fn -> not runs?(os_pid) end)

    :ok
  end

  @doc "Waits until a guardian has ended, or has no program any more and waits for the next one."
  def await_free(guardian) do
    eventually("#{guardian} is gone or free", fn ->
      not runs?(guardian) or Enum.all?(children(guardian), &waits?/1)
    end)

    :ok
  end

  @doc "The pids of a process's children."
  def children(pid) do
    case File.read("/proc/#{pid}/task/#{pid}/children") do
      {:ok, text} -> String.split(text)
      {:error, _} -> []
    end
  end

  # One that a guardian has made ahead of its next run.
  defp waits?(pid),
    do: File.read("/proc/#{pid}/comm") in [{:ok, "proton-waiting\n"}, {:error, :enoent}]

  defp deadline, do: System.monotonic_time(:millisecond) + @deadline
end
