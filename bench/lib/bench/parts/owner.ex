# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule Bench.Parts.Owner do
  @moduledoc false

  # Owners that don't listen. What the mailbox of one that sleeps holds while its program never
  # stops writing, and what it gets when it wakes; and how fast bytes come to one whose mailbox is
  # full of messages that it doesn't want.
  #
  # There is no bare port in here: its owner's mailbox would take the machine's memory.

  import Bench.Numbers, only: [figure: 4]
  alias Bench.{Proc, Side}

  @windows [{"10 KB", 10_240}, {"64 KB", 65_536}, {"1 MiB", 1_048_576}]
  # Beside two windows, for each stream.
  @extra 65_536

  @programs ["exec yes", "exec yes >&2", "while :; do printf x; done"]
  @look 50
  @strangers 100_000

  @spec run(map()) :: [map()]
  def run(%{quick: quick?}) do
    asleep(if(quick?, do: 1_500, else: 10_000)) ++
      crowded(if(quick?, do: 1, else: 9), if(quick?, do: 500_000, else: 4_000_000))
  end

  defp asleep(time) do
    all = for script <- @programs, {name, window} <- @windows, do: {script, name, window}
    tasks = for one <- all, do: {one, Task.async(fn -> asleep(one, time) end)}
    seen = for {{script, name, _}, task} <- tasks, do: {script, name, Task.await(task, :infinity)}

    for {key, what, unit} <- [
          {:held, "held by an owner asleep for 10 s, of 2 windows + 64 KB", "×"},
          {:ticks, "CPU time of its program and guardian in the last half of it", "1/100 s"},
          {:stuck, "programs that don't go on when it wakes", "programs"}
        ] do
      rounds =
        for script <- @programs,
            do: for({^script, name, one} <- seen, into: %{}, do: {name, one[key]})

      figure("owner.#{key}", what, unit, rounds)
    end
  end

  # The owner, another process that looks at it, and what they saw.
  defp asleep({script, _, window}, time) do
    main = self()

    owner =
      spawn_link(fn ->
        ps = Side.open([stdio_window: window], Side.path("sh"), ["-c", script])
        send(main, {self(), [Side.os_pid(ps), Proc.parent(Side.os_pid(ps))]})
        receive do: (:wake -> :ok)
        Side.take(ps, 4 * window)
        Side.close([ps])
        send(main, {self(), :awake})
      end)

    receive do
      {^owner, pids} ->
        first = most(owner, div(time, 2))
        before = ticks(pids)
        held = max(first, most(owner, div(time, 2)))
        used = ticks(pids) - before
        send(owner, :wake)

        stuck =
          receive do
            {^owner, :awake} -> 0
          after
            30_000 -> 1
          end

        %{held: held / (2 * window + @extra), ticks: used, stuck: stuck}
    end
  end

  defp ticks(pids), do: pids |> Enum.map(&Proc.ticks/1) |> Enum.sum()

  defp most(owner, time) do
    Enum.max(
      for _ <- 1..div(time, @look) do
        Process.sleep(@look)
        held(owner)
      end
    )
  end

  # With all that is kept alive by what is held, and what a message itself takes.
  defp held(owner) do
    {:messages, messages} = Process.info(owner, :messages)

    sizes =
      for {_, {kind, data}} <- messages, kind in [:data, :error] do
        :binary.referenced_byte_size(data) + 8 * :erts_debug.flat_size({self(), {kind, ""}})
      end

    Enum.sum(sizes)
  end

  defp crowded(rounds, bytes) do
    all =
      Side.rounds(@windows, rounds, fn window ->
        Side.alone(fn ->
          for n <- 1..@strangers, do: send(self(), {:stranger, n})
          bound = bound(window)
          {time, :ok} = Side.microseconds(fn -> read(window, bytes) end)
          bytes / time / bound
        end)
      end)

    what = "bytes to an owner with 100,000 strangers in its mailbox, of window ÷ one look"
    [figure("owner.crowded", what, "×", all)]
  end

  defp read(window, bytes) do
    options = [stdio_window: window]
    ps = Side.open(options, Side.path("head"), ["-c", "#{bytes}", "/dev/zero"])
    Side.take(ps, bytes)
  end

  # Bytes in a microsecond for one that does nothing but look for the next window.
  defp bound(window) do
    other = spawn(fn -> receive(do: (:never -> :ok)) end)
    payload = :binary.copy("x", window)

    times =
      for _ <- 1..50 do
        send(self(), {other, {:data, payload}})
        {took, :ok} = Side.microseconds(fn -> Side.take(other, window) end)
        took
      end

    window / Bench.Numbers.percentile(times, 50)
  end
end
