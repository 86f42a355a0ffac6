# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.OutputTest do
  # Not async: these tests keep all cores busy by themselves.
  use ExUnit.Case, async: false

  import ProtonStream.Eventually
  import ProtonStream.Programs

  @moduletag timeout: 300_000

  @sizes [{1, 50}, {9_000, 50}, {20_000, 50}, {65_536, 50}, {1_048_576, 50}, {8_388_608, 5}]

  setup do
    Process.flag(:trap_exit, true)
    :ok
  end

  # What the program writes is checked by size and order: the pattern numbers each 8 bytes.
  defp file(size), do: temporary("pattern", pattern(size))

  defp writes(:stdout, path), do: {"cat '#{path}'", &{&1, ""}}
  defp writes(:stderr, path), do: {"cat '#{path}' >&2", &{"", &1}}

  defp writes(:both, path),
    do: {"cat '#{path}' & out=$!; cat '#{path}' >&2; wait $out", &{&1, &1}}

  # row: 2, 3
  for {size, runs} <- @sizes, stream <- [:stdout, :stderr, :both] do
    @tag size: size, runs: runs, stream: stream
    test "#{size} bytes to #{stream} and an exit at once come whole #{runs} times", context do
      {script, whole} = expectation(context)

      for _ <- 1..context.runs do
        assert collect_sizes(sh(script <> "; exit 9")) == whole
      end
    end
  end

  # row: 2
  test "all comes whole to an owner that reads when the program has long ended" do
    data = pattern(200_000)
    path = file(200_000)
    ps = sh("cat '#{path}'; cat '#{path}' >&2; exit 9")
    eventually("the program is gone", fn -> ProtonStream.os_pid(ps) == nil end)
    assert collect_sizes(ps) == {size(data), size(data), {:exit_status, 9}}
  end

  # row: 2
  for {size, runs} <- @sizes, stream <- [:stdout, :stderr, :both] do
    @tag size: size, runs: runs, stream: stream
    test "#{size} bytes to #{stream} come whole to #{runs} owners that begin to read a second later",
         context do
      {script, whole} = expectation(context)

      outcomes =
        at_once(context.runs, fn ->
          ps = sh(script <> "; exit 9")
          receive do: (:never -> :ok), after: (1_000 -> collect_sizes(ps))
        end)

      assert Enum.uniq(outcomes) == [whole]
    end

    @tag size: size, runs: runs, stream: stream
    test "#{size} bytes to #{stream} come whole #{runs} times while a grandchild holds the pipe, and it is gone",
         context do
      {script, whole} = expectation(context)
      pids = temporary("pids", "")
      script = "sleep 1000 & echo $! >>'#{pids}'; #{script}; exit 9"
      outcomes = at_once(context.runs, fn -> collect_sizes(sh(script)) end)
      assert Enum.uniq(outcomes) == [whole]

      grandchildren = pids |> File.read!() |> String.split() |> Enum.map(&String.to_integer/1)
      assert length(grandchildren) == context.runs
      await_gone(grandchildren)
    end
  end

  defp expectation(%{size: size, stream: stream}) do
    data = pattern(size)
    {script, expected} = writes(stream, file(size))
    {out, err} = expected.(data)
    {script, {size(out), size(err), {:exit_status, 9}}}
  end

  defp at_once(runs, fun) do
    task = fn ->
      Process.flag(:trap_exit, true)
      fun.()
    end

    for(_ <- 1..runs, do: Task.async(task)) |> Task.await_many(120_000)
  end

  # row: 3
  test "a stderr that nobody wanted does not hold up stdout" do
    ps = sh("head -c 100000 /dev/zero >&2; echo done")
    assert {"done\n", err, :normal} = collect(ps)
    assert size(err) == size(:binary.copy(<<0>>, 100_000))
  end

  # row: 3
  test "a full stdout does not hold up stderr" do
    {:ok, ps} = ProtonStream.open("sh", ["-c", "yes & while read line; do echo $line >&2; done"])
    # The owner reads nothing but stderr.
    for n <- 1..20 do
      ProtonStream.command(ps, "#{n}\n")
      line = "#{n}\n"
      assert_receive {^ps, {:error, ^line}}
    end
  end

  # row: 9
  test "stderr goes to stdout where that was asked for" do
    ps = sh("echo one; echo two >&2", stderr_to_stdout: true)
    assert collect(ps) == {"one\ntwo\n", "", :normal}
  end

  # row: 9
  test "stderr alone is delivered where that was asked for" do
    ps = sh("yes | head -c 1000000; echo two >&2", capture_stderr_only: true)
    assert collect(ps) == {"", "two\n", :normal}
  end

  for window <- [1, 100, 10_240, 1_048_576, 67_108_864] do
    @tag window: window
    test "a window of #{window} bytes loses nothing and is never exceeded", %{window: window} do
      size = min(window * 2_000, 2_000_000)
      data = pattern(size)
      path = temporary("pattern", data)
      ps = sh("cat '#{path}'", stdio_window: window)
      assert {out, :normal} = within(ps, window, [])
      assert size(out) == size(data)
    end
  end

  defp within(ps, window, chunks) do
    receive do
      {^ps, {:data, data}} ->
        assert byte_size(data) <= window
        within(ps, window, [chunks | data])

      {:EXIT, ^ps, reason} ->
        {IO.iodata_to_binary(chunks), reason}
    after
      30_000 -> flunk("nothing comes")
    end
  end

  # row: 15
  for {title, script} <- [
        {"yes", "yes"},
        {"yes on stderr", "yes >&2"},
        {"a program that writes byte by byte", "while :; do printf x; done"}
      ] do
    @tag script: script
    test "an owner that does not read #{title} holds a window, and reads on when it wants", %{
      script: script
    } do
      ps = sh(script)

      held = fn ->
        %{held: %{stdout: out, stderr: err}} = ProtonStream.info(ps)
        out + err
      end

      eventually("the window is full", fn -> held.() > 0 end)
      before = unread(ps)
      assert before <= 10_240
      eventually("more waits in the session", fn -> held.() > 1_000 end)
      assert unread(ps) == before

      Process.info(self(), :messages)
      |> elem(1)
      |> Enum.each(fn {^ps, {_, data}} -> assert_received {^ps, {_, ^data}} end)

      assert_receive {^ps, {_, _}}
      ProtonStream.close(ps)
      assert_receive {^ps, :closed}
    end
  end

  test "strangers in the owner's mailbox do not stop the stream" do
    for n <- 1..1_000, do: send(self(), {:stranger, n})
    ps = sh("head -c 300000 /dev/zero")
    assert collect_sizes(ps) == {size(:binary.copy(<<0>>, 300_000)), size(""), :normal}
  end

  defp unread(ps) do
    {:messages, messages} = Process.info(self(), :messages)
    for {^ps, {_, data}} <- messages, reduce: 0, do: (sum -> sum + byte_size(data))
  end

  # row: 4
  test "8 MiB come back whole from cat, with the default window" do
    data = pattern(8_388_608)
    {:ok, ps} = ProtonStream.open("cat", [])
    ProtonStream.command(ps, data)
    ProtonStream.eof(ps)
    assert collect_sizes(ps) == {size(data), size(""), :normal}
  end

  test "a hundred programs at once are all whole" do
    data = pattern(100_000)
    path = file(100_000)

    1..100
    |> Enum.map(fn n ->
      Task.async(fn ->
        Process.flag(:trap_exit, true)
        collect_sizes(sh("cat '#{path}'; exit #{n}"))
      end)
    end)
    |> Task.await_many(120_000)
    |> Enum.with_index(1)
    |> Enum.each(fn {result, n} -> assert result == {size(data), size(""), {:exit_status, n}} end)
  end
end
