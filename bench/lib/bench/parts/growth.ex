# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule Bench.Parts.Growth do
  @moduledoc false

  # The same number of bytes from 1, 10, 100 and 1,000 programs at once, each with an owner
  # of its own. All are started first and write when they are told to, so that none has
  # ended before the last one starts.

  import Bench.Numbers, only: [figure: 4]
  alias Bench.{Proc, Side}

  @sides [{"port", :port}, {"10 KB", []}, {"1 MiB", [stdio_window: 1_048_576]}]
  @sample 20
  # Milliseconds for one number of programs: a side that is slow shows after a few rounds.
  @budget 90_000

  @spec run(map()) :: [map()]
  def run(%{quick: quick?}) do
    bytes = if quick?, do: 32 * 1_048_576, else: 1000 * 1_048_576
    counts = if quick?, do: [1, 10], else: [1, 10, 100, 1_000]

    for count <- counts,
        figure <- programs(count, div(bytes, count), if(quick?, do: 2, else: 9)),
        do: figure
  end

  defp programs(count, each, rounds) do
    Side.alone(fn -> once(:port, 1, 1) end)
    Side.alone(fn -> once([], 1, 1) end)
    Process.sleep(50)
    before = Proc.below()

    rounds =
      Side.rounds(@sides, rounds, @budget, fn side ->
        result = Side.alone(fn -> once(side, count, each) end)
        Proc.settle(before)
        for pid <- Process.list(), do: :erlang.garbage_collect(pid)
        result
      end)

    get = fn key ->
      for round <- rounds, do: Map.new(round, fn {side, one} -> {side, one[key]} end)
    end

    what = "#{count} programs streaming together"

    [
      figure("growth.#{count}.throughput", what, "MB/s", get.(:throughput)),
      figure("growth.#{count}.spread", what <> ", slowest to fastest", "×", get.(:spread)),
      figure(
        "growth.#{count}.lost",
        what <> ": without all bytes and exit status 0",
        "programs",
        get.(:lost)
      ),
      figure("growth.#{count}.vm", what <> ", most VM memory, each", "KB", get.(:vm)),
      figure(
        "growth.#{count}.machine",
        what <> ", most memory of the machine, each",
        "KB",
        get.(:machine)
      )
      # Others on the machine need and free memory too: of differences, no ratios.
      |> Map.put(:ratios, %{})
    ]
  end

  defp once(side, count, each) do
    parent = self()
    sh = Side.path("sh")
    args = ["-c", "read go; exec head -c #{each} /dev/zero"]
    available = Proc.available()
    vm = :erlang.memory(:total)

    owners =
      for _ <- 1..count do
        spawn_link(fn -> owner(parent, side, sh, args, each) end)
      end

    for owner <- owners, do: ready(owner)
    sampler = spawn_link(fn -> sample(0, available) end)
    start = System.monotonic_time(:microsecond)
    for owner <- owners, do: send(owner, :go)
    ends = Enum.map(owners, &done/1)
    took = for {at, _} <- ends, do: at - start
    {most, least} = stop(sampler)

    %{
      throughput: count * each / Enum.max(took),
      spread: Enum.max(took) / Enum.min(took),
      lost: Enum.count(ends, fn {_, ended} -> ended != :whole end),
      vm: (most - vm) / count / 1024,
      machine: (available - least) / count
    }
  end

  defp owner(parent, side, sh, args, each) do
    Process.flag(:trap_exit, true)
    p = Side.open(side, sh, args)
    send(parent, {:ready, self()})

    receive do
      :go -> Side.command(p, "\n")
    end

    ended = ended(p, each)
    send(parent, {:done, self(), System.monotonic_time(:microsecond), ended})
  end

  # With many at once one that ends otherwise is a figure, not the end of the part.
  defp ended(p, left) do
    receive do
      {^p, {:data, data}} -> ended(p, left - byte_size(data))
      {^p, {:exit_status, 0}} when left == 0 -> :whole
      {^p, {:exit_status, _}} -> :not_whole
      {:EXIT, ^p, _} -> :not_whole
    after
      60_000 -> :not_whole
    end
  end

  defp ready(owner) do
    receive do
      {:ready, ^owner} -> :ok
    end
  end

  defp done(owner) do
    receive do
      {:done, ^owner, at, ended} -> {at, ended}
    end
  end

  defp sample(most, least) do
    most = max(most, :erlang.memory(:total))
    least = min(least, Proc.available())

    receive do
      {:stop, from} -> send(from, {:sampled, max(most, :erlang.memory(:total)), least})
    after
      @sample -> sample(most, least)
    end
  end

  defp stop(sampler) do
    send(sampler, {:stop, self()})

    receive do
      {:sampled, most, least} -> {most, least}
    end
  end
end
