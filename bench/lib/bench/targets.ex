# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule Bench.Targets do
  @moduledoc false

  # What we hold ourselves to. A run only says what it saw; a target holds when it was held
  # in two of three runs (`bench/run --compare`).

  @type verdict :: %{
          target: String.t(),
          bound: String.t(),
          seen: number() | nil,
          held: boolean() | nil
        }

  # {what, figure, side, of which the median of :ratios or :values, or the most that was
  # seen, is meant, comparison, bound}
  @targets [
    {"head, 1 MiB window, throughput", "stream.head.throughput", "1 MiB", :ratios, :>=, 0.9},
    {"cat, 1 MiB window, throughput", "stream.cat.throughput", "1 MiB", :ratios, :>=, 2.4},
    {"head, 1 MiB window, CPU", "stream.head.cpu", "1 MiB", :ratios, :<=, 1.0},
    {"cat, 1 MiB window, CPU", "stream.cat.cpu", "1 MiB", :ratios, :<=, 1.0},
    {"head, default window, throughput", "stream.head.throughput", "10 KB", :ratios, :>=, 0.2},
    {"cat, default window, throughput", "stream.cat.throughput", "10 KB", :ratios, :>=, 0.6},
    {"flushed 80-byte lines, default window", "stream.lines.lines", "10 KB", :ratios, :>=, 0.7},
    {"echo of 16 B, p50", "echo.16.p50", "10 KB", :ratios, :<=, 2.2},
    {"echo of 16 B, p99", "echo.16.p99", "10 KB", :ratios, :<=, 3.0},
    {"stdin, write/3 of 1 MiB", "stdin.throughput", "write 1 MiB", :ratios, :>=, 1.0},
    {"stdin, command/2", "stdin.throughput", "command/2", :ratios, :>=, 1.0},
    {"run to exit, p50", "start.true.p50", "ours", :ratios, :<=, 1.0},
    {"run to exit, p99", "start.true.p99", "ours", :ratios, :<=, 1.5},
    {"runs per second, 8 at once", "start.true.eight", "ours", :ratios, :>=, 1.0},
    {"opening 1,000 programs, 8 owners", "start.many.open.8", "ours", :ratios, :<=, 1.2},
    {"opening 1,000 programs, 1 owner", "start.many.open.1", "ours", :ratios, :<=, 1.2},
    {"opening, each heard before the next", "start.many.heard", "ours", :ratios, :<=, 1.2},
    {"idle guardian, private dirty KB", "idle.private_dirty", "ours", :values, :<=, 100},
    {"the same with a nursery", "idle.private_dirty", "ours", :values, :<=, 48},
    {"nursery, private dirty KB", "idle.nursery", "ours", :values, :<=, 300},
    {"idle session, bytes in the VM", "idle.vm", "ours", :values, :<=, 12_288},
    {"idle guardian, wake-ups a second", "idle.wakeups", "ours", :values, :<=, 0},
    {"survivors of a close", "close.tree.survivors", "ours", :values, :<=, 0},
    {"owner asleep, 10 KB, of its bound", "owner.held", "10 KB", :most, :<=, 1.0},
    {"owner asleep, 1 MiB, of its bound", "owner.held", "1 MiB", :most, :<=, 1.0},
    {"owner asleep, CPU of what it runs", "owner.ticks", "10 KB", :most, :<=, 0},
    {"owner awake, programs that stand", "owner.stuck", "10 KB", :most, :<=, 0},
    {"owner in a crowd, default window", "owner.crowded", "10 KB", :values, :>=, 0.5},
    {"1,000 at once, default, not whole", "growth.1000.lost", "10 KB", :most, :<=, 0},
    {"1,000 at once, 1 MiB, not whole", "growth.1000.lost", "1 MiB", :most, :<=, 0},
    {"alive when :closed was said", "close.tree.late", "ours", :values, :<=, 0}
  ]

  @doc "Every target; those whose part did not run have nothing seen."
  @spec judge([map()]) :: [verdict()]
  def judge(figures) do
    by_id = Map.new(figures, &{&1.id, &1})

    for {what, id, side, kind, comparison, bound} <- @targets do
      seen =
        with %{^kind => %{^side => %{median: median}}} <- by_id[id],
             do: median,
             else: (_ -> most(kind, by_id[id], side))

      sign = if comparison == :>=, do: "≥", else: "≤"
      unit = if kind == :ratios, do: " ×", else: ""

      %{
        target: what,
        bound: "#{sign} #{bound}#{unit}",
        seen: seen,
        held: seen && apply(Kernel, comparison, [seen, bound])
      }
    end
  end

  defp most(:most, %{values: values}, side) when is_map_key(values, side), do: values[side].max
  defp most(_, _, _), do: nil
end
