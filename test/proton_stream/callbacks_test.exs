# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.CallbacksTest do
  use ExUnit.Case, async: true

  import ProtonStream.Eventually
  import ProtonStream.Programs
  import ProtonStream.Workers

  alias ProtonStream.Workers.Bare
  alias ProtonStream.Workers.Scripted

  setup do
    Process.flag(:trap_exit, true)
    :ok
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

  describe "the flow" do
    test "gets pieces no larger than its window, in order, while others are served" do
      data = pattern(500_000)
      path = temporary("pattern", data)
      test = self()

      stdout = fn data, state ->
        send(test, {:out, data})
        {:noreply, state}
      end

      {:ok, ps} =
        ProtonStream.start_link(Scripted, "cat", [path], %{to: test, stdout: stdout},
          stdio_window: [stdout: 1_000]
        )

      assert is_map(GenServer.call(ps, :state))
      chunks = chunks(ps, [])
      assert Enum.all?(chunks, &(byte_size(&1) <= 1_000))
      assert size(IO.iodata_to_binary(chunks)) == size(data)
    end

    defp chunks(ps, chunks) do
      receive do
        {:out, data} -> chunks(ps, [data | chunks])
        {:exit, :normal} -> Enum.reverse(chunks)
      after
        10_000 -> flunk("no end")
      end
    end

    test "that asks to continue after each piece is asked before the next" do
      test = self()

      stdout = fn data, state ->
        send(test, {:out, byte_size(data)})
        {:noreply, state, {:continue, :next}}
      end

      continue = fn :next, state ->
        send(test, :continued)
        {:noreply, state}
      end

      {:ok, _} =
        ProtonStream.start_link(
          Scripted,
          "head",
          ["-c", "3000", "/dev/zero"],
          %{to: test, stdout: stdout, continue: continue},
          stdio_window: 1_000
        )

      assert_receive {:exit, :normal}
      {:messages, messages} = Process.info(self(), :messages)
      heard = for m <- messages, m == :continued or match?({:out, _}, m), do: m
      assert heard |> Enum.take_every(2) |> Enum.map(&elem(&1, 1)) |> Enum.sum() == 3_000
      assert heard |> Enum.drop_every(2) |> Enum.all?(&(&1 == :continued))
    end
  end
end
