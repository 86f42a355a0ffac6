# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule Bench.Parts.Stream do
  @moduledoc false

  # A program writes as fast as it can, its owner counts. From the open to the exit, so
  # that a start belongs to it; of a GiB it is less than a percent. "unread" is what the program
  # would write to somebody who throws it away: there is no more to be had on this machine.

  import Bench.Numbers, only: [figure: 4]
  alias Bench.{Proc, Side}

  @windows [
    {"10 KB", []},
    {"64 KB", [stdio_window: 65_536]},
    {"1 MiB", [stdio_window: 1_048_576]}
  ]

  @spec run(map()) :: [map()]
  def run(%{quick: quick?, directory: directory}) do
    bytes = if quick?, do: 64 * 1_048_576, else: 1_073_741_824
    count = if quick?, do: 30_000, else: 400_000
    rounds = if quick?, do: 2, else: 9

    file = Path.join(directory, "cached")

    {_, 0} =
      System.cmd(
        "dd",
        ~w(if=/dev/zero of=#{file} bs=1M status=none count=#{div(bytes, 1_048_576)})
      )

    # Once read, it is in the page cache.
    {_, 0} = System.cmd("dd", ~w(if=#{file} of=/dev/null bs=1M status=none))

    head = [Side.path("head"), "-c", "#{bytes}", "/dev/zero"]
    cat = [Side.path("cat"), file]
    lines = [program("lines"), "#{count}"]
    sides = [{"port", :port} | @windows]
    others = sides ++ [{"System.cmd", :cmd}, {"unread", :drain}]

    figures =
      stream("head", "head -c #{size(bytes)} /dev/zero", others, head, bytes, rounds) ++
        stream("cat", "cat of a cached file of #{size(bytes)}", others, cat, bytes, rounds) ++
        stream("lines", "80-byte lines, each flushed", sides, lines, count * 80, rounds)

    File.rm!(file)
    figures
  end

  defp stream(id, what, sides, [path | args], bytes, rounds) do
    before = warm(sides, path, args)

    rounds =
      Side.rounds(sides, rounds, fn side ->
        cpu = Proc.cpu()
        {took, counted} = Side.alone(fn -> once(side, path, args) end)
        Proc.settle(before)

        if counted not in [bytes, :thrown_away],
          do: raise("#{id}, #{inspect(side)}: #{counted} bytes came of #{bytes}")

        %{took: took, cpu: Proc.cpu() - cpu}
      end)

    rate =
      if id == "lines",
        do: {"lines", 1_000_000 / 80, "lines/s"},
        else: {"throughput", 1, "MB/s"}

    {name, factor, unit} = rate

    [
      figure("stream.#{id}.#{name}", what, unit, map(rounds, &(bytes / &1.took * factor))),
      figure(
        "stream.#{id}.cpu",
        what <> ", CPU of all processes",
        "s/GiB",
        map(rounds, &(&1.cpu / bytes * 1_073_741_824))
      )
    ]
  end

  # The first program of a kind pays for code that is loaded and pages that are touched. It
  # is stopped soon, if it is ours to stop: what runs for long needs no longer warming.
  defp warm(sides, _path, _args) do
    yes = Side.path("true")

    for {_, side} <- sides,
        side not in [:cmd, :drain],
        do: Side.alone(fn -> once(side, yes, []) end)

    Process.sleep(50)
    Proc.below()
  end

  defp once(:cmd, path, args) do
    Side.microseconds(fn ->
      {%Bench.Count{bytes: bytes}, 0} = System.cmd(path, args, into: %Bench.Count{})
      bytes
    end)
  end

  defp once(:drain, path, args) do
    Side.microseconds(fn ->
      {"", 0} = System.cmd(program("drain"), [path | args])
      :thrown_away
    end)
  end

  defp once(side, path, args),
    do: Side.microseconds(fn -> side |> Side.open(path, args) |> Side.count() end)

  # Of `programs/`, as `bench/run` has built it.
  defp program(name), do: Path.absname("_build/programs/release/#{name}")

  defp map(rounds, fun) do
    for round <- rounds, do: Map.new(round, fn {side, result} -> {side, fun.(result)} end)
  end

  defp size(bytes) when rem(bytes, 1_073_741_824) == 0, do: "#{div(bytes, 1_073_741_824)}G"
  defp size(bytes), do: "#{div(bytes, 1_048_576)}M"
end
