# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule Bench.Parts.Close do
  @moduledoc false

  # From `close/1` to `{ps, :closed}`, which is said when the tree is dead. Whether it was
  # is looked up in /proc right then: who is still there is counted as late, waited for,
  # and, after a second, counted as a survivor and killed.
  #
  # The tree is a shell, two children and a third one in a session of its own. All die on
  # SIGTERM, so the kill delay is no part of it.

  import Bench.Numbers, only: [percentile: 2, short: 1]
  alias Bench.{Proc, Side}

  @tree "sleep 1000 & echo $!; sleep 1000 & echo $!; setsid sleep 1000 & echo $!; echo $$; wait"
  @patience 1_000_000

  @spec run(map()) :: [map()]
  def run(%{quick: quick?}) do
    times = if quick?, do: 30, else: 1_000

    many(times, "close.one", "close of a program that dies on SIGTERM", fn ->
      ps = Side.open([], Side.path("sleep"), ["1000"])
      {ps, [Side.os_pid(ps)]}
    end) ++
      many(times, "close.tree", "close to tree dead, 4 processes in 2 sessions", fn ->
        ps = Side.open([], Side.path("sh"), ["-c", @tree])
        {ps, pids(ps, "")}
      end)
  end

  defp many(times, id, what, open) do
    all =
      Side.alone(fn ->
        for _ <- 1..times do
          {ps, pids} = open.()
          # `setsid` has become `sleep` by then, and nothing is about to start.
          Process.sleep(2)
          close(ps, pids)
        end
      end)

    dead = Enum.map(all, & &1.dead)

    [
      one("#{id}.p50", what <> ", p50", "µs", percentile(dead, 50), times),
      one("#{id}.p99", what <> ", p99", "µs", percentile(dead, 99), times),
      one("#{id}.most", what <> ", longest", "µs", Enum.max(dead), times),
      one(
        "#{id}.late",
        what <> ": processes alive at :closed",
        "processes",
        total(all, :late),
        times
      ),
      one("#{id}.survivors", what <> ": survivors", "processes", total(all, :survivors), times)
    ]
  end

  defp total(all, key), do: all |> Enum.map(& &1[key]) |> Enum.sum()

  defp one(id, what, unit, value, n) do
    value = short(value)

    %{
      id: id,
      what: what,
      unit: unit,
      values: %{"ours" => %{median: value, min: value, max: value, n: n}},
      ratios: %{}
    }
  end

  defp close(ps, pids) do
    start = System.monotonic_time(:nanosecond)
    ProtonStream.close(ps)
    Side.closed(ps)
    closed = System.monotonic_time(:nanosecond)
    late = Enum.filter(pids, &Proc.alive?/1)
    survivors = wait(late, start)
    dead = if late == [], do: closed, else: System.monotonic_time(:nanosecond)
    for pid <- survivors, do: System.cmd("kill", ["-KILL", "#{pid}"])
    %{dead: (dead - start) / 1000, late: length(late), survivors: length(survivors)}
  end

  defp wait([], _start), do: []

  defp wait(late, start) do
    if System.monotonic_time(:nanosecond) - start > @patience * 1000,
      do: late,
      else: late |> Enum.filter(&Proc.alive?/1) |> wait(start)
  end

  defp pids(ps, text) do
    case String.split(text, "\n", trim: true) do
      [_, _, _, _] = pids when binary_part(text, byte_size(text), -1) == "\n" ->
        Enum.map(pids, &String.to_integer/1)

      _ ->
        receive do
          {^ps, {:data, data}} -> pids(ps, text <> data)
        end
    end
  end
end
