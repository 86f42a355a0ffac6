# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.CgroupTest do
  use ExUnit.Case, async: true

  import ProtonStream.Eventually
  import ProtonStream.Programs

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

  defp members(path), do: path |> Path.join("cgroup.procs") |> File.read!() |> String.split()

  defp groups,
    do: [@memory, @base, "*"] |> Path.join() |> Path.wildcard() |> Enum.filter(&File.dir?/1)
end
