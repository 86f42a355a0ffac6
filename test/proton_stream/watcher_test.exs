# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.WatcherTest do
  # Not async: these look at processes that all sessions of the VM share.
  use ExUnit.Case, async: false

  import ProtonStream.Eventually
  import ProtonStream.OtherVM
  import ProtonStream.Programs

  alias ProtonStream.Watcher

  setup do
    Process.flag(:trap_exit, true)
    :ok
  end

  defp watcher do
    [{_, watcher}] = :ets.lookup(Watcher, self())
    watcher
  end

  defp stalled do
    ps = sh("yes")
    eventually("the session is full", fn -> ProtonStream.info(ps).held.stdout > 100_000 end)
    ps
  end

  test "all sessions of an owner share one, which ends with the last of them" do
    all = for _ <- 1..3, do: stalled()
    monitor = Process.monitor(watcher())
    for ps <- all, do: ProtonStream.close(ps)
    for ps <- all, do: assert_receive({^ps, :closed})
    assert await_down(monitor) == :normal
    eventually("its row is gone", fn -> :ets.lookup(Watcher, self()) == [] end)
  end

  test "one that is killed is replaced, and the stream goes on" do
    ps = stalled()
    before = watcher()
    Process.exit(before, :kill)
    eventually("another one is there", fn -> watcher() != before end)
    assert flows(ps, 1_000_000)
  end

  test "a table that is gone is made again, and the stream goes on" do
    ps = stalled()
    keeper = :ets.info(Watcher, :owner)
    monitor = Process.monitor(keeper)
    Process.exit(keeper, :kill)
    await_down(monitor)
    assert flows(ps, 1_000_000)
    assert flows(stalled(), 1_000_000)
    assert is_pid(watcher())
  end

  defp flows(ps, count) do
    receive do
      {^ps, {:data, data}} when byte_size(data) < count -> flows(ps, count - byte_size(data))
      {^ps, {:data, _}} -> true
    after
      10_000 -> flunk("the stream stands: #{inspect(ProtonStream.info(ps))}")
    end
  end

  test "what arrives while something is read does not hide that it was read" do
    for n <- 1..200, do: send(self(), {:stranger, n})
    ps = stalled()
    # As many strangers come as messages go: the mailbox never gets shorter.
    assert Enum.all?(1..200, fn n ->
             send(self(), {:stranger, n})
             flows(ps, 1_000)
           end)
  end

  # row: 15
  test "a sleeping owner of 200 programs, with 10,000 strangers, is seldom looked through" do
    script = ~S"""
    for n <- 1..10_000, do: send(self(), {:stranger, n, :binary.copy("x", 100)})

    all =
      for _ <- 1..200 do
        {:ok, ps} = ProtonStream.open("yes", [])
        ps
      end

    eventually("all is full", fn ->
      Enum.all?(all, fn ps -> ProtonStream.info(ps).held.stdout > 100_000 end)
    end)

    [{_, watcher}] = :ets.lookup(ProtonStream.Watcher, self())
    {:messages, before} = Process.info(self(), :messages)

    # What all processes have done: counts are made by processes that end with them.
    work = fn -> elem(:erlang.statistics(:exact_reductions), 0) end

    before_work = work.()
    receive do: (:never -> :ok), after: (5_000 -> :ok)
    done = work.() - before_work
    {:messages, now} = Process.info(self(), :messages)
    {:memory, memory} = Process.info(watcher, :memory)
    owned = Enum.count(:ets.tab2list(ProtonStream.Watcher))
    tell.({done, length(now) == length(before), memory, owned})
    System.halt(0)
    """

    {port, _} = start(script)
    assert {work, asleep?, memory, 1} = told(port)
    assert asleep?
    # A count of these mailboxes takes some 40,000 reductions: fewer than ten of them a
    # second, where one process may have millions. Nothing else is done.
    assert work < 5 * 10 * 40_000
    # No copy of the mailbox stays.
    assert memory < 1_000_000
  end
end
