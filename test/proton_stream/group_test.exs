# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.GroupTest do
  use ExUnit.Case, async: true

  import ProtonStream.Bases
  import ProtonStream.Eventually
  import ProtonStream.Programs

  alias ProtonStream.Group
  alias ProtonStream.Workers.Scripted

  setup do
    Process.flag(:trap_exit, true)
    :ok
  end

  describe "questions" do
    test "are asked one at a time, and answered in order" do
      assert {:query, group} = Group.ask(Group.new(), :query, :a)
      assert {nil, group} = Group.ask(group, {:freeze, true}, :b)
      assert {nil, group} = Group.ask(group, :query, :c)
      assert Group.waiting(group) == [:a, :b, :c]
      assert {:ok, :a, %{}, {:freeze, true}, group} = Group.answered(group, {:stats, []})
      assert {:ok, :b, :ok, :query, group} = Group.answered(group, :done)
      assert {:ok, :c, {:error, _}, nil, group} = Group.answered(group, {:refused, 0, "x"})
      assert Group.answered(group, :done) == :error
    end

    test "are answered with the same keys, whatever is counted" do
      none = Group.answer({:stats, []})
      assert %{memory: nil, cpu: nil, pids: nil, oom_kills: nil, pressure: %{}} = none

      some = Group.answer({:stats, [memory: 4096, memory_some: 1, memory_full: 0, cpu_some: 7]})
      assert Map.keys(some) == Map.keys(none)
      assert some.memory == 4096
      assert some.pressure == %{memory: %{some: 1, full: 0}, cpu: %{some: 7}}
      assert Group.answer({:refused, 16, "memory"}) == {:error, {:cgroup, "memory", :ebusy}}
      assert Group.answer({:refused, 0, "memory"}) == {:error, {:cgroup, "memory", :refused}}
    end
  end

  describe "a program without a cgroup" do
    test "has nothing that is counted, changed or frozen" do
      ps = sh("exec cat")
      assert {:error, {:cgroup, sentence, :eopnotsupp}} = ProtonStream.stats(ps)
      assert sentence =~ "no cgroup"
      assert {:error, {:cgroup, _, :eopnotsupp}} = ProtonStream.update_limits(ps, pids: 5)
      assert {:error, {:cgroup, _, :eopnotsupp}} = ProtonStream.freeze(ps)
      assert {:error, {:cgroup, _, :eopnotsupp}} = ProtonStream.thaw(ps)
    end

    test "that has ended has no counts, and is closed" do
      ps = sh("exit 0")
      assert_receive {:EXIT, ^ps, :normal}
      assert ProtonStream.stats(ps) == nil
      assert ProtonStream.update_limits(ps, pids: 5) == {:error, :closed}
      assert ProtonStream.freeze(ps) == {:error, :closed}
    end
  end

  test "only the owner changes limits, anybody may look" do
    ps = sh("exec cat")

    task =
      Task.async(fn ->
        {ProtonStream.stats(ps), ProtonStream.freeze(ps), ProtonStream.update_limits(ps, pids: 5)}
      end)

    assert {{:error, {:cgroup, _, :eopnotsupp}}, {:error, :not_owner}, {:error, :not_owner}} =
             Task.await(task)
  end

  test "what is no limit raises in the caller" do
    ps = sh("exec cat")

    for limits <- [[], [memory: "lots"], [memmory: 1], [cpu: 0], [pids: 0], :pids] do
      assert_raise ArgumentError, ~r/option :limits is/, fn ->
        ProtonStream.update_limits(ps, limits)
      end
    end

    assert ProtonStream.os_pid(ps)
  end

  describe "limits" do
    @describetag :root
    @describetag :cgroup

    @all ~w(memory cpu cpuacct pids freezer)

    test "need no controllers, hold, are counted, and change while the program runs" do
      base = base(@all)
      limits = [memory: "64M", cpu: 0.5, pids: 20, cpu_weight: 50]
      ps = sh("exec cat", cgroup_base: base, limits: limits)
      assert %{level: :cgroup, cgroup: cgroup} = ProtonStream.info(ps)
      read = fn controller, file -> File.read!(Path.join([mount(controller), cgroup, file])) end
      assert read.("cpu", "cpu.cfs_quota_us") == "50000\n"
      assert read.("cpu", "cpu.shares") == "512\n"

      stats = ProtonStream.stats(ps)
      assert %{memory_limit: 67_108_864, pids_limit: 20, pids: 1, oom_kills: 0} = stats
      assert stats.memory > 0 and stats.memory_peak >= stats.memory and stats.cpu > 0
      for key <- ~w(cpu_user cpu_system cpu_throttled)a, do: assert(is_integer(stats[key]))

      assert ProtonStream.update_limits(ps, memory: 134_217_728, pids: :infinity, cpu: 2) == :ok
      assert read.("cpu", "cpu.cfs_quota_us") == "200000\n"
      assert %{memory_limit: 134_217_728, pids_limit: nil} = ProtonStream.stats(ps)

      assert {:error, {:cgroup, sentence, :eopnotsupp}} =
               ProtonStream.update_limits(ps, cpus: "0")

      assert sentence =~ "cpus: the run was started without the controller cpuset"
      ProtonStream.close(ps)
      assert_receive {^ps, :closed}
      assert groups(@all, base) == []
    end

    test "that are refused fail the start by their name, and leave no group" do
      base = base(@all)
      # On version 1 there is none.
      assert {:error, {:cgroup, what, :einval}} =
               ProtonStream.open("cat", [], cgroup_base: base, limits: [memory_high: "1M"])

      assert what == "memory_high: no counterpart on cgroup v1"
      assert groups(@all, base) == []
    end

    test "end a program that wants more memory" do
      base = base(@all)

      {:ok, ps} =
        ProtonStream.open("tail", ["/dev/zero"],
          cgroup_base: base,
          limits: [memory: "16M"],
          exit_report: true
        )

      assert_receive {^ps, {:exit_report, %{reason: {:signal, 9}, oom_killed: true}}}, 30_000
      assert_receive {:EXIT, ^ps, {:signal, 9}}
      assert groups(@all, base) == []
    end

    test "need no base where the own group is delegated, or the start says what to do" do
      case ProtonStream.open("cat", [], limits: [pids: 20]) do
        {:ok, ps} ->
          assert %{level: :cgroup} = ProtonStream.info(ps)
          assert %{pids_limit: 20} = ProtonStream.stats(ps)

        {:error, {:cgroup, sentence, :eperm}} ->
          assert sentence =~ "Delegate=yes"
      end
    end
  end

  describe "a frozen program" do
    @describetag :root
    @describetag :cgroup

    test "stands still until it is thawed, and can be closed" do
      base = base(~w(pids freezer))
      ps = sh("exec cat", cgroup_base: base, limits: [pids: 20])
      ProtonStream.command(ps, "one\n")
      assert_receive {^ps, {:data, "one\n"}}
      assert ProtonStream.freeze(ps) == :ok
      ProtonStream.command(ps, "two\n")
      # Asked after the command: what cat could have said would be here.
      assert %{pids: 1} = ProtonStream.stats(ps)
      refute_received {^ps, {:data, _}}
      assert ProtonStream.thaw(ps) == :ok
      assert_receive {^ps, {:data, "two\n"}}
      assert ProtonStream.freeze(ps) == :ok
      ProtonStream.close(ps)
      assert_receive {^ps, :closed}
      assert groups(~w(pids freezer), base) == []
    end

    test "is one of a run that has a freezer" do
      base = base(~w(pids))
      ps = sh("exec cat", cgroup_base: base, limits: [pids: 20])
      assert {:error, {:cgroup, sentence, :eopnotsupp}} = ProtonStream.freeze(ps)
      assert sentence =~ "freezer"
    end
  end

  describe "in a callback" do
    @describetag :root
    @describetag :cgroup

    test "a module asks for itself, while others ask too" do
      base = base(~w(pids memory))
      me = self()

      ask = fn ->
        {ProtonStream.stats(self()), ProtonStream.update_limits(self(), pids: 30),
         ProtonStream.stats(self())}
      end

      {:ok, ps} =
        ProtonStream.start_link(Scripted, "cat", [], %{to: me},
          cgroup_base: base,
          limits: [pids: 20]
        )

      others = for _ <- 1..5, do: Task.async(fn -> ProtonStream.stats(ps) end)
      assert {%{pids_limit: 20}, :ok, %{pids_limit: 30}} = GenServer.call(ps, ask)
      for task <- others, do: assert(%{pids: 1} = Task.await(task))
      GenServer.stop(ps)
    end

    @tag :capture_log
    test "a module whose guardian has died is told that it is closed" do
      {:ok, ps} = ProtonStream.start_link(Scripted, "cat", [], %{to: self()})
      guardian = guardian(ps)
      me = self()

      # The callback runs while the guardian dies.
      ask = fn ->
        send(me, :asking)

        receive do
          :dead -> ProtonStream.stats(self())
        end
      end

      task = Task.async(fn -> GenServer.call(ps, ask) end)
      assert_receive :asking
      ProtonStream.OtherVM.kill(guardian)
      await_gone(guardian)
      send(ps, :dead)
      assert Task.await(task) == nil
      assert_receive {:exit, {:guardian, _}}
    end
  end

  describe "when the guardian is killed" do
    @describetag :root
    @describetag :cgroup

    # row: 13
    test "the session kills and removes what is left in the group, and reports after it" do
      base = base(~w(pids freezer))

      script = """
      setsid sh -c 'trap "" TERM HUP; echo $$; while :; do sleep 9; done' &
      trap '' TERM HUP; while :; do sleep 9; done
      """

      ps = sh(script, cgroup_base: base, limits: [pids: 20])
      assert_receive {^ps, {:data, pid}}
      daemon = pid |> String.trim() |> String.to_integer()
      pids = [daemon, ProtonStream.os_pid(ps)]
      ProtonStream.OtherVM.kill(guardian(ps))
      assert_receive {:EXIT, ^ps, {:guardian, {:signal, 9}}}
      refute Enum.any?(pids, &runs?/1)
      assert groups(~w(pids freezer), base) == []
    end

    test "a session that is stopped meanwhile waits for it" do
      base = base(~w(pids freezer))
      script = "setsid sh -c 'trap \"\" TERM HUP; echo $$; while :; do sleep 9; done' & cat"

      {:ok, ps} =
        ProtonStream.start_link(Scripted, "sh", ["-c", script], %{to: self()},
          cgroup_base: base,
          limits: [pids: 20]
        )

      assert_receive {:stdout, pid}
      daemon = pid |> String.trim() |> String.to_integer()
      guardian = guardian(ps)
      :sys.suspend(ps)
      ProtonStream.OtherVM.kill(guardian)
      task = Task.async(fn -> GenServer.stop(ps) end)
      :sys.resume(ps)
      # Either it was stopped first, or it has ended by itself.
      Task.yield(task, 10_000) || Task.shutdown(task)
      refute Process.alive?(ps)
      refute runs?(daemon)
      assert groups(~w(pids freezer), base) == []
    end
  end
end
