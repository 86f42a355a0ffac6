# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.GrowthTest do
  # What a VM has is counted in one of its own. Not async: it is the machine's time that
  # these need.
  use ExUnit.Case, async: false

  import ProtonStream.OtherVM

  @moduletag timeout: 300_000

  test "a thousand opens leave no process, descriptor, port or atom behind" do
    script = ~S"""
    Process.flag(:trap_exit, true)

    run = fn n ->
      {:ok, ps} =
        case rem(n, 4) do
          0 -> ProtonStream.open("true", [])
          1 -> ProtonStream.open("sh", ["-c", "echo a; echo b >&2; exit 3"])
          _ -> ProtonStream.open("cat", [])
        end

      {:error, :enoent} = ProtonStream.open("/no/such/program", [])

      if rem(n, 4) > 1 do
        pids = [ProtonStream.os_pid(ps)]
        guardian = guardian(ps)
        if rem(n, 4) == 2, do: ProtonStream.close(ps), else: Process.exit(ps, :kill)
        collect(ps)
        await_free(guardian)
        pids
      else
        collect(ps)
        []
      end
    end

    ProtonStream.open("true", []) |> elem(1) |> collect()
    {:os_pid, nursery} = Port.info(:sys.get_state(ProtonStream.Nursery).port, :os_pid)

    guardians = fn ->
      length(String.split(File.read!("/proc/#{nursery}/task/#{nursery}/children")))
    end

    counts = fn ->
      %{
        processes: :erlang.system_info(:process_count),
        ports: :erlang.system_info(:port_count),
        atoms: :erlang.system_info(:atom_count),
        descriptors: length(File.ls!("/proc/self/fd")),
        guardians: guardians.()
      }
    end

    for n <- 1..40, do: run.(n)
    eventually("nothing moves", fn ->
      before = counts.()
      receive do
      after
        200 -> counts.() == before and before.guardians == 2
      end
    end)
    before = counts.()
    pids = Enum.flat_map(1..1_000, run)
    await_gone(pids)
    now = eventually("as many as before", fn ->
      now = counts.()
      # A protocol that is asked for the first time makes atoms.
      if :lists.all(fn {key, count} -> now[key] <= count end, Map.to_list(before)), do: now
    end)
    tell.({before, now, length(pids)})
    """

    {port, _} = start(script)
    assert {before, now, 500} = told(port)

    for {what, count} <- before,
        do: assert(now[what] <= count, "#{what}: #{count}, then #{now[what]}")
  end

  test "64 MiB through sha256sum take a bounded memory" do
    script = ~S"""
    Process.flag(:trap_exit, true)
    chunk = pattern(1_048_576)
    {:ok, ps} = ProtonStream.open("sha256sum", [])
    before = :erlang.memory(:total)

    peaks =
      for _ <- 1..64 do
        :ok = ProtonStream.write(ps, chunk, 30_000)
        :erlang.memory(:total) - before
      end

    ProtonStream.eof(ps)
    {digest, "", :normal} = collect(ps)
    tell.({Enum.max(peaks), digest, ProtonStream.info(ps)})
    """

    {port, _} = start(script)
    assert {peak, digest, nil} = told(port)
    assert peak < 16 * 1_048_576
    chunk = ProtonStream.Programs.pattern(1_048_576)

    expected = ProtonStream.Programs.sha256(chunk, 64)

    assert digest == expected <> "  -\n"
  end

  # row: 15
  test "an owner that sleeps under yes, on both streams, costs a bounded memory" do
    script = ~S"""
    {:ok, ps} = ProtonStream.open("sh", ["-c", "yes & exec yes >&2"])
    eventually("all is full", fn ->
      %{held: %{stdout: out, stderr: err}} = ProtonStream.info(ps)
      out > 200_000 and err > 200_000
    end)
    {:messages, messages} = Process.info(self(), :messages)
    held = for {^ps, {_, data}} <- messages, do: :binary.referenced_byte_size(data)
    {:binary, binaries} = Process.info(ps, :binary)
    session = for {_, size, _} <- Enum.uniq_by(binaries, &elem(&1, 0)), do: size
    tell.({Enum.sum(held), Enum.sum(session)})
    System.halt(0)
    """

    {port, _} = start(script)
    assert {owner, session} = told(port)
    assert owner <= 2 * 10_240 + 65_536
    # Two streams, each at most twice its credit: binaries that grow are made with room.
    assert session <= 4 * 262_144 + 65_536
  end
end
