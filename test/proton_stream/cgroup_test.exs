# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.CgroupTest do
  use ExUnit.Case, async: true

  import ProtonStream.Eventually
  import ProtonStream.Programs

  alias ProtonStream.Workers.Scripted

  @moduletag :cgroup

  @base "proton_stream_test"
  @memory "/sys/fs/cgroup/memory"
  @cpu "/sys/fs/cgroup/cpu"

  setup do
    Process.flag(:trap_exit, true)
    :ok
  end

  defp cgroup(more),
    do: Keyword.merge([cgroup_controllers: ["memory", "cpu"], cgroup_base: @base], more)

  test "a program runs in a new group below the base, and the group goes with it" do
    ps = sh("cat /proc/self/cgroup; cat", cgroup([]))
    assert %{level: :cgroup, cgroup: cgroup} = ProtonStream.info(ps)
    assert :sys.get_state(ps).cgroup_path == cgroup
    assert String.starts_with?(cgroup, @base <> "/")
    os_pid = ProtonStream.os_pid(ps)
    for mount <- [@memory, @cpu], do: assert("#{os_pid}" in members(Path.join(mount, cgroup)))
    ProtonStream.close(ps)
    assert_receive {^ps, :closed}
    for mount <- [@memory, @cpu], do: refute(File.exists?(Path.join(mount, cgroup)))
  end

  test "two programs of one base have groups of their own" do
    [one, two] = for _ <- 1..2, do: sh("cat", cgroup([]))
    assert ProtonStream.info(one).cgroup != ProtonStream.info(two).cgroup
  end

  # row: 16
  test "settings of two controllers go to their own" do
    sets = [
      {"memory", "memory.limit_in_bytes", "268435456"},
      {"cpu", "cpu.cfs_period_us", "100000"},
      {"cpu", "cpu.cfs_quota_us", "50000"}
    ]

    ps = sh("cat", cgroup(cgroup_sets: sets))
    cgroup = ProtonStream.info(ps).cgroup
    assert File.read!(Path.join([@memory, cgroup, "memory.limit_in_bytes"])) == "268435456\n"
    assert File.read!(Path.join([@cpu, cgroup, "cpu.cfs_quota_us"])) == "50000\n"
    ProtonStream.close(ps)
    assert_receive {^ps, :closed}
  end

  # row: 16
  test "a value that the kernel refuses fails the start, and leaves no group" do
    before = groups()

    result =
      ProtonStream.open(
        "cat",
        [],
        cgroup(cgroup_sets: [{"memory", "memory.limit_in_bytes", "garbage"}])
      )

    assert {:error, {:cgroup, path, :einval}} = result
    assert path =~ "memory.limit_in_bytes"
    assert groups() -- before == []
  end

  # row: 8
  test "a base that does not exist fails the start" do
    assert {:error, {:cgroup, path, :enoent}} =
             ProtonStream.open("cat", [], cgroup(cgroup_base: "no/such/base"))

    assert path =~ "no/such/base"
  end

  # row: 17
  test "a program that wants more memory than its limit is told of as such" do
    sets = [{"memory", "memory.limit_in_bytes", "16777216"}]

    {:ok, ps} =
      ProtonStream.open(
        "sh",
        ["-c", "exec tail /dev/zero"],
        cgroup(cgroup_sets: sets, exit_report: true)
      )

    assert_receive {^ps, {:exit_report, report}}, 30_000
    assert report.reason == {:signal, 9}
    assert report.oom_killed
  end

  test "what a program started in its group is gone with it" do
    ps = sh("setsid sh -c 'trap \"\" TERM; echo $$; exec sleep 1000' & wait", cgroup([]))
    assert_receive {^ps, {:data, pid}}
    ProtonStream.close(ps)
    assert_receive {^ps, :closed}
    refute runs?(pid |> String.trim() |> String.to_integer())
  end

  describe "on a fixed path" do
    # A program that takes its time to end, so that whoever follows has to wait for it.
    @script "trap '' TERM; echo ready; while :; do sleep 1; done"
    @fixed [cgroup_controllers: ["cpu"], cgroup_path: @base <> "/fixed", delay_to_sigkill: 200]

    @tag :capture_log
    test "a supervisor's restart works, whatever has ended the one before" do
      spec =
        ProtonStream.child_spec(
          [module: Scripted, command: "sh", args: ["-c", @script], init_arg: %{to: self()}] ++
            @fixed
        )

      {:ok, supervisor} = Supervisor.start_link([spec], strategy: :one_for_one, max_restarts: 100)

      assert_receive {:stdout, "ready\n"}

      for ending <- [
            fn ps -> ProtonStream.signal(ps, :sigkill) end,
            fn ps -> Process.exit(ps, :kill) end,
            fn ps -> ProtonStream.OtherVM.kill(guardian(ps)) end,
            fn ps -> spawn(fn -> GenServer.call(ps, fn -> raise "a crash" end) end) end,
            fn ps -> Process.exit(ps, :kill) end
          ] do
        [{_, ps, _, _}] = Supervisor.which_children(supervisor)
        monitor = Process.monitor(ps)
        ending.(ps)
        await_down(monitor)
        assert_receive {:stdout, "ready\n"}
      end

      # As a supervisor does it with `shutdown: :brutal_kill`.
      Supervisor.stop(supervisor)
      spec = %{spec | shutdown: :brutal_kill}
      {:ok, supervisor} = Supervisor.start_link([spec], strategy: :one_for_one)
      assert_receive {:stdout, "ready\n"}
      :ok = Supervisor.terminate_child(supervisor, spec.id)
      {:ok, _} = Supervisor.restart_child(supervisor, spec.id)
      assert_receive {:stdout, "ready\n"}
      Supervisor.stop(supervisor)

      eventually("the path is free", fn -> not File.exists?(Path.join([@cpu, @base, "fixed"])) end)
    end

    test "a start waits for what a killed VM has left there" do
      script = """
      {:ok, ps} = ProtonStream.open("sh", ["-c", #{inspect(@script)}], #{inspect(@fixed)})
      await_line(ps, "ready")
      tell.(:ready)
      receive do: (:never -> :ok)
      """

      {port, os_pid} = ProtonStream.OtherVM.start(script)
      assert ProtonStream.OtherVM.told(port) == :ready
      ProtonStream.OtherVM.kill(os_pid)
      assert {:ok, ps} = ProtonStream.open("cat", [], @fixed)
      ProtonStream.close(ps)
      assert_receive {^ps, :closed}
    end

    test "a start that is given up while it waits leaves nothing" do
      slow = Keyword.put(@fixed, :delay_to_sigkill, 2_000)
      first = sh(@script, slow)
      await_line(first, "ready")
      ProtonStream.close(first)
      assert ProtonStream.open("cat", [], [start_timeout: 50] ++ slow) == {:error, :timeout}
      assert_receive {^first, :closed}

      eventually("the path is free", fn -> not File.exists?(Path.join([@cpu, @base, "fixed"])) end)
    end

    test "one that lives is not driven out" do
      assert {:ok, _} = ProtonStream.open("cat", [], @fixed)
      assert {:error, {:cgroup, path, :ebusy}} = ProtonStream.open("cat", [], @fixed)
      assert path =~ "fixed"
    end
  end

  defp members(path), do: path |> Path.join("cgroup.procs") |> File.read!() |> String.split()

  defp groups,
    do: [@memory, @base, "*"] |> Path.join() |> Path.wildcard() |> Enum.filter(&File.dir?/1)
end
