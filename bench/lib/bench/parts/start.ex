# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule Bench.Parts.Start do
  @moduledoc false

  # `true` by absolute path, from the open to its exit status: one at a time, and by eight
  # owners at once. And many programs that stay, opened and closed again: `sleep`s by one owner
  # and by eight, and such as say something, each heard before the next one is opened.

  import Bench.Numbers, only: [figure: 4, percentile: 2, short: 1]
  alias Bench.{Proc, Side}

  @sides [{"port", :port}, {"ours", []}]
  @plotted [50, 90, 99, 99.9]
  @owners 8

  @spec run(map()) :: [map()]
  def run(%{quick: quick?}) do
    path = Side.path("true")
    for {_, side} <- @sides, do: Side.alone(fn -> one(side, path) end)

    one_at_a_time(path, if(quick?, do: 30, else: 200), if(quick?, do: 3, else: 11)) ++
      at_once(path, if(quick?, do: 5, else: 40), if(quick?, do: 3, else: 11)) ++
      Enum.flat_map([1, @owners], fn owners ->
        many(owners, if(quick?, do: 48, else: 1_000), if(quick?, do: 2, else: 9))
      end) ++
      one_after_the_other(if(quick?, do: 20, else: 300), if(quick?, do: 2, else: 9))
  end

  defp one_at_a_time(path, times, rounds) do
    rounds =
      Side.rounds(@sides ++ [{"System.cmd", :cmd}], rounds, fn side ->
        Side.alone(fn -> for _ <- 1..times, do: one(side, path) end)
      end)

    at = fn percent ->
      for round <- rounds,
          do: Map.new(round, fn {side, all} -> {side, percentile(all, percent)} end)
    end

    pooled =
      for side <- Map.keys(hd(rounds)), into: %{} do
        all = Enum.flat_map(rounds, & &1[side])
        {side, for(percent <- @plotted, do: short(percentile(all, percent)))}
      end

    [
      figure("start.true.p50", "run to exit of `true`, p50", "µs", at.(50)),
      figure("start.true.p99", "run to exit of `true`, p99", "µs", at.(99)),
      %{
        id: "start.true.curve",
        what: "run to exit of `true`",
        unit: "µs",
        x: @plotted,
        curves: pooled
      }
    ]
  end

  defp one(:cmd, path) do
    {took, {"", 0}} = Side.microseconds(fn -> System.cmd(path, []) end)
    took
  end

  defp one(side, path) do
    {took, 0} = Side.microseconds(fn -> side |> Side.open(path, []) |> Side.count() end)
    took
  end

  defp at_once(path, times, rounds) do
    rounds =
      Side.rounds(@sides, rounds, fn side ->
        {took, _} =
          Side.microseconds(fn ->
            1..@owners
            |> Enum.map(fn _ -> Task.async(fn -> for _ <- 1..times, do: one(side, path) end) end)
            |> Task.await_many(:infinity)
          end)

        @owners * times / took * 1_000_000
      end)

    [figure("start.true.eight", "runs of `true`, #{@owners} at once", "runs/s", rounds)]
  end

  # `Port.open/2` returns before there is a process, let alone the program, so the time ends
  # when each process has become its program. A port has no close that ends a `sleep`, so
  # closing has no counterpart.
  defp many(owners, count, rounds) do
    sleep = Side.path("sleep")

    rounds =
      Side.rounds(@sides, rounds, fn side ->
        {opening, tasks} =
          Side.microseconds(fn ->
            tasks = for _ <- 1..owners, do: owner(side, sleep, div(count, owners))
            for %{pid: pid} <- tasks, do: receive(do: ({:open, ^pid} -> :ok))
            tasks
          end)

        {closing, _} =
          Side.microseconds(fn ->
            for %{pid: pid} <- tasks, do: send(pid, :close)
            Task.await_many(tasks, :infinity)
          end)

        {opening / count, side != :port && closing / count}
      end)

    for {id, what, index} <- [{"open", "opening", 0}, {"close", "closing", 1}] do
      figure(
        "start.many.#{id}.#{owners}",
        "#{what} #{count} sleeps, each; owners: #{owners}",
        "µs",
        for(round <- rounds, do: Map.new(round, fn {side, both} -> {side, elem(both, index)} end))
      )
    end
  end

  defp one_after_the_other(count, rounds) do
    sh = Side.path("sh")

    rounds =
      Side.rounds(@sides, rounds, fn side ->
        {opening, programs} =
          Side.microseconds(fn ->
            for _ <- 1..count do
              program = Side.open(side, sh, ["-c", "echo; exec sleep 1000"])
              Side.take(program, 1)
              program
            end
          end)

        Side.close(programs)
        opening / count
      end)

    [
      figure(
        "start.many.heard",
        "opening #{count} programs, each heard before the next",
        "µs",
        rounds
      )
    ]
  end

  # It says when its programs run, and closes them when it is told.
  defp owner(side, path, count) do
    bench = self()

    Task.async(fn ->
      programs = for _ <- 1..count, do: Side.open(side, path, ["1000"])
      Enum.each(programs, &runs(Side.os_pid(&1)))
      send(bench, {:open, self()})
      receive(do: (:close -> Side.close(programs)))
    end)
  end

  defp runs(pid), do: Proc.name(pid) == "sleep" || runs(pid)
end
