# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Callbacks.ContractTest do
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  import ProtonStream.Eventually
  import ProtonStream.Workers

  alias ProtonStream.Workers.Bare
  alias ProtonStream.Workers.Scripted

  setup do
    Process.flag(:trap_exit, true)
    :ok
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
end
