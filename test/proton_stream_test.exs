# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStreamTest do
  use ExUnit.Case, async: true

  import ProtonStream.Eventually
  import ProtonStream.Programs

  doctest ProtonStream

  defp gone(script \\ "exit 0") do
    ps = sh(script)
    monitor = Process.monitor(ps)
    await_down(monitor)
    ps
  end

  describe "a session that is gone" do
    test "has no program and no information" do
      ps = gone()
      assert ProtonStream.os_pid(ps) == nil
      assert ProtonStream.info(ps) == nil
    end

    test "swallows commands, signals and ends of file, as send/2 does" do
      ps = gone()
      assert ProtonStream.command(ps, "a") == :ok
      assert ProtonStream.eof(ps) == :ok
      assert ProtonStream.signal(ps, :sigterm) == :ok
      assert ProtonStream.connect(ps, self()) == :ok
    end

    test "refuses a write" do
      assert ProtonStream.write(gone(), "a") == {:error, :closed}
    end

    test "is closed already" do
      ps = gone()
      assert ProtonStream.close(ps) == :ok
      assert_receive {^ps, :closed}
      refute_received {^ps, :closed}
    end

    test "may be a name that nobody has" do
      name = :proton_stream_nobody
      assert ProtonStream.os_pid(name) == nil
      assert ProtonStream.info(name) == nil
      assert ProtonStream.command(name, "a") == :ok
      assert ProtonStream.write(name, "a") == {:error, :closed}
      assert ProtonStream.close(name) == :ok
      assert_receive {^name, :closed}
    end
  end

  test "a session can be reached by its name" do
    {:ok, ps} = ProtonStream.open("cat", [])
    Process.register(ps, :proton_stream_by_name)
    ProtonStream.command(:proton_stream_by_name, "a")
    assert_receive {^ps, {:data, "a"}}
    assert is_integer(ProtonStream.os_pid(:proton_stream_by_name))
    assert ProtonStream.write(:proton_stream_by_name, "b") == :ok
    ProtonStream.close(:proton_stream_by_name)
    assert_receive {^ps, :closed}
  end

  # row: 10
  test "what is no iodata raises in the caller, and the program lives" do
    {:ok, ps} = ProtonStream.open("cat", [])

    for data <- [:atom, 1, [:a], [256], ["a" | 1], nil] do
      assert_raise ArgumentError, ~r/iodata/, fn -> ProtonStream.command(ps, data) end
      assert_raise ArgumentError, ~r/iodata/, fn -> ProtonStream.write(ps, data) end
    end

    ProtonStream.command(ps, ["still", [?\s], "here"])
    assert_receive {^ps, {:data, "still here"}}
  end

  test "a signal that does not exist raises in the caller" do
    {:ok, ps} = ProtonStream.open("cat", [])
    assert_raise ArgumentError, ~r/:sigterm/, fn -> ProtonStream.signal(ps, :sigfoo) end
    assert_raise ArgumentError, ~r/:tree/, fn -> ProtonStream.signal(ps, 15, scope: :all) end
  end

  # row: 9
  test "a bad option raises in the caller, for both ways to start" do
    assert_raise ArgumentError, fn -> ProtonStream.open("cat", [], uid: -1) end
    assert_raise ArgumentError, fn -> ProtonStream.start_link(Nobody, "cat", [], 0, uid: -1) end
  end

  # row: 11
  test "the process id is the program's" do
    ps = sh("echo $$; read line")
    os_pid = "#{ProtonStream.os_pid(ps)}\n"
    assert_receive {^ps, {:data, ^os_pid}}
  end

  test "info tells what is known of a running program" do
    ps = sh("echo out; echo error >&2; cat")
    assert_receive {^ps, {:data, "out\n"}}
    assert_receive {^ps, {:error, "error\n"}}
    assert ProtonStream.write(ps, "in") == :ok
    assert_receive {^ps, {:data, "in"}}

    assert %{
             level: :tree,
             cgroup: nil,
             transport: :nursery,
             window: %{stdout: 10_240, stderr: 10_240},
             bytes: %{stdin: 2, stdout: 6, stderr: 6},
             queued: 0,
             held: %{stdout: 0, stderr: 0},
             exit: nil
           } = info = ProtonStream.info(ps)

    assert info.os_pid == ProtonStream.os_pid(ps)
  end

  test "parallelism is the port's" do
    for flag <- [true, false] do
      {:ok, ps} = ProtonStream.open("cat", [], parallelism: flag)
      assert Port.info(:sys.get_state(ps).port, :parallelism) == {:parallelism, flag}
      ProtonStream.close(ps)
    end
  end

  test "the state that :sys shows is the struct with seven fields" do
    {:ok, ps} = ProtonStream.open("cat", ["-u"])
    state = :sys.get_state(ps)

    assert %ProtonStream{command: "cat", args: ["-u"], buffer: "", cgroup_path: nil} = state
    assert state.owner == self()
    assert is_port(state.port)

    assert state |> Map.from_struct() |> Map.keys() |> Enum.sort() ==
             [:args, :buffer, :cgroup_path, :command, :owner, :port, :state]
  end

  test "arguments are redacted in a status" do
    {:ok, ps} =
      ProtonStream.open("sh", ["-c", "read line", "--password=secret"], env: %{"KEY" => "hidden"})

    status = inspect(:sys.get_status(ps), limit: :infinity, printable_limit: :infinity)
    assert status =~ "redacted"
    refute status =~ "secret"
    refute status =~ "hidden"
  end

  test "a child specification leaves the program its kill delay" do
    spec =
      ProtonStream.child_spec(
        module: Counter,
        command: "sleep",
        args: ["1"],
        init_arg: 7,
        delay_to_sigkill: 20_000,
        restart: :transient
      )

    assert spec.id == Counter
    assert spec.shutdown > 20_000
    assert spec.restart == :transient

    assert spec.start ==
             {ProtonStream, :start_link, [Counter, "sleep", ["1"], 7, [delay_to_sigkill: 20_000]]}
  end

  test "a child specification without a module or a command raises" do
    assert_raise ArgumentError, ~r/:module/, fn -> ProtonStream.child_spec(command: "a") end
    assert_raise ArgumentError, ~r/:command/, fn -> ProtonStream.child_spec(module: A) end
  end
end
