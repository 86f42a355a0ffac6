# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.LifeTest do
  # A day of a VM's life in a minute: what it has, and what it has started, is the same at the
  # end. Not async: it is long enough as it is.
  use ExUnit.Case, async: false

  import ProtonStream.Eventually
  import ProtonStream.OtherVM

  @opens 20_000

  @moduletag timeout: 600_000

  test "#{@opens} opens, with owners, guardians and nurseries that die, leave all as it was" do
    directory = Path.join(System.tmp_dir!(), "proton_stream_life_#{System.pid()}")
    File.mkdir!(directory)
    on_exit(fn -> File.rm_rf!(directory) end)
    tag = "#{System.pid()}-#{System.unique_integer([:positive])}"
    env = %{"TMPDIR" => directory, "PROTON_LIFE" => tag}
    {port, vm} = start(script(), env)
    assert {before, now, ends} = told(port, 500_000)
    IO.puts("\nlife: #{inspect(ends)}, from #{inspect(before)} to #{inspect(now)}")
    # Each of them has happened, and none is anything else.
    assert Enum.sort(Map.keys(ends)) == [:closed, :ended, :guardian, :killed]
    assert Enum.sum(Map.values(ends)) == @opens

    for {what, count} <- before,
        do: assert(now[what] <= room(what, count), "#{what}: #{count}, then #{now[what]}")

    assert ended(port) == 0
    await_gone(vm)
    eventually("nobody is left", fn -> tagged("PROTON_LIFE=" <> tag) == [] end)
    eventually("no directory is left", fn -> File.ls!(directory) == [] end)
  end

  # Memory is not counted to the byte: a heap has any size between two collections.
  defp room(:memory, before), do: before + 4_194_304
  defp room(:nursery, before), do: before + 262_144
  defp room(_what, before), do: before

  defp script do
    """
    defmodule Life do
      import ProtonStream.Eventually
      import ProtonStream.Programs

      def run(opens) do
        1..4
        |> Enum.map(fn n -> Task.async(fn -> live(n, div(opens, 4), %{}) end) end)
        |> Task.await_many(:infinity)
        |> Enum.reduce(&Map.merge(&1, &2, fn _, a, b -> a + b end))
      end

      defp live(_, 0, ends), do: ends

      defp live(n, left, ends) do
        {owner, monitor} = spawn_monitor(fn -> own(rem(left, 8)) end)
        if rem(left, 8) == 1, do: Process.exit(owner, :kill)
        # One in a thousand: by one of the four.
        if n == 1 and rem(left, 250) == 0, do: alone(&kill_nursery/0)
        reason = receive do: ({:DOWN, ^monitor, _, _, reason} -> reason)
        live(n, left - 1, Map.update(ends, reason, 1, &(&1 + 1)))
      end

      defp own(kind) do
        Process.flag(:trap_exit, true)
        {:ok, ps} = open()

        case kind do
          2 -> ProtonStream.close(ps)
          3 -> :ok
          4 -> Process.exit(ps, :kill)
          5 -> ProtonStream.command(ps, "x")
          _ -> ProtonStream.eof(ps)
        end

        if kind == 5, do: ProtonStream.close(ps)

        {_, _, reason} =
          if kind == 3 do
            alone(fn ->
              guardian = guardian(ps)
              adopted? = parent(guardian) == nursery()
              if adopted?, do: kill(guardian), else: ProtonStream.eof(ps)
              collect(ps)
            end)
          else
            collect(ps)
          end

        exit(
          case {kind, reason} do
            {kind, :normal} when kind in [2, 5] -> :closed
            {3, {:guardian, _}} -> :guardian
            {4, :killed} -> :killed
            {_, :normal} -> :ended
            # A nursery's death takes no program with it, but a start that was on its way.
            {_, other} -> {kind, other}
          end
        )
      end

      # What is not promised is that nobody survives a guardian that is killed when its nursery
      # is dead, too.
      defp alone(fun), do: :global.trans({:life, self()}, fun, [node()])

      defp open do
        program = Enum.random([["cat"], ["sh", "-c", "sleep 1000 & cat"], ["sh", "-c", "sleep 1000 & cat; kill $!"]])
        ProtonStream.open(hd(program), tl(program), delay_to_sigkill: 5)
      end

      # Dead, it has handed its guardians on.
      defp kill_nursery do
        nursery = nursery()
        kill(nursery)
        if nursery, do: await_gone(nursery)
      end

      # One that is gone already is nobody's any more.
      defp kill(pid) when is_integer(pid) and pid > 1, do: System.cmd("kill", ["-KILL", "\#{pid}"], stderr_to_stdout: true)
      defp kill(nil), do: :ok

      def counts do
        {:ok, ps} = eventually("a nursery serves", fn ->
          {:ok, ps} = ProtonStream.open("cat", [])
          ProtonStream.info(ps).transport == :nursery && {:ok, ps}
        end)
        ProtonStream.close(ps)
        collect(ps)
        nursery = nursery()
        guardians = fn -> length(String.split(File.read!("/proc/\#{nursery}/task/\#{nursery}/children"))) end
        eventually("two guardians wait", fn -> guardians.() == 2 end)
        :erlang.garbage_collect()

        %{
          processes: :erlang.system_info(:process_count),
          ports: :erlang.system_info(:port_count),
          descriptors: length(File.ls!("/proc/self/fd")),
          directories: length(File.ls!(System.tmp_dir!())),
          memory: :erlang.memory(:total),
          nursery: memory(nursery)
        }
      end

      defp memory(pid) do
        [_, kilobytes] = Regex.run(~r/Private_Dirty: +(\\d+) kB/, File.read!("/proc/\#{pid}/smaps_rollup"))
        1024 * String.to_integer(kilobytes)
      end
    end

    Process.flag(:trap_exit, true)
    Life.run(1_000)
    before = Life.counts()
    ends = Life.run(#{@opens})
    tell.({before, Life.counts(), ends})
    """
  end
end
