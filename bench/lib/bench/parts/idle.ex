# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule Bench.Parts.Idle do
  @moduledoc false

  # What programs cost that do nothing: many `sleep`s of one owner, looked at when their
  # sessions had time to hibernate, and their guardians to give memory back.

  import Bench.Numbers, only: [figure: 4, summary: 1]
  alias Bench.{Proc, Side}

  @sides [{"port", :port}, {"ours", []}]

  @spec run(map()) :: [map()]
  def run(%{quick: quick?}) do
    count = if quick?, do: 20, else: 200
    settle = if quick?, do: 2_500, else: 3_000
    watch = if quick?, do: 500, else: 2_000
    for {_, side} <- @sides, do: once(side, 5, 0, 0)

    rounds = Side.rounds(@sides, if(quick?, do: 1, else: 3), &once(&1, count, settle, watch))

    get = fn key ->
      for round <- rounds, do: Map.new(round, fn {side, one} -> {side, one[key]} end)
    end

    guardians = fn key, unit, what ->
      values = for round <- rounds, value = round["ours"][key], do: value

      if values != [],
        do: [
          %{
            id: "idle.#{key}",
            what: what,
            unit: unit,
            values: %{"ours" => summary(values)},
            ratios: %{}
          }
        ],
        else: []
    end

    [
      figure("idle.vm", "VM memory of an idle program", "bytes", get.(:vm)),
      figure("idle.processes", "of it processes", "bytes", get.(:processes)),
      # What the VM has for itself moves as well: of such differences, no ratio.
      figure("idle.total", "growth of the VM's memory for each", "bytes", get.(:total))
      |> Map.put(:ratios, %{})
    ] ++
      guardians.(:private_dirty, "KB", "private dirty memory of an idle guardian") ++
      guardians.(:private_dirty_most, "KB", "the same, of the largest one") ++
      guardians.(:nursery, "KB", "private dirty memory of the nursery") ++
      guardians.(:wakeups, "1/s", "wake-ups of an idle guardian")
  end

  defp once(side, count, settle, watch) do
    Side.alone(fn ->
      sleep = Side.path("sleep")
      others = {Process.list(), Port.list()}
      before = memory(others)
      programs = for _ <- 1..count, do: Side.open(side, sleep, ["1000"])
      pids = Enum.map(programs, &Side.os_pid/1)
      Process.sleep(settle)
      now = memory(others)
      outside = if side == :port, do: %{}, else: guardians(pids, watch)
      Side.close(programs)

      processes = now.processes - before.processes
      vm = processes + now.ports - before.ports + max(now.binary - before.binary, 0)

      Map.merge(outside, %{
        vm: vm / count,
        processes: processes / count,
        total: (now.total - before.total) / count
      })
    end)
  end

  # What processes and ports have that were not there before. What else lives in this VM is
  # collected first, so that its binaries don't count; sessions are seen as they are.
  defp memory({processes, ports}) do
    for _ <- 1..2, pid <- processes, do: :erlang.garbage_collect(pid)
    memory = :erlang.memory([:total, :binary])

    %{
      total: memory[:total],
      binary: memory[:binary],
      processes: sum(for pid <- Process.list() -- processes, do: Process.info(pid, :memory)),
      ports: sum(for port <- Port.list() -- ports, do: Port.info(port, :memory))
    }
  end

  defp sum(infos), do: Enum.sum(for {:memory, bytes} <- infos, do: bytes)

  defp guardians(pids, watch) do
    guardians = Enum.map(pids, &Proc.parent/1)
    # Pages of an executable file that was just written count as dirty until they are on disk.
    System.cmd("sync", [])
    private = for pid <- guardians, value = Proc.private_dirty(pid), do: value
    switches = for pid <- guardians, do: Proc.voluntary_switches(pid)
    Process.sleep(watch)
    later = for pid <- guardians, do: Proc.voluntary_switches(pid)
    wakeups = Enum.sum(Enum.zip_with(later, switches, &(&1 - &2)))

    %{
      private_dirty: private != [] && Enum.sum(private) / length(private),
      private_dirty_most: private != [] && Enum.max(private),
      nursery: nursery(hd(guardians)),
      wakeups: watch > 0 && wakeups / length(guardians) / watch * 1000
    }
  end

  # Guardians that were forked have a parent which is none of the VM's own helpers.
  defp nursery(guardian) do
    parent = Proc.parent(guardian)
    if Proc.name(parent) =~ "proton", do: Proc.private_dirty(parent)
  end
end
