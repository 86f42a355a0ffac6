# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.ExitTest do
  use ExUnit.Case, async: true

  import ProtonStream.Eventually
  import ProtonStream.Programs

  # Signals whose default action is to end a process, real-time ones included.
  @terminating [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 24, 25, 26, 27, 29, 30, 31] ++
                 Enum.to_list(34..64)

  setup do
    Process.flag(:trap_exit, true)
    :ok
  end

  defp reason({:exit_status, 0}), do: :normal
  defp reason(reason), do: reason

  # row: 7
  test "every exit status is reported as what it was" do
    for statuses <- Enum.chunk_every(0..255, 16) do
      sessions = for status <- statuses, do: {status, sh("exit #{status}", exit_status: true)}

      for {status, ps} <- sessions do
        assert_receive {^ps, {:exit_status, ^status}}
        reason = reason({:exit_status, status})
        assert_receive {:EXIT, ^ps, ^reason}
        refute_received {:EXIT, ^ps, _}
      end
    end
  end

  # row: 7
  test "every signal that ends a program is reported as what it was" do
    for signal <- @terminating do
      {:ok, ps} = ProtonStream.open("sleep", ["1000"], exit_status: true)
      ProtonStream.signal(ps, signal)
      status = 128 + signal
      assert_receive {^ps, {:exit_status, ^status}}
      assert_receive {:EXIT, ^ps, {:signal, ^signal}}
    end
  end

  test "a core is told of where the system makes one" do
    pattern = File.read!("/proc/sys/kernel/core_pattern")
    {limit, 0} = System.cmd("sh", ["-c", "ulimit -Hc"])
    directory = Path.dirname(temporary("here", ""))

    ps =
      sh("ulimit -c $(ulimit -Hc); kill -SEGV $$",
        exit_report: true,
        cd: directory
      )

    assert_receive {^ps, {:exit_report, report}}
    assert_receive {:EXIT, ^ps, {:signal, 11}}
    assert report.reason == {:signal, 11}
    assert report.core_dumped == (String.trim(pattern) != "" and String.trim(limit) != "0")
  end

  test "a report has the counts and the resources" do
    ps = sh("cat >&2; echo out", exit_report: true)
    ProtonStream.command(ps, "four")
    ProtonStream.eof(ps)
    assert_receive {^ps, {:exit_report, report}}

    assert %{
             reason: :normal,
             core_dumped: false,
             oom_killed: false,
             survivors: [],
             bytes: %{stdin: 4, stdout: 4, stderr: 4},
             rusage: %{user_time: user, system_time: system, max_rss: rss}
           } = report

    assert is_integer(user) and is_integer(system) and rss > 0
    assert_receive {:EXIT, ^ps, :normal}
  end

  # row: 7
  test "an owner that does not trap exits is left alone and gets no message" do
    test = self()

    owner =
      spawn(fn ->
        ps = sh("exit 7")
        send(test, {:ps, ps})
        receive do: (:messages -> send(test, Process.info(self(), :messages)))
      end)

    assert_receive {:ps, ps}
    assert await_down(Process.monitor(ps)) in [{:shutdown, {:exit_status, 7}}, :noproc]
    assert Process.alive?(owner)
    send(owner, :messages)
    assert_receive {:messages, []}
  end

  test "an owner that has unlinked hears nothing either" do
    ps = sh("read line; exit 7")
    Process.unlink(ps)
    monitor = Process.monitor(ps)
    ProtonStream.command(ps, "\n")
    assert await_down(monitor) == {:shutdown, {:exit_status, 7}}
    refute_received {:EXIT, ^ps, _}
  end

  test "a monitor sees :normal for status 0" do
    ps = sh("read line")
    monitor = Process.monitor(ps)
    ProtonStream.command(ps, "\n")
    assert await_down(monitor) == :normal
    assert_receive {:EXIT, ^ps, :normal}
  end

  test "a status is not logged" do
    log =
      ExUnit.CaptureLog.capture_log(fn ->
        ps = sh("exit 3")
        assert_receive {:EXIT, ^ps, {:exit_status, 3}}
        assert await_down(Process.monitor(ps))
      end)

    refute log =~ inspect(self())
    refute log =~ "exit_status"
  end

  test "an owner inside of a long native function does not keep a session from answering" do
    # No native function is needed: an owner that is suspended answers as little.
    test = self()

    owner =
      spawn(fn ->
        Process.flag(:trap_exit, true)
        send(test, {:ps, sh("read line; exit 4", exit_status: true)})
        receive do: ({:EXIT, _, reason} -> send(test, {:reason, reason}))
      end)

    assert_receive {:ps, ps}
    :erlang.suspend_process(owner)
    send(ps, {owner, {:command, "\n"}})
    eventually("the program is gone", fn -> ProtonStream.os_pid(ps) == nil end)
    :erlang.resume_process(owner)
    assert_receive {:reason, {:exit_status, 4}}
  end

  test "a program that is gone has no process id, while its owner has yet to read" do
    test = self()

    owner =
      spawn(fn ->
        Process.flag(:trap_exit, true)
        send(test, {:ps, sh("head -c 100000 /dev/zero")})
        receive do: (:read -> send(test, collect_all()))
      end)

    assert_receive {:ps, ps}
    eventually("the program is gone", fn -> ProtonStream.os_pid(ps) == nil end)
    assert %{exit: %{reason: :normal}, held: %{stdout: held}} = ProtonStream.info(ps)
    assert held > 0
    send(owner, :read)
    assert_receive {100_000, :normal}
  end

  defp collect_all(size \\ 0) do
    receive do
      {_, {:data, data}} -> collect_all(size + byte_size(data))
      {:EXIT, _, reason} -> {size, reason}
    end
  end
end
