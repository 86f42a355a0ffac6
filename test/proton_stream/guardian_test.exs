# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.GuardianTest do
  # Not async: the guardian's name is a variable of the whole VM.
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog
  import ProtonStream.Eventually
  import ProtonStream.FakeGuardian
  import ProtonStream.Programs

  setup do
    Process.flag(:trap_exit, true)
    :ok
  end

  # One that dies before it was written to is found by the write, which can't say why.
  defp read, do: {:sh, "head -c 1 > /dev/null"}

  defp written(pid_file) do
    eventually("it has started", fn ->
      case Integer.parse(File.read!(pid_file)) do
        {os_pid, "\n"} -> os_pid
        _ -> nil
      end
    end)
  end

  defp open(opts \\ []), do: ProtonStream.open("cat", [], opts)

  describe "a guardian that can't be started" do
    test "because it is not there is an error" do
      named("/no/such/guardian")
      assert open() == {:error, {:guardian, :enoent}}
    end

    test "because it may not be executed is an error" do
      named(temporary("guardian", "", 0o600))
      assert open() == {:error, {:guardian, :eacces}}
    end

    test "because this is an escript is refused in words" do
      archive = temporary("escript", "")
      assert {:error, sentence} = ProtonStream.Guardian.find(archive <> "/proton_stream/priv")
      assert sentence =~ "escript"
    end

    test "because it was not built is an error" do
      assert ProtonStream.Guardian.find("/no/such/priv") == {:error, :enoent}
    end

    test "because it exits at once is an error" do
      install([read(), {:sh, "exit 3"}])
      assert open() == {:error, {:guardian, {:exit_status, 3}}}
    end

    test "because it is killed at once is an error" do
      install([read(), {:sh, "kill -KILL $$"}])
      assert open() == {:error, {:guardian, {:signal, 9}}}
    end
  end

  describe "a handshake" do
    test "with another version is refused in words" do
      install([{:raw, <<0, 0, 0, 9, 0x81, 0, 2, 5, "2.0.0">>}])
      assert {:error, {:guardian, {:protocol, sentence}}} = open()
      assert sentence =~ "protocol 2 (proton_stream 2.0.0)"
    end

    test "that the guardian refuses is told in its words" do
      [hello, _] = started()
      install([hello, {:error, :version, "you are too old"}])
      assert open() == {:error, {:guardian, {:version, "you are too old"}}}
    end

    test "of something else than a guardian is an error" do
      install([{:raw, <<0, 0, 0, 5>> <> "hello"}])
      assert {:error, {:guardian, {:protocol, "frame type 0x68" <> _}}} = open()
    end

    test "in another order is an error" do
      [hello, started] = started()
      install([started, hello])
      assert {:error, {:guardian, {:protocol, _}}} = open()
    end

    test "with output before the start is an error" do
      [hello, started] = started()
      install([hello, {:stdout, "a"}, started])
      assert {:error, {:guardian, {:protocol, _}}} = open()
    end

    # A start that hangs, as on a dead network mount.
    test "that does not come to an end is a timeout, and the guardian is let go" do
      pid_file = temporary("pid", "")
      [hello, _] = started()
      install([hello, {:sh, "echo $$ > #{pid_file}"}])
      assert open(start_timeout: 300) == {:error, :timeout}

      os_pid = written(pid_file)

      await_gone(os_pid)
      refute_received _
    end

    test "whose caller dies is cancelled" do
      pid_file = temporary("pid", "")
      install([{:sh, "echo $$ > #{pid_file}"}])
      caller = spawn(fn -> open(start_timeout: :infinity) end)

      os_pid = written(pid_file)

      Process.exit(caller, :kill)
      await_gone(os_pid)
    end

    test "of a worker whose parent dies is cancelled" do
      pid_file = temporary("pid", "")
      install([{:sh, "echo $$ > #{pid_file}"}])

      parent =
        spawn(fn ->
          ProtonStream.start_link(ProtonStream.Workers.Bare, "cat", [], 0,
            start_timeout: :infinity
          )
        end)

      os_pid = written(pid_file)

      Process.exit(parent, :kill)
      await_gone(os_pid)
    end
  end

  describe "a start error" do
    for {step, errno, detail, reason} <- [
          {:specification, 0, "no", {:specification, "no"}},
          {:exec, 13, "cat", :eacces},
          {:exec, 7, "cat", :e2big},
          {:directory, 20, "/x", {:cd, :enotdir}},
          {:user, 0, "nobdy", {:uid, {:unknown, "nobdy"}}},
          {:user, 1, "nobody", {:uid, :eperm}},
          {:group, 0, "x", {:gid, {:unknown, "x"}}},
          {:group, 1, "x", {:gid, :eperm}},
          {:groups, 1, "", {:groups, :eperm}},
          {:cgroup, 0, "memory.limit_in_bytes", {:cgroup, "memory.limit_in_bytes", :refused}},
          {:cgroup, 30, "mine", {:cgroup, "mine", :erofs}},
          {:fork, 11, "", {:fork, :eagain}},
          {:stdio, 24, "stdin", {:stdio, :emfile}},
          {:process, 1, "nice", {:process, "nice", :eperm}},
          {:exec, 4_000, "cat", 4_000}
        ] do
      @tag frame: {:start_error, step, errno, detail}, reason: reason
      test "#{step} #{errno} is #{inspect(reason)}", %{frame: frame, reason: reason} do
        [hello, _] = started()
        install([hello, frame])
        assert open() == {:error, reason}
        refute_received _
      end
    end
  end

  # row: 19
  for {title, frame} <- [
        {"of an unknown type", <<0, 0, 0, 2, 0xC0, 0>>},
        {"that travels the wrong way", <<0, 0, 0, 1, 0x06>>},
        {"without type and body", <<0, 0, 0, 0>>},
        {"cut short", <<0, 0, 0, 3, 0x89, 0, 0>>},
        {"with an impossible value", <<0, 0, 0, 5, 0x86, 0, 0, 0, 0>>},
        {"that belongs to the start", <<0, 0, 0, 9, 0x81, 0, 1, 5, "1.9.0">>}
      ] do
    @tag frame: frame
    test "a frame #{title} ends the session in words and crashes nothing", %{frame: frame} do
      install(started() ++ [{:sh, "sleep 0.1"}, {:raw, frame}])

      log =
        capture_log(fn ->
          {:ok, ps} = open()
          assert_receive {:EXIT, ^ps, {:guardian, {:protocol, sentence}}}
          assert is_binary(sentence)
        end)

      refute log =~ "terminating"
    end
  end

  describe "a guardian that dies" do
    for signal <- [9, 15] do
      @tag signal: signal
      test "of signal #{signal} is told of as such, after what it had said", %{signal: signal} do
        install([read()] ++ started() ++ [{:stdout, "last words"}, {:sh, "kill -#{signal} $$"}])
        {:ok, ps} = open()
        assert collect(ps) == {"last words", "", {:guardian, {:signal, signal}}}
      end
    end

    test "without a word is told of as such" do
      install([read()] ++ started() ++ [{:sh, "exit 1"}])
      {:ok, ps} = open()
      assert collect(ps) == {"", "", {:guardian, {:exit_status, 1}}}
    end

    # row: 13
    test "for real leaves no program, and is no normal exit" do
      {:ok, ps} = ProtonStream.open("sleep", ["1000"])
      os_pid = ProtonStream.os_pid(ps)
      ProtonStream.OtherVM.kill(guardian(ps))
      assert collect(ps) == {"", "", {:guardian, {:signal, 9}}}
      await_gone(os_pid)
    end

    # row: 13
    for signal <- ~w(TERM HUP) do
      @tag signal: signal
      test "of SIG#{signal} ends its program first", %{signal: signal} do
        {:ok, ps} = ProtonStream.open("sleep", ["1000"])
        os_pid = ProtonStream.os_pid(ps)
        ProtonStream.OtherVM.kill(guardian(ps), signal)
        number = %{"TERM" => 15, "HUP" => 1}[signal]
        assert collect(ps) == {"", "", {:guardian, {:signal, number}}}
        refute runs?(os_pid)
      end
    end
  end

  test "a guardian that is stopped is given up, and its program is named" do
    opts = [delay_to_sigkill: 0, transport: :port]
    {:ok, ps} = ProtonStream.open("sleep", ["1000"], opts)
    os_pid = ProtonStream.os_pid(ps)
    guardian = guardian(ps)
    ProtonStream.OtherVM.kill(guardian, "STOP")
    ProtonStream.close(ps)
    assert collect(ps) == {"", "", {:survivors, {:guardian, :timeout}, [os_pid]}}
    assert_receive {^ps, :closed}
    assert runs?(os_pid)
    ProtonStream.OtherVM.kill(guardian, "CONT")
    await_gone(os_pid)
  end

  test "a guardian's error is told in its words, after its end" do
    install(
      [read()] ++
        started() ++ [{:stdout, "a"}, {:error, :internal, "poll failed"}, {:sh, "exit 1"}]
    )

    {:ok, ps} = open()
    assert collect(ps) == {"a", "", {:guardian, {:internal, "poll failed"}}}
  end

  test "a short frame is told of by name" do
    install([read()] ++ started() ++ [{:error, :short_frame, "12 of 20"}, {:sh, "exit 1"}])
    {:ok, ps} = open()
    assert collect(ps) == {"", "", {:guardian, :short_frame}}
  end

  test "survivors are named, with what the reason would have been" do
    install(started() ++ [ended(%{ending: {:exited, 2}, survivors: [77, 88]})])
    {:ok, ps} = open(exit_status: true, exit_report: true)
    assert_receive {^ps, {:exit_status, 2}}
    assert_receive {^ps, {:exit_report, %{survivors: [77, 88]}}}
    assert collect(ps) == {"", "", {:survivors, {:exit_status, 2}, [77, 88]}}
  end

  test "a signal to the guardian is told of as its cause" do
    install(started() ++ [ended(%{ending: {:signalled, 15}, cause: {:signal, 1}})])
    {:ok, ps} = open()
    assert collect(ps) == {"", "", {:guardian, {:signal, 1}}}
  end

  test "core and the OOM killer are in the report" do
    install(started() ++ [ended(%{ending: {:signalled, 9}, core_dumped: true, oom_killed: true})])
    {:ok, ps} = open(exit_report: true)

    assert_receive {^ps,
                    {:exit_report, %{core_dumped: true, oom_killed: true, reason: {:signal, 9}}}}
  end

  test "credit that nobody asked for is no harm" do
    install(started() ++ [{:stdin_credit, 1_000_000}, {:stdout, "a"}, ended()])
    {:ok, ps} = open()
    assert collect(ps) == {"a", "", :normal}
  end
end
