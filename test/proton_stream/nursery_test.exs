# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.NurseryTest do
  # What becomes of programs when a nursery is killed, stopped or let go of, each time in a VM of
  # its own. Not async: that is what they need the machine for.
  use ExUnit.Case, async: false

  import ProtonStream.Eventually
  import ProtonStream.OtherVM

  alias ProtonStream.Bases

  @moduletag timeout: 120_000

  # In the other VM: what it needs over and over.
  @prelude ~S"""
  Process.flag(:trap_exit, true)
  kill = fn pid, signal -> {_, 0} = System.cmd("kill", ["-#{signal}", "#{pid}"]) end
  transport = fn ps -> ProtonStream.info(ps).transport end
  echo = fn ps, text ->
    ProtonStream.command(ps, text <> "\n")
    await_line(ps, text)
  end
  _ = {kill, transport, echo}
  """

  defp tell(script, env \\ %{}, prefix \\ []) do
    {port, _} = start(@prelude <> script, env, prefix)
    term = told(port)
    assert ended(port) == 0
    term
  end

  test "opens that come at once start one" do
    script = ~S"""
    opens = for _ <- 1..20, do: Task.async(fn ->
      {:ok, ps} = ProtonStream.open("cat", [])
      transport.(ps)
    end)

    transports = opens |> Task.await_many() |> Enum.uniq()
    started = for port <- Port.list(),
                  {:name, name} <- [Port.info(port, :name)],
                  List.to_string(name) =~ "proton-guardian",
                  do: port
    tell.({transports, length(started)})
    """

    assert tell(script) == {[:nursery], 1}
  end

  test "that is killed leaves programs alone, and the next open starts another one" do
    script = ~S"""
    {:ok, ps} = ProtonStream.open("cat", [])
    before = nursery()
    %{path: path} = ProtonStream.Nursery.address(elem(ProtonStream.Guardian.executable(), 1))
    kill.(before, "KILL")
    await_gone(before)
    echo.(ps, "still here")
    {:ok, next} = eventually("it is noticed", fn ->
      {:ok, next} = ProtonStream.open("cat", [])
      transport.(next) == :nursery && {:ok, next}
    end)
    echo.(next, "here too")
    # What the killed one has left is removed by the next.
    gone = not File.exists?(Path.dirname(path))
    ProtonStream.close(ps)
    exit = collect(ps)
    tell.({nursery() != before, gone, exit})
    """

    assert tell(script) == {true, true, {"", "", :normal}}
  end

  @tag :root
  test "whose guardians refuse all runs is done without, after two tries at most" do
    directory = place("refused")
    shut = Path.join(directory, "shut")
    File.mkdir!(shut)
    File.chown!(shut, 65_534)

    # What none of them can enter is where its program would start.
    script = """
    {:ok, ps} = ProtonStream.open("cat", [])
    :erlang.trace_pattern({ProtonStream.Guardian, :fork, 3}, true, [:call_count])
    File.cd!(#{inspect(shut)})
    File.chmod!(#{inspect(shut)}, 0)

    opened = for n <- 1..8 do
      # With a user a start may take its time, which is said before it begins.
      options = if n > 4, do: [uid: 65_534], else: []
      {:ok, ps} = ProtonStream.open("cat", [], options)
      :sys.get_state(ProtonStream.Nursery.Kept)
      ps
    end

    {:call_count, tries} = :erlang.trace_info({ProtonStream.Guardian, :fork, 3}, :call_count)
    transports = Enum.map([ps | opened], transport)
    for ps <- [ps | opened], do: echo.(ps, "hello")
    tell.({Enum.uniq(transports), tries})
    System.halt(0)
    """

    {port, _} = start_as(65_534, directory, @prelude <> script)
    assert {[:nursery, :port], tries} = told(port)
    assert tries in 8..16
    assert ended(port) == 0
  end

  test "that is stopped is done without, and the next open starts another one" do
    script = ~S"""
    {:ok, ps} = ProtonStream.open("cat", [])
    stopped = nursery()
    children = fn -> String.split(File.read!("/proc/#{stopped}/task/#{stopped}/children")) end
    eventually("one has the program, and two wait", fn -> length(children.()) == 3 end)
    kill.(stopped, "STOP")
    # The guardians that wait, and then nobody.
    opened = for _ <- 1..3, do: ProtonStream.open("cat", []) |> elem(1)
    transports = Enum.map(opened, transport)
    {:ok, next} = ProtonStream.open("cat", [])
    programs = [ps, next | opened]
    for ps <- programs, do: echo.(ps, "hello")
    other = nursery() not in [nil, stopped] and transport.(next) == :nursery
    kill.(stopped, "CONT")
    for ps <- programs, do: ProtonStream.close(ps)
    exits = for ps <- programs, do: collect(ps)
    # Nobody is its controller any more.
    await_gone(stopped)
    tell.({transports, other, Enum.uniq(exits)})
    """

    assert tell(script) == {[:nursery, :nursery, :port], true, [{"", "", :normal}]}
  end

  test "whose guardian is late never has a program started twice" do
    script = ~S"""
    once = fn delay ->
      {:ok, ps} = ProtonStream.open("cat", [])
      nursery = nursery()
      busy = ProtonStream.os_pid(ps) |> parent()
      children = fn -> String.split(File.read!("/proc/#{nursery}/task/#{nursery}/children")) end
      eventually("two wait", fn -> length(children.()) == 3 end)
      [_, _] = waiting = Enum.map(children.(), &String.to_integer/1) -- [busy]
      for pid <- [nursery | waiting], do: kill.(pid, "STOP")
      mark = Path.join(System.tmp_dir!(), "proton-late-#{nursery}-#{delay}")

      late =
        Task.async(fn ->
          Process.flag(:trap_exit, true)

          with {:ok, late} <- ProtonStream.open("sh", ["-c", "echo >> #{mark}; exec cat"]) do
            echo.(late, "hello")
            ProtonStream.close(late)
            {"", "", :normal} = collect(late)
            :ok
          end
        end)

      Process.sleep(delay)
      for pid <- waiting, do: kill.(pid, "CONT")
      result = Task.await(late, :infinity)
      kill.(nursery, "CONT")
      ProtonStream.close(ps)
      {"", "", :normal} = collect(ps)
      marks = with {:ok, marks} <- File.read(mark), do: byte_size(marks), else: (_ -> 0)
      File.rm(mark)
      {result, marks}
    end

    tell.(for delay <- [1_999, 2_001, 2_500], do: once.(delay))
    """

    outcomes = tell(script)
    assert length(outcomes) == 3

    for outcome <- outcomes,
        do: assert(outcome in [{:ok, 1}, {{:error, :timeout}, 1}, {{:error, :timeout}, 0}])
  end

  test "ends with the application; sessions go on, and later ones start their guardians" do
    script = ~S"""
    {:ok, ps} = ProtonStream.open("cat", [])
    os_pid = ProtonStream.os_pid(ps)
    before = nursery()
    # A word of the logger's about the end of an application is not for the test.
    Logger.configure(level: :error)
    :ok = Application.stop(:proton_stream)
    echo.(ps, "still here")
    {:ok, next} = ProtonStream.open("cat", [])
    by = transport.(next)
    for ps <- [ps, next], do: ProtonStream.close(ps)
    exits = for ps <- [ps, next], do: collect(ps)
    await_gone([before, os_pid])
    {:ok, _} = Application.ensure_all_started(:proton_stream)
    {:ok, again} = ProtonStream.open("cat", [])
    tell.({by, exits, transport.(again)})
    """

    end_of_cat = {"", "", :normal}
    assert tell(script) == {:port, [end_of_cat, end_of_cat], :nursery}
  end

  test "of two VMs of one user are two, and neither disturbs the other" do
    script = ~S"""
    {:ok, ps} = ProtonStream.open("cat", [])
    tell.({nursery(), ProtonStream.os_pid(ps)})
    receive do
    after
      60_000 -> echo.(ps, "never")
    end
    """

    {one, one_vm} = start(@prelude <> script)
    {one_nursery, one_program} = told(one)
    {two, two_vm} = start(@prelude <> script)
    {two_nursery, two_program} = told(two)
    assert one_nursery != two_nursery
    kill(one_vm)
    await_gone([one_vm, one_nursery, one_program])
    assert runs?(two_nursery) and runs?(two_program)
    # A third one sweeps what the first has left, and not the second's.
    assert tell("""
           {:ok, ps} = ProtonStream.open("true", [])
           tell.(collect(ps))
           """) == {"", "", :normal}

    assert runs?(two_nursery) and runs?(two_program)
    kill(two_vm)
    await_gone([two_vm, two_nursery, two_program])
  end

  test "and programs wait for a VM that is stopped" do
    script = ~S"""
    {:ok, ps} = ProtonStream.open("sh", ["-c", "head -c 50000000 /dev/zero; echo end >&2"])
    tell.(:streams)
    {out, err, reason} = collect(ps)
    {:ok, next} = ProtonStream.open("echo", ["again"])
    tell.({byte_size(out), err, reason, collect(next)})
    """

    {port, vm} = start(@prelude <> script)
    assert told(port) == :streams
    kill(vm, "STOP")
    eventually("it is stopped", fn -> File.read!("/proc/#{vm}/stat") =~ ") T " end)
    kill(vm, "CONT")
    assert told(port) == {50_000_000, "end\n", :normal, {"again\n", "", :normal}}
    assert ended(port) == 0
  end

  test "and programs end when the VM's own helper is killed, which ends the VM" do
    script = ~S"""
    {:ok, ps} = ProtonStream.open("sh", ["-c", "sleep 1000 & echo ready; wait"])
    await_line(ps, "ready")
    tell.({nursery(), ProtonStream.os_pid(ps), ProtonStream.Programs.parent(nursery())})
    receive do: (:never -> :ok)
    """

    {port, vm} = start(@prelude <> script, %{"ERL_CRASH_DUMP_SECONDS" => "0"})
    {nursery, program, helper} = told(port)
    assert File.read!("/proc/#{helper}/comm") =~ "erl_child_setup"
    kill(helper)
    await_gone([vm, nursery, program])
  end

  test "continues a guardian that is stopped, and has one killed that is stopped again" do
    script = ~S"""
    {:ok, ps} = ProtonStream.open("cat", [])
    guardian = guardian(ps)
    kill.(guardian, "STOP")
    echo.(ps, "hello")
    os_pid = ProtonStream.os_pid(ps)
    eventually("it is killed", fn ->
      if File.exists?("/proc/#{guardian}"), do: System.cmd("kill", ["-STOP", "#{guardian}"])
      not File.exists?("/proc/#{guardian}")
    end)
    exit = collect(ps)
    tell.({exit, File.exists?("/proc/#{os_pid}")})
    """

    assert tell(script) == {{"", "", {:guardian, {:signal, 9}}}, false}
  end

  # On version 2 a process that is frozen can be killed.
  @tag :root
  @tag :cgroup
  test "kills a guardian that does nothing more, two seconds after the kill delay" do
    path = Path.join(Bases.tree(), "proton_stream_test_stuck_#{System.pid()}")
    File.mkdir!(path)

    on_exit(fn ->
      eventually("#{path} can be removed", fn -> File.rmdir(path) in [:ok, {:error, :enoent}] end)
    end)

    script = """
    {:ok, ps} = ProtonStream.open("sh", ["-c", "sleep 1000 & echo ready; wait"], delay_to_sigkill: 0)
    await_line(ps, "ready")
    os_pid = ProtonStream.os_pid(ps)
    File.write!("#{path}/cgroup.procs", "\#{guardian(ps)}")
    File.write!("#{path}/cgroup.freeze", "1")
    eventually("it is frozen", fn -> File.read!("#{path}/cgroup.events") =~ "frozen 1" end)
    began = System.monotonic_time(:millisecond)
    ProtonStream.close(ps)
    exit = collect(ps)
    took = System.monotonic_time(:millisecond) - began
    tell.({exit, File.exists?("/proc/\#{os_pid}"), took})
    """

    assert {{"", "", {:guardian, :timeout}}, false, took} = tell(script)
    assert took >= 2_000
  end

  # row: 21
  test "hands on directory, environment and all else as a port does, as they are at the open" do
    script = ~S"""
    System.put_env("PROTON_LATER", "é")
    File.mkdir_p!("proton é")
    File.cd!("proton é")
    script = "pwd; umask; ulimit -n; ulimit -c; nice; cat /proc/self/oom_score_adj; env -0"
    [one, two] = for by <- [:nursery, :port] do
      {:ok, ps} = ProtonStream.open("sh", ["-c", script], transport: by)
      ^by = transport.(ps)
      collect(ps)
    end
    tell.({one, two, File.cwd!()})
    """

    directory = Path.join(System.tmp_dir!(), "proton_stream_inherits_#{System.pid()}")
    File.mkdir!(directory)
    on_exit(fn -> File.rm_rf!(directory) end)
    env = %{"PROTON_RAW" => <<0xFF, "x">>}
    limits = "cd #{directory}; umask 027; ulimit -n 777; ulimit -c 0; exec nice -n 3 \"$@\""

    assert {{out, "", :normal}, other, cwd} =
             tell(script, env, ["choom", "-n", "77", "--", "sh", "-c", limits, "sh"])

    assert other == {out, "", :normal}
    assert [pwd, umask, files, core, nice, score, variables] = String.split(out, "\n", parts: 7)
    assert pwd == cwd and cwd == directory <> "/proton é"
    assert {umask, files, core, nice, score} == {"0027", "777", "0", "3", "77"}
    variables = :binary.split(variables, <<0>>, [:global])
    assert <<"PROTON_RAW=", 0xFF, "x">> in variables
    assert "PROTON_LATER=é" in variables
  end

  for {transport, wanted} <- [port: :port, nursery: :nursery] do
    test "is a choice: #{transport}" do
      {:ok, ps} = ProtonStream.open("cat", [], transport: unquote(transport))
      assert ProtonStream.info(ps).transport == unquote(wanted)
      ProtonStream.close(ps)
      assert_receive {^ps, :closed}
    end
  end
end
