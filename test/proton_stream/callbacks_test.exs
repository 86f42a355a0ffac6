# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.CallbacksTest do
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  import ProtonStream.Eventually
  import ProtonStream.Programs

  alias ProtonStream.Workers.Bare
  alias ProtonStream.Workers.Scripted

  setup do
    Process.flag(:trap_exit, true)
    :ok
  end

  defp worker(script, state, opts \\ []) do
    state = Map.put_new(state, :to, self())
    ProtonStream.start_link(Scripted, "sh", ["-c", script], state, opts)
  end

  defp worker!(script, state \\ %{}, opts \\ []) do
    {:ok, pid} = worker(script, state, opts)
    pid
  end

  # Keeps the log of what is meant to end badly out of the test's output.
  defp quietly(fun) do
    capture_log(fn -> send(self(), {:result, fun.()}) end)
    assert_received {:result, result}
    result
  end

  describe "the stream" do
    test "goes to its callbacks, and then the exit" do
      pid =
        worker!("echo out; echo error >&2; exit 3", %{
          exit: fn reason, s -> {:stop, {:shutdown, reason}, s} end
        })

      assert_receive {:stdout, "out\n"}
      assert_receive {:stderr, "error\n"}
      assert_receive {:EXIT, ^pid, {:shutdown, {:exit_status, 3}}}
    end

    test "is whole and within the window, however slow the callback" do
      test = self()

      slow = fn data, state ->
        send(test, {:size, byte_size(data)})
        :erlang.yield()
        {:noreply, %{state | got: [state.got | data]}}
      end

      exit = fn reason, state ->
        send(test, {:all, reason, IO.iodata_to_binary(state.got)})
        {:stop, :normal, state}
      end

      data = pattern(300_000)
      path = temporary("pattern", data)
      worker!("cat '#{path}'", %{stdout: slow, exit: exit, got: []}, stdio_window: 1_000)
      assert_receive {:all, :normal, got}, 20_000
      assert size(got) == size(data)
      assert Enum.max(sizes([])) <= 1_000
    end

    defp sizes(sizes) do
      receive do
        {:size, size} -> sizes([size | sizes])
      after
        0 -> sizes
      end
    end

    test "without callbacks is thrown away, and the exit is the process's own" do
      {:ok, pid} = ProtonStream.start_link(Bare, "sh", ["-c", "yes | head -c 100000; exit 3"], 0)

      quietly(fn -> assert_receive {:EXIT, ^pid, {:exit_status, 3}} end)
    end

    test "that cannot be understood ends in handle_exit" do
      # Nothing below the program: that would outlive a guardian that is killed.
      pid =
        worker!("exec sleep 1000", %{exit: fn reason, s -> {:stop, {:shutdown, reason}, s} end})

      ProtonStream.OtherVM.kill(guardian(pid))
      assert_receive {:EXIT, ^pid, {:shutdown, {:guardian, {:signal, 9}}}}
    end
  end

  describe "init/1" do
    # row: 20
    test "may ignore, and starts no program" do
      path = temporary("out", "")
      assert worker("echo ran > #{path}", %{init: fn _ -> :ignore end}) == :ignore
      assert File.read!(path) == ""
    end

    # row: 20
    test "may stop, and starts no program" do
      path = temporary("out", "")
      assert worker("echo ran > #{path}", %{init: fn _ -> {:stop, :no} end}) == {:error, :no}
      assert_receive {:EXIT, _, :no}
      assert File.read!(path) == ""
    end

    # row: 20
    for bad <- [:nonsense, {:ok, 1, :nonsense}, {:ok, 1, -1}, {:ok}, nil] do
      @tag bad: bad
      test "may not return #{inspect(bad)}", %{bad: bad} do
        assert worker("exit", %{init: fn _ -> bad end}) == {:error, {:bad_return_value, bad}}
      end
    end

    test "may raise" do
      quietly(fn ->
        assert {:error, {%RuntimeError{message: "no"}, _}} =
                 worker("exit", %{init: fn _ -> raise "no" end})
      end)
    end

    test "may go on" do
      worker!("cat", %{init: &{:ok, &1, {:continue, :more}}})
      assert_receive {:continue, :more}
    end

    test "may set a timeout" do
      worker!("cat", %{init: &{:ok, &1, 1}})
      assert_receive {:info, :timeout}
    end

    test "may hibernate" do
      pid = worker!("echo out; cat", %{init: &{:ok, &1, :hibernate}})
      assert_receive {:stdout, "out\n"}
      assert GenServer.call(pid, :state)
    end

    test "runs before the program, which reads what init/1 sent it" do
      init = fn state ->
        assert ProtonStream.os_pid(self()) == nil
        ProtonStream.command(self(), "from init")
        ProtonStream.eof(self())
        {:ok, state}
      end

      worker!("cat", %{init: init})
      assert_receive {:stdout, "from init"}
    end

    # row: 20
    test "is the only callback of a program that could not be started" do
      assert ProtonStream.start_link(Scripted, "/no/such/program", [], %{to: self()}) ==
               {:error, :enoent}

      assert_receive {:EXIT, _, :enoent}
      refute_received {:exit, _}
      refute_received {:terminate, _}
    end
  end

  describe "the GenServer contract" do
    test "calls, casts and messages" do
      call = fn
        :add, _from, state -> {:reply, :added, Map.put(state, :added, true)}
        :later, from, state -> {:noreply, Map.put(state, :from, from), {:continue, :reply}}
        :stop, _from, state -> {:stop, :normal, :stopping, state}
      end

      continue = fn :reply, state ->
        GenServer.reply(state.from, :replied)
        {:noreply, state}
      end

      pid = worker!("cat", %{call: call, continue: continue})
      assert GenServer.call(pid, :add) == :added
      assert %{added: true} = :sys.get_state(pid).state
      assert GenServer.call(pid, :later) == :replied
      GenServer.cast(pid, :cast)
      assert_receive {:cast, :cast}
      send(pid, :message)
      assert_receive {:info, :message}
      os_pid = ProtonStream.os_pid(pid)
      assert GenServer.call(pid, :stop) == :stopping
      assert_receive {:EXIT, ^pid, :normal}
      refute runs?(os_pid)
    end

    # row: 10
    test "a callback that returns a timeout while more output waits" do
      pid =
        worker!("echo a; sleep 0.1; echo b; cat", %{
          stdout: fn data, s ->
            send(s.to, {:stdout, data})
            {:noreply, s, 60_000}
          end
        })

      assert_receive {:stdout, "a\n"}
      assert_receive {:stdout, "b\n"}
      assert Process.alive?(pid)
    end

    test "handle_stdout may go on, hibernate and stop" do
      stdout = fn
        "go\n", state -> {:noreply, state, {:continue, :gone}}
        "sleep\n", state -> send(state.to, :slept) && {:noreply, state, :hibernate}
        "stop\n", state -> {:stop, :normal, state}
      end

      pid = worker!("cat", %{stdout: stdout})
      ProtonStream.command(pid, "go\n")
      assert_receive {:continue, :gone}
      ProtonStream.command(pid, "sleep\n")
      assert_receive :slept
      ProtonStream.command(pid, "stop\n")
      assert_receive {:EXIT, ^pid, :normal}
    end

    for {callback, args} <- [stdout: 1, stderr: 1, cast: 1, info: 1] do
      @tag callback: callback
      test "a bad return of handle_#{callback}/#{args + 1} is a bad return value", %{
        callback: callback
      } do
        quietly(fn ->
          pid =
            worker!("read line; echo a; echo b >&2; cat", %{callback => fn _, _ -> :nonsense end})

          case callback do
            :cast -> GenServer.cast(pid, :a)
            :info -> send(pid, :a)
            _ -> ProtonStream.command(pid, "\n")
          end

          assert_receive {:EXIT, ^pid, {:bad_return_value, :nonsense}}
        end)
      end
    end

    # row: 20
    for bad <- [{:noreply, %{}}, :ok, {:stop, :normal}] do
      @tag bad: bad
      test "handle_exit/2 may not return #{inspect(bad)}", %{bad: bad} do
        quietly(fn ->
          pid = worker!("exit", %{exit: fn _, _ -> bad end})
          assert_receive {:EXIT, ^pid, {:bad_return_value, ^bad}}
        end)
      end
    end

    test "a timeout of a callback survives the library's own messages" do
      cast = fn :arm, state -> {:noreply, state, 300} end
      # Credit for stdin comes and goes, and so do signals, in the meantime.
      pid = worker!("cat > /dev/null", %{cast: cast})
      GenServer.cast(pid, :arm)
      for _ <- 1..10, do: ProtonStream.write(pid, "a")
      ProtonStream.os_pid(pid)
      assert_receive {:info, :timeout}
    end

    test "a timeout of a callback ends with the next callback" do
      cast = fn
        :arm, state -> {:noreply, state, 50}
        :disarm, state -> {:noreply, state}
      end

      pid = worker!("cat", %{cast: cast})
      GenServer.cast(pid, :arm)
      GenServer.cast(pid, :disarm)
      refute_receive {:info, :timeout}, 200
    end

    test "a timeout that ran out while an earlier message waited is nobody's" do
      cast = fn
        :arm, state -> send(state.to, :armed) && {:noreply, state, 200}
        :disarm, state -> {:noreply, state}
      end

      pid = worker!("cat", %{cast: cast})
      GenServer.cast(pid, :arm)
      assert_receive :armed
      :erlang.suspend_process(pid)
      GenServer.cast(pid, :disarm)

      eventually("it has run out", fn ->
        {:messages, messages} = Process.info(pid, :messages)
        Enum.any?(messages, &match?({:timeout, _, _}, &1))
      end)

      :erlang.resume_process(pid)
      send(pid, :last)
      assert_receive {:info, :last}
      refute_received {:info, _}
    end

    test "what a callback throws is its return value" do
      pid = worker!("cat", %{call: fn :throw, _, state -> throw({:reply, :thrown, state}) end})
      assert GenServer.call(pid, :throw) == :thrown
    end

    test "callbacks left out have GenServer's defaults" do
      {:ok, pid} = ProtonStream.start_link(Bare, "cat", [], :state)
      log = capture_log(fn -> send(pid, :hello) && :sys.get_state(pid) end)
      assert log =~ "unexpected message: :hello"
      assert :sys.get_state(pid).state == :state

      quietly(fn ->
        catch_exit(GenServer.call(pid, :hello))
        assert_receive {:EXIT, ^pid, {%RuntimeError{}, _}}
      end)
    end

    test "code_change/3 of the module is called with its own state" do
      defmodule Changing do
        def init(arg), do: {:ok, arg}
        def code_change(_vsn, state, extra), do: {:ok, {state, extra}}
      end

      {:ok, pid} = ProtonStream.start_link(Changing, "cat", [], :old)
      :ok = :sys.suspend(pid)
      :ok = :sys.change_code(pid, ProtonStream.Session, "1", :extra)
      :ok = :sys.resume(pid)
      assert %ProtonStream{state: {:old, :extra}, command: "cat"} = :sys.get_state(pid)
      assert is_integer(ProtonStream.os_pid(pid))
    end

    test "either format_status of the module is used" do
      defmodule One do
        def init(arg), do: {:ok, arg}
        def format_status(status), do: %{status | state: {:formatted, :one}}
      end

      defmodule Two do
        def init(arg), do: {:ok, arg}
        def format_status(:normal, [_pdict, :secret]), do: {:formatted, :two}
      end

      for {module, name} <- [{One, :one}, {Two, :two}] do
        {:ok, pid} = ProtonStream.start_link(module, "sh", ["-c", "cat", "argument"], :secret)
        status = inspect(:sys.get_status(pid), limit: :infinity)
        assert status =~ "{:formatted, #{inspect(name)}}"
        refute status =~ "argument"
        refute status =~ ":secret"
      end
    end

    test "a crash report has neither arguments nor environment nor queued input" do
      log =
        capture_log(fn ->
          {:ok, pid} =
            ProtonStream.start_link(
              Scripted,
              "sh",
              ["-c", "sleep 1000", "hidden-argument"],
              %{to: self(), cast: fn _, _ -> raise "crash" end},
              env: %{"KEY" => "hidden-variable"}
            )

          ProtonStream.command(pid, String.duplicate("hidden-input", 100_000))
          GenServer.cast(pid, :crash)
          assert_receive {:EXIT, ^pid, {%RuntimeError{}, _}}
        end)

      assert log =~ "crash"
      refute log =~ "hidden"
    end

    test "the struct is filled in, and the owner is the process itself" do
      pid = worker!("cat", %{a: 1})

      assert %ProtonStream{command: "sh", args: ["-c", "cat"], owner: ^pid, buffer: ""} =
               state = :sys.get_state(pid)

      assert %{a: 1} = state.state
      assert is_port(state.port)
    end

    test "a name, and a name that is taken" do
      pid = worker!("cat", %{}, name: :proton_stream_named)
      assert Process.whereis(:proton_stream_named) == pid
      assert worker("cat", %{}, name: :proton_stream_named) == {:error, {:already_started, pid}}
      ProtonStream.command(:proton_stream_named, "a")
      assert_receive {:stdout, "a"}
    end
  end

  describe "messages" do
    test "of the library act, from any process" do
      pid = worker!("cat")
      Task.await(Task.async(fn -> send(pid, {self(), {:command, ["a", ?b]}}) end))
      assert_receive {:stdout, "ab"}
      send(pid, {self(), :eof})
      assert_receive {:exit, :normal}
    end

    # row: 10
    test "that only look like the library's reach handle_info untouched" do
      pid = worker!("cat")
      me = self()

      for message <- [
            {:data, "a"},
            {pid, {:data, "a"}},
            {me, {:command, :no_iodata}},
            {me, {:signal, :no_signal}},
            {me, {:signal, 15, :forest}},
            {me, {:connect, me}},
            {me, :closed},
            {:me, {:command, "a"}},
            {make_ref(), :eof},
            {make_ref(), true},
            {:timeout, make_ref(), :callback},
            {:timeout, make_ref(), :close},
            {:timeout, nil, :callback},
            {:timeout, nil, :close},
            {:"$proton_stream", :close, me, :no_pid},
            {:"$proton_stream", :close, :no_pid, me},
            :eof
          ] do
        send(pid, message)
        assert_receive {:info, ^message}
      end
    end

    # row: 20
    test "connect is nobody's: it reaches handle_info" do
      pid = worker!("cat")
      me = self()
      ProtonStream.connect(pid, me)
      assert_receive {:info, {^me, {:connect, ^me}}}
    end

    test "close ends in handle_exit also where a callback has changed the session's flag" do
      pid = worker!("sleep 1000")
      GenServer.call(pid, fn -> Process.flag(:trap_exit, false) end)
      ProtonStream.close(pid)
      assert_receive {:exit, :normal}
      assert_receive {^pid, :closed}
    end

    test "close ends in handle_exit and an answer" do
      pid = worker!("sleep 1000")
      os_pid = ProtonStream.os_pid(pid)
      ProtonStream.close(pid)
      assert_receive {:exit, :normal}
      assert_receive {^pid, :closed}
      refute runs?(os_pid)
      refute Process.alive?(pid)
    end

    test "signals go to the program" do
      pid = worker!("sleep 1000", %{exit: fn reason, s -> {:stop, {:shutdown, reason}, s} end})
      eventually("the shell runs", fn -> ProtonStream.os_pid(pid) end)
      send(pid, {self(), {:signal, :sigkill}})
      assert_receive {:EXIT, ^pid, {:shutdown, {:signal, 9}}}
    end
  end

  describe "inside of a callback" do
    test "os_pid and info answer, write raises, command is queued" do
      pid = worker!("cat")

      assert is_integer(GenServer.call(pid, fn -> ProtonStream.os_pid(self()) end))
      assert %{level: :tree} = GenServer.call(pid, fn -> ProtonStream.info(self()) end)

      raised =
        GenServer.call(pid, fn ->
          try do
            ProtonStream.write(self(), "a")
          rescue
            error in ArgumentError -> error.message
          end
        end)

      assert raised =~ "command/2"
      assert GenServer.call(pid, fn -> ProtonStream.command(self(), "a") end) == :ok
      assert_receive {:stdout, "a"}
    end

    test "info has the report of the end" do
      test = self()

      exit = fn reason, state ->
        send(test, {:in_exit, ProtonStream.info(self())})
        {:stop, {:shutdown, reason}, state}
      end

      terminate = fn _reason, _state -> send(test, {:in_terminate, ProtonStream.info(self())}) end
      worker!("exit 3", %{exit: exit, terminate: terminate})
      assert_receive {:in_exit, %{exit: %{reason: {:exit_status, 3}}, os_pid: nil}}
      assert_receive {:in_terminate, %{exit: %{reason: {:exit_status, 3}}}}
    end
  end

  describe "the end" do
    test "terminate/2 runs while the program lives, and GenServer.stop/1 returns when it is dead" do
      test = self()

      terminate = fn _reason, _state ->
        os_pid = ProtonStream.os_pid(self())
        send(test, {:terminate, os_pid, runs?(os_pid)})
      end

      pid = worker!("sleep 1000", %{terminate: terminate})
      assert GenServer.stop(pid) == :ok
      assert_received {:terminate, os_pid, true}
      refute runs?(os_pid)
    end

    test "a terminate/2 that raises ends the program all the same" do
      pid = worker!("sleep 1000", %{terminate: fn _, _ -> raise "no" end})
      os_pid = ProtonStream.os_pid(pid)
      quietly(fn -> catch_exit(GenServer.stop(pid)) end)
      refute runs?(os_pid)
    end

    test "a parent that ends takes all with it" do
      test = self()

      parent =
        spawn(fn ->
          send(test, {:worker, worker!("sleep 1000", %{to: test})})
          receive do: (:never -> :ok)
        end)

      assert_receive {:worker, pid}
      os_pid = ProtonStream.os_pid(pid)
      monitor = Process.monitor(pid)
      Process.exit(parent, :shutdown)
      assert await_down(monitor) == :shutdown
      assert_received {:terminate, :shutdown}
      refute runs?(os_pid)
    end

    test "a module that does not trap exits ends with the reason of a linked process" do
      pid = worker!("sleep 1000")
      os_pid = ProtonStream.os_pid(pid)

      log =
        capture_log(fn ->
          {:ok, linked} = GenServer.call(pid, fn -> Task.start_link(fn -> exit(:boom) end) end)
          assert is_pid(linked)
          assert_receive {:EXIT, ^pid, :boom}
        end)

      refute log =~ "GenServer"
      refute runs?(os_pid)
      refute_received {:terminate, _}
    end

    test "a module that does not trap exits goes on when a linked process ends well" do
      pid = worker!("cat")
      {:ok, linked} = GenServer.call(pid, fn -> Task.start_link(fn -> :ok end) end)
      await_down(Process.monitor(linked))
      ProtonStream.command(pid, "a")
      assert_receive {:stdout, "a"}
      refute_received {:info, {:EXIT, _, _}}
    end

    test "a module that traps exits gets them, but none of the library's" do
      init = fn state ->
        Process.flag(:trap_exit, true)
        {:ok, state}
      end

      pid = worker!("cat", %{init: init})

      quietly(fn ->
        {:ok, linked} = GenServer.call(pid, fn -> Task.start_link(fn -> exit(:boom) end) end)
        assert_receive {:info, {:EXIT, ^linked, :boom}}
      end)

      ProtonStream.eof(pid)
      assert_receive {:exit, :normal}
      refute_received {:info, {:EXIT, _, _}}
    end
  end

  describe "under a supervisor" do
    # row: 8
    test "a transient child is started again after a status, and not after :normal" do
      children = [
        {ProtonStream,
         module: Scripted,
         command: "sh",
         args: ["-c", "read status; exit $status"],
         init_arg: %{to: self()},
         restart: :transient}
      ]

      quietly(fn ->
        {:ok, supervisor} = Supervisor.start_link(children, strategy: :one_for_one)
        [{_, first, _, _}] = Supervisor.which_children(supervisor)
        ProtonStream.command(first, "1\n")
        assert_receive {:exit, {:exit_status, 1}}

        second =
          eventually("it is started again", fn ->
            case Supervisor.which_children(supervisor) do
              [{_, pid, _, _}] when is_pid(pid) and pid != first -> pid
              _ -> nil
            end
          end)

        ProtonStream.command(second, "0\n")
        assert_receive {:exit, :normal}

        eventually("it is gone", fn ->
          match?([{_, :undefined, _, _}], Supervisor.which_children(supervisor))
        end)

        Supervisor.stop(supervisor)
      end)
    end

    test "a DynamicSupervisor and a PartitionSupervisor take the child specification" do
      spec = {ProtonStream, module: Scripted, command: "cat", init_arg: %{to: self()}}
      {:ok, dynamic} = DynamicSupervisor.start_link(strategy: :one_for_one)
      {:ok, pid} = DynamicSupervisor.start_child(dynamic, spec)
      os_pid = ProtonStream.os_pid(pid)
      DynamicSupervisor.stop(dynamic)
      refute runs?(os_pid)

      {:ok, partitions} =
        PartitionSupervisor.start_link(
          child_spec: spec,
          name: :proton_stream_partitions,
          partitions: 2
        )

      os_pids =
        for {_, pid, _, _} <- PartitionSupervisor.which_children(:proton_stream_partitions),
            do: ProtonStream.os_pid(pid)

      assert length(os_pids) == 2
      Supervisor.stop(partitions)
      await_gone(os_pids)
    end

    test "a shutdown waits for a program that ignores SIGTERM" do
      {:ok, supervisor} = Supervisor.start_link([], strategy: :one_for_one)
      script = "trap '' TERM; echo ready; while :; do sleep 1; done"

      {:ok, pid} =
        Supervisor.start_child(
          supervisor,
          {ProtonStream,
           module: Scripted,
           command: "sh",
           args: ["-c", script],
           init_arg: %{to: self()},
           delay_to_sigkill: 100}
        )

      assert_receive {:stdout, "ready\n"}
      os_pid = ProtonStream.os_pid(pid)
      Supervisor.stop(supervisor)
      refute runs?(os_pid)
    end
  end
end
