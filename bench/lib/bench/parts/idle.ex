# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule Bench.Parts.Idle do
  @moduledoc false

  # What programs cost that do nothing: many `sleep`s of one owner, looked at when their
  # sessions had time to hibernate.

  import Bench.Numbers, only: [figure: 4, summary: 1]
  alias Bench.{Proc, Side}

  @sides [{"port", :port}, {"ours", []}]

  @spec run(map()) :: [map()]
  def run(%{quick: quick?}) do
    count = if quick?, do: 20, else: 200
    settle = if quick?, do: 1_500, else: 3_000
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

    [figure("idle.vm", "VM memory of an idle program, all in all", "bytes", get.(:vm))] ++
      [figure("idle.vm_parts", "of it processes and binaries", "bytes", get.(:session))] ++
      guardians.(:private_dirty, "KB", "private dirty memory of an idle guardian") ++
      guardians.(:private_dirty_most, "KB", "the same, of the largest one") ++
      guardians.(:nursery, "KB", "private dirty memory of the nursery") ++
      guardians.(:wakeups, "1/s", "wake-ups of an idle guardian")
  end

  defp once(side, count, settle, watch) do
    Side.alone(fn ->
      sleep = Side.path("sleep")
      others = Process.list()
      before = vm(others)
      programs = for _ <- 1..count, do: Side.open(side, sleep, ["1000"])
      pids = Enum.map(programs, &Side.os_pid/1)
      Process.sleep(settle)
      now = vm(others)
      outside = if side == :port, do: %{}, else: guardians(pids, watch)
      Side.close(programs)

      Map.merge(outside, %{
        vm: (now.total - before.total) / count,
        session: (now.session - before.session) / count
      })
    end)
  end

  # What else lives in this VM is collected before and after, and sessions are not: they
  # are seen as they are.
  defp vm(others) do
    Enum.each(others, &:erlang.garbage_collect/1)
    memory = :erlang.memory([:total, :processes, :binary])
    %{total: memory[:total], session: memory[:processes] + memory[:binary]}
  end

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
