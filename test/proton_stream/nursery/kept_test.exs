# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Nursery.KeptTest do
  # Connections whose run is over, or is to come. Not async: there is one table of them.
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog
  import ProtonStream.Eventually
  import ProtonStream.Programs

  alias ProtonStream.Nursery.Kept

  setup do
    Process.flag(:trap_exit, true)
    afresh()
  end

  # Nothing is kept, nor made ahead of whoever comes first.
  defp afresh do
    :ok = Supervisor.terminate_child(ProtonStream.Supervisor, Kept)
    {:ok, _} = Supervisor.restart_child(ProtonStream.Supervisor, Kept)
    :ok
  end

  defp kept, do: :ets.info(Kept, :size)
  defp connection(ps), do: :sys.get_state(ps).port

  # All that comes, until the session is gone: then its connection is kept, if it is.
  defp all(ps) do
    monitor = Process.monitor(ps)
    all = collect(ps)
    assert_receive {:DOWN, ^monitor, _, _, _}, 5_000
    all
  end

  # A connection that is kept, and its guardian.
  defp over do
    ps = sh("cat")
    both = {connection(ps), guardian(ps)}
    ProtonStream.eof(ps)
    assert {"", "", :normal} = all(ps)
    both
  end

  defp kill(pid), do: {_, 0} = System.cmd("kill", ["-KILL", "#{pid}"])

  test "the next program has it, and begins as the first one does" do
    {connection, guardian} = over()
    tmp = System.tmp_dir!()
    here = File.cwd!()

    on_exit(fn ->
      File.cd!(here)
      System.delete_env("PROTON_KEPT")
    end)

    File.cd!(tmp)
    System.put_env("PROTON_KEPT", "now")
    ps = sh("pwd; echo $PROTON_KEPT; echo err >&2; cat; exit 3")
    assert {connection(ps), guardian(ps)} == {connection, guardian}
    assert ProtonStream.info(ps).transport == :nursery
    assert :ok = ProtonStream.write(ps, "in\n")
    ProtonStream.eof(ps)
    assert all(ps) == {"#{tmp}\nnow\nin\n", "err\n", {:exit_status, 3}}
    assert kept() == 1
  end

  # The process that a guardian has made ahead of its next program.
  defp waiting(guardian) do
    waits? = &(File.read("/proc/#{&1}/comm") == {:ok, "proton-waiting\n"})
    eventually("a process waits", fn -> guardian |> children() |> Enum.find(waits?) end)
  end

  test "a process waits for it, and goes before another one is made" do
    script = "echo $$; echo err >&2; pwd; cat"
    here = File.cwd!()

    for {options, both, taken?} <- [
          {[], {:apart, here}, true},
          {[stderr_to_stdout: true], {:together, here}, true},
          {[cd: "/usr"], {:apart, "/usr"}, true},
          {[capture_stderr_only: true], :error_only, false},
          {[rlimits: [nofile: 64]], {:apart, here}, false}
        ] do
      {_, guardian} = over()
      pid = waiting(guardian)
      ps = sh(script, options)
      assert guardian(ps) == guardian
      os_pid = "#{ProtonStream.os_pid(ps)}"
      assert os_pid == pid == taken?
      ProtonStream.eof(ps)

      expected =
        case both do
          {:apart, directory} -> {"#{os_pid}\n#{directory}\n", "err\n", :normal}
          {:together, directory} -> {"#{os_pid}\nerr\n#{directory}\n", "", :normal}
          :error_only -> {"", "err\n", :normal}
        end

      assert all(ps) == expected
      if not taken?, do: refute(runs?(pid))
    end
  end

  test "who has large windows reads more at once, and who follows does not" do
    read_at_once = fn ps -> :inet.getopts(connection(ps), [:buffer]) end

    for {options, bytes} <- [{[], 65_536}, {[stdio_window: 1_048_576], 1_048_576}, {[], 65_536}] do
      ps = sh("head -c 3000000 /dev/zero; cat >&2", options)
      assert read_at_once.(ps) == {:ok, [buffer: bytes]}
      ProtonStream.eof(ps)
      {stdout, "", :normal} = all(ps)
      assert byte_size(stdout) == 3_000_000
      assert kept() == 1
    end
  end

  test "a program that could not be started leaves none, and takes none away for good" do
    over()
    assert ProtonStream.open("/no/such/program", []) == {:error, :enoent}
    assert kept() == 0
    assert {"", "", :normal} = "true" |> sh() |> all()
  end

  # Programs that run, opened so quickly that a connection is made ahead of the next one.
  defp quickly(programs \\ []) do
    programs = [sh("cat") | programs]

    case ahead() do
      nil when length(programs) < 20 -> quickly(programs)
      connection when connection != nil -> {programs, connection}
    end
  end

  defp ahead do
    :sys.get_state(Kept)
    entries = for {{_, connection}, _, _, :ahead} <- :ets.tab2list(Kept), do: connection
    List.first(entries)
  end

  test "where programs are opened one after the other the next connection is made ahead" do
    {programs, connection} = quickly()
    ps = sh("cat; exit 4")
    assert connection(ps) == connection
    assert ProtonStream.info(ps).transport == :nursery
    assert ahead() not in [nil, connection]
    ProtonStream.command(ps, "in")
    ProtonStream.eof(ps)
    assert {"in", "", {:exit_status, 4}} = all(ps)
    for ps <- programs, do: ProtonStream.close(ps)
    for ps <- programs, do: assert({"", "", :normal} = all(ps))

    eventually("what nobody takes is closed", fn ->
      kept() == 0 and Port.info(connection) == nil
    end)
  end

  test "one that is made ahead and loses its guardian or its nursery is done without" do
    {programs, connection} = quickly()
    busy = Enum.map(programs, &guardian/1)
    nursery = nursery()
    guardians = String.split(File.read!("/proc/#{nursery}/task/#{nursery}/children"))

    # One that is too many may have left by itself.
    for pid <- guardians,
        String.to_integer(pid) not in busy,
        do: System.cmd("kill", ["-KILL", pid], stderr_to_stdout: true)

    ps = sh("echo here; cat")
    assert connection(ps) != connection
    kill(nursery)
    eventually("that is noticed", fn -> nursery() == nil end)
    last = sh("cat")
    assert ProtonStream.info(last).transport == :nursery
    for ps <- [last, ps | programs], do: ProtonStream.close(ps)
    for ps <- [last, ps | programs], do: assert({_, "", :normal} = all(ps))
  end

  test "who opens a program now and then has none made ahead" do
    ps = sh("cat")
    :sys.get_state(Kept)
    assert kept() == 0
    ProtonStream.close(ps)
    assert {"", "", :normal} = all(ps)
  end

  test "it is closed when nobody takes it" do
    {connection, _} = over()
    assert Port.info(connection) != nil
    eventually("it is closed", fn -> Port.info(connection) == nil end)
    assert kept() == 0
  end

  test "one whose guardian is killed is done without" do
    for _ <- 1..20 do
      {_, guardian} = over()
      kill(guardian)
      ps = sh("echo here; cat")
      assert ProtonStream.info(ps).transport == :nursery
      ProtonStream.eof(ps)
      assert {"here\n", "", :normal} = all(ps)
    end
  end

  test "one of a nursery that is gone is closed, and not taken" do
    {connection, _} = over()
    kill(nursery())
    eventually("that is noticed", fn -> nursery() == nil end)
    ps = sh("cat")
    assert connection(ps) != connection
    assert Port.info(connection) == nil
    ProtonStream.close(ps)
    assert {"", "", :normal} = all(ps)
  end

  test "a process that is killed between the table and the link leaves none behind" do
    {connection, _} = over()
    [{{_, ^connection} = key, _, _, _}] = :ets.tab2list(Kept)
    claimant = spawn(fn -> Process.sleep(:infinity) end)
    :ets.insert(Kept, {{:claim, connection, claimant}})
    :ets.delete(Kept, key)
    send(Kept, {:timeout, make_ref(), connection})
    :sys.get_state(Kept)
    assert Port.info(connection) != nil
    Process.exit(claimant, :kill)
    eventually("it is closed", fn -> Port.info(connection) == nil and kept() == 0 end)
  end

  test "a guardian says that it is there also while an exec hangs, as the first time" do
    path = temporary("slow", File.read!(System.find_executable("true")), 0o700)

    script = ~S'''
    import fcntl, os, signal, sys
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    file = os.open(sys.argv[1], os.O_RDONLY)
    fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    os.write(1, b"held\n")
    sys.stdin.read()
    '''

    {:ok, lease} = ProtonStream.open("python3", ["-c", script, path])
    await_line(lease, "held")
    over()
    nursery = nursery()
    assert ProtonStream.open(path, [], start_timeout: 500) == {:error, :timeout}
    # Who says nothing is taken for one of a nursery that does nothing.
    assert nursery() == nursery
    ProtonStream.close(lease)
    assert {"", "", :normal} = all(lease)
  end

  test "one whose guardian has left in disorder is not kept" do
    ps = sh("cat")
    {_, 0} = System.cmd("kill", ["-TERM", "#{guardian(ps)}"])
    assert {"", "", {:guardian, {:signal, 15}}} = all(ps)
    assert kept() == 0
  end

  test "a program goes on when what kept its connection is killed" do
    {connection, _} = over()
    ps = sh("cat")
    assert connection(ps) == connection
    keeper = Process.whereis(Kept)
    Process.exit(keeper, :kill)
    eventually("there is another one", fn -> Process.whereis(Kept) not in [nil, keeper] end)
    ProtonStream.command(ps, "still here\n")
    await_line(ps, "still here")
    ProtonStream.close(ps)
    assert {"", "", :normal} = all(ps)
  end

  test "it is closed also when what keeps it is killed, and when the application stops" do
    {connection, _} = over()
    Process.exit(Process.whereis(Kept), :kill)
    eventually("it is closed", fn -> Port.info(connection) == nil end)
    eventually("there is another one", fn -> Process.whereis(Kept) != nil end)
    {connection, _} = over()
    on_exit(fn -> {:ok, _} = Application.ensure_all_started(:proton_stream) end)
    capture_log(fn -> :ok = Application.stop(:proton_stream) end)
    assert Port.info(connection) == nil
    # Nobody keeps anything now.
    assert {"", "", :normal} = "true" |> sh() |> all()
  end

  defp end_together(count) do
    programs = for _ <- 1..count, do: sh("cat")
    for ps <- programs, do: ProtonStream.close(ps)
    for ps <- programs, do: assert({"", "", :normal} = all(ps))
  end

  test "as many are kept as programs have ended together, and the next ones have them" do
    end_together(100)
    # What was made ahead of the first ones counts, too.
    assert kept() in 100..110
    connections = for {{_, connection}, _, _, _} <- :ets.tab2list(Kept), do: connection
    programs = for _ <- 1..100, do: sh("cat")
    assert Enum.all?(programs, &(connection(&1) in connections))
    for ps <- programs, do: ProtonStream.close(ps)
    for ps <- programs, do: assert({"", "", :normal} = all(ps))
  end

  test "they are a sixteenth of the files that the VM may have open, within bounds" do
    limits = File.read!("/proc/self/limits")
    [_, files] = Regex.run(~r/Max open files\s+(\d+)/, limits)
    assert Kept.most() == files |> String.to_integer() |> div(16) |> max(16) |> min(1_024)
    on_exit(&afresh/0)
    :persistent_term.put(Kept, 16)
    end_together(24)
    assert kept() in 1..16
  end

  test "sessions that are killed around their end leave none behind" do
    # Of the nursery there is a port, too.
    over()
    eventually("nothing is kept", fn -> kept() == 0 end)
    before = length(Port.list())

    for n <- 1..100 do
      ps = sh("true")
      monitor = Process.monitor(ps)
      # A program's end takes longer than that, and not much.
      for _ <- 1..(n * 50), do: :erlang.yield()
      Process.exit(ps, :kill)
      assert_receive {:DOWN, ^monitor, _, _, _}, 5_000
    end

    eventually("every connection is closed", fn ->
      kept() == 0 and length(Port.list()) <= before
    end)
  end

  test "programs that come and go at once have nothing of each other" do
    1..8
    |> Enum.map(fn owner ->
      Task.async(fn ->
        Process.flag(:trap_exit, true)

        for n <- 1..40 do
          ps = sh("echo #{owner} #{n}; read it; echo $it >&2; exit #{n}")
          ProtonStream.command(ps, "#{n} #{owner}\n")
          # What comes when it has ended is nobody's.
          assert all(ps) == {"#{owner} #{n}\n", "#{n} #{owner}\n", {:exit_status, n}}
          ProtonStream.command(ps, "late")
          ProtonStream.signal(ps, :kill)
        end
      end)
    end)
    |> Task.await_many(60_000)
  end
end
