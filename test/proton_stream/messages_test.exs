# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.MessagesTest do
  use ExUnit.Case, async: true

  import ProtonStream.Eventually
  import ProtonStream.Programs

  setup do
    Process.flag(:trap_exit, true)
    :ok
  end

  # A process that owns a program and does what it is told.
  defp owner(script, opts \\ []) do
    test = self()

    owner =
      spawn(fn ->
        Process.flag(:trap_exit, Keyword.get(opts, :trap_exit, true))
        send(test, {self(), sh(script, Keyword.take(opts, [:transport]))})
        forward(test)
      end)

    assert_receive {^owner, ps}
    {owner, ps}
  end

  # A process that tells the test all that it hears.
  defp listener do
    test = self()
    spawn(fn -> forward(test) end)
  end

  defp forward(test) do
    receive do
      {:do, fun} -> fun.()
      {:trap_exit, flag} -> Process.flag(:trap_exit, flag)
      message -> send(test, {:heard, self(), message})
    end

    forward(test)
  end

  describe "only the owner's messages act" do
    # row: 10
    test "those of others, and unknown ones, change nothing" do
      {:ok, ps} = ProtonStream.open("cat", [])
      other = listener()

      for message <- [
            {other, {:command, "x"}},
            {other, :eof},
            {other, :close},
            {other, {:signal, :sigkill}},
            {other, {:connect, other}},
            {self(), :unknown},
            {self(), {:command, :not_iodata}},
            {self(), {:signal, :no_such_signal}},
            {self(), {:connect, :not_a_pid}},
            {make_ref(), true},
            {:timeout, make_ref(), :close},
            {:timeout, nil, :close},
            {:timeout, nil, :read},
            {:"$proton_stream", :close, self(), :no_pid},
            {:"$proton_stream", :close, :no_pid, other},
            {:EXIT, other, :normal},
            {nil, {:data, "x"}},
            :unknown,
            {}
          ] do
        send(ps, message)
      end

      GenServer.cast(ps, :unknown)
      assert GenServer.call(ps, :unknown) == {:error, :unknown_call}

      for request <- [{:write, :atom}, {:write, [1.0]}, {:read, -1}, {:active, :maybe}] do
        assert GenServer.call(ps, {:"$proton_stream", request}) == {:error, :unknown_call}
      end

      ProtonStream.command(ps, "here")
      assert_receive {^ps, {:data, "here"}}
      refute_received _
    end

    test "a close by somebody else is not answered while the program runs" do
      {:ok, ps} = ProtonStream.open("cat", [])
      other = listener()
      send(other, {:do, fn -> ProtonStream.close(ps) end})
      send(other, {:do, fn -> ProtonStream.os_pid(ps) end})
      send(other, :done)
      assert_receive {:heard, ^other, :done}
      assert is_integer(ProtonStream.os_pid(ps))
    end
  end

  describe "an owner that ends" do
    for reason <- [:normal, :shutdown, :kill, :boom], transport <- [:nursery, :port] do
      @tag reason: reason, transport: transport
      test "with #{reason} takes the program with it, by #{transport}", context do
        %{reason: reason, transport: transport} = context
        opts = [trap_exit: false, transport: transport]
        {owner, ps} = owner("sleep 1000 & echo $! >&2; wait", opts)
        assert_receive {:heard, ^owner, {^ps, {:error, pid}}}
        child = pid |> String.trim() |> String.to_integer()
        os_pid = ProtonStream.os_pid(ps)
        guardian = guardian(ps)

        if reason == :normal,
          do: send(owner, {:do, fn -> exit(:normal) end}),
          else: Process.exit(owner, reason)

        await_down(Process.monitor(ps))
        await_gone([os_pid, child])
        if transport == :port, do: await_gone(guardian), else: await_free(guardian)
      end
    end

    test "after it has unlinked takes the program with it" do
      {owner, ps} = owner("sleep 1000")
      os_pid = ProtonStream.os_pid(ps)
      send(owner, {:do, fn -> Process.unlink(ps) end})
      Process.exit(owner, :kill)
      await_down(Process.monitor(ps))
      await_gone(os_pid)
    end

    test "takes a program with it that ignores SIGTERM" do
      {owner, ps} = owner("trap '' TERM; echo ready; while :; do sleep 1; done")
      assert_receive {:heard, ^owner, {^ps, {:data, "ready\n"}}}
      os_pid = ProtonStream.os_pid(ps)
      Process.exit(owner, :kill)
      await_down(Process.monitor(ps))
      await_gone(os_pid)
    end
  end

  describe "a session that is ended by others" do
    test "with an exit signal ends its program and tells the owner" do
      {:ok, ps} = ProtonStream.open("sleep", ["1000"])
      os_pid = ProtonStream.os_pid(ps)
      monitor = Process.monitor(ps)
      Process.exit(ps, :boom)
      assert_receive {:EXIT, ^ps, :boom}
      assert await_down(monitor) == {:shutdown, :boom}
      refute runs?(os_pid)
    end

    test "with GenServer.stop/1 has ended its program by then" do
      {:ok, ps} = ProtonStream.open("sleep", ["1000"])
      os_pid = ProtonStream.os_pid(ps)
      assert GenServer.stop(ps) == :ok
      refute runs?(os_pid)
      assert_receive {:EXIT, ^ps, :normal}
      refute_received {:EXIT, ^ps, _}
    end

    test "with SIGKILL of the process leaves nothing" do
      {:ok, ps} = ProtonStream.open("sleep", ["1000"])
      os_pid = ProtonStream.os_pid(ps)
      guardian = guardian(ps)
      Process.exit(ps, :kill)
      assert_receive {:EXIT, ^ps, :killed}
      await_gone(os_pid)
      await_free(guardian)
    end
  end

  describe "close" do
    # row: 13
    test "is answered when the program is dead and the session gone, after the exit" do
      {:ok, ps} = ProtonStream.open("sleep", ["1000"])
      os_pid = ProtonStream.os_pid(ps)
      send(ps, {self(), :close})
      assert_receive {^ps, :closed}
      refute runs?(os_pid)
      refute Process.alive?(ps)
      assert_received {:EXIT, ^ps, :normal}
      refute_received _
    end

    # row: 13
    test "is answered when a program that ignores SIGTERM is dead" do
      ps = sh("trap '' TERM; echo ready; while :; do sleep 1; done", delay_to_sigkill: 10)
      await_line(ps, "ready")
      os_pid = ProtonStream.os_pid(ps)
      ProtonStream.close(ps)
      assert_receive {^ps, :closed}
      refute runs?(os_pid)
    end

    test "is answered once for each request" do
      {:ok, ps} = ProtonStream.open("sleep", ["1000"])
      for _ <- 1..3, do: ProtonStream.close(ps)
      for _ <- 1..3, do: send(ps, {self(), :close})
      for _ <- 1..6, do: assert_receive({^ps, :closed})
      await_down(Process.monitor(ps))
      refute_received {^ps, :closed}
      assert_received {:EXIT, ^ps, :normal}
      refute_received {:EXIT, ^ps, _}
    end

    test "delivers nothing more" do
      ps = sh("yes")
      assert_receive {^ps, {:data, _}}
      ProtonStream.close(ps)
      assert_receive {^ps, :closed}
      # All that is here came before the answer; nothing comes after it.
      flush(ps)
      refute_receive {^ps, _}, 50
    end

    test "of a program that has ended, but was not read, is a close" do
      ps = sh("head -c 100000 /dev/zero; exit 3", exit_status: true)
      eventually("the program is gone", fn -> ProtonStream.os_pid(ps) == nil end)
      ProtonStream.close(ps)
      assert_receive {^ps, :closed}
      assert_received {:EXIT, ^ps, :normal}
      refute_received {^ps, {:exit_status, _}}
    end

    test "comes after what was sent before it" do
      path = temporary("out", "")

      ps =
        sh("trap 'cat > #{path}; exit' TERM; echo ready; while :; do sleep 0.1; done",
          delay_to_sigkill: 10_000
        )

      await_line(ps, "ready")
      ProtonStream.command(ps, "last words")
      ProtonStream.eof(ps)
      ProtonStream.close(ps)
      assert_receive {^ps, :closed}
      assert File.read!(path) == "last words"
    end

    @tag timeout: 120_000
    test "two hundred of them racing an exit are two hundred answers" do
      for n <- 1..200 do
        ps = sh("read line")
        os_pid = ProtonStream.os_pid(ps)
        ProtonStream.command(ps, "\n")
        spin(n * 37)
        ProtonStream.close(ps)
        assert_receive {^ps, :closed}
        refute Process.alive?(ps)
        refute runs?(os_pid)
        assert_received {:EXIT, ^ps, :normal}
        refute_received {:EXIT, ^ps, _}
        refute_received {^ps, :closed}
      end
    end

    defp spin(0), do: :ok
    defp spin(n), do: spin(n - 1)
  end

  defp flush(ps) do
    receive do
      {^ps, _} -> flush(ps)
    after
      0 -> :ok
    end
  end

  describe "the end is told once, and as one thing" do
    test "when a connect races the exit" do
      for _ <- 1..100 do
        new = listener()
        {:ok, ps} = ProtonStream.open("sh", ["-c", "exit 3"], exit_status: true)
        ProtonStream.connect(ps, new)
        ProtonStream.close(ps)
        monitor = Process.monitor(ps)
        assert_receive {:DOWN, ^monitor, _, _, _}
        mine = heard_status(ps, 0)
        send(new, {:do, fn -> :ok end})
        assert mine + theirs(new, ps, 0) <= 1
      end
    end

    test "when a close races the exit" do
      for _ <- 1..100 do
        {:ok, ps} = ProtonStream.open("sh", ["-c", "exit 3"], exit_status: true)
        ProtonStream.close(ps)
        assert_receive {:EXIT, ^ps, reason}
        assert_receive {^ps, :closed}
        status = heard_status(ps, 0)
        assert {reason, status} in [{:normal, 0}, {{:exit_status, 3}, 1}]
      end
    end

    defp heard_status(ps, count) do
      receive do
        {^ps, {:exit_status, 3}} -> heard_status(ps, count + 1)
      after
        0 -> count
      end
    end

    # What the session said is in the listener's mailbox before what we say now.
    defp theirs(new, ps, count) do
      marker = make_ref()
      send(new, marker)
      theirs(new, ps, marker, count)
    end

    defp theirs(new, ps, marker, count) do
      receive do
        {:heard, ^new, {^ps, {:exit_status, 3}}} -> theirs(new, ps, marker, count + 1)
        {:heard, ^new, ^marker} -> count
      end
    end
  end

  describe "the greatest delay" do
    test "does not keep a session from being stopped" do
      {:ok, ps} = ProtonStream.open("cat", [], delay_to_sigkill: 2_147_483_647)
      assert GenServer.stop(ps) == :ok
    end

    test "is one that a supervisor can wait for" do
      spec =
        ProtonStream.child_spec(
          module: __MODULE__,
          command: "cat",
          args: [],
          init_arg: nil,
          delay_to_sigkill: 2_147_483_647
        )

      assert spec.shutdown in 2_147_483_647..4_294_967_295
    end
  end

  describe "connect" do
    test "moves delivery, link and the exit to the new owner" do
      {:ok, ps} = ProtonStream.open("cat", [])
      new = listener()
      send(new, {:trap_exit, true})
      ProtonStream.connect(ps, new)
      assert_receive {^ps, :connected}
      assert ps not in elem(Process.info(self(), :links), 1)
      assert :sys.get_state(ps).owner == new

      ProtonStream.command(ps, "from the old one")
      send(ps, {new, {:command, "from the new one"}})
      assert_receive {:heard, ^new, {^ps, {:data, "from the new one"}}}
      send(ps, {new, :eof})
      assert_receive {:heard, ^new, {:EXIT, ^ps, :normal}}
      refute_received {:EXIT, ^ps, _}
    end

    test "the old owner's death does not matter any more, the new one's does" do
      {owner, ps} = owner("sleep 1000")
      os_pid = ProtonStream.os_pid(ps)
      new = listener()
      send(owner, {:do, fn -> ProtonStream.connect(ps, new) end})
      assert_receive {:heard, ^owner, {^ps, :connected}}
      monitor = Process.monitor(owner)
      Process.exit(owner, :kill)
      await_down(monitor)
      assert ProtonStream.os_pid(ps) == os_pid
      Process.exit(new, :kill)
      await_down(Process.monitor(ps))
      await_gone(os_pid)
    end

    test "loses no byte while output flows" do
      data = pattern(1_000_000)
      path = temporary("pattern", data)
      ps = sh("cat '#{path}'; exit 5")
      test = self()

      hands =
        Enum.reduce(1..5, [], fn _, hands ->
          next = spawn(fn -> relay(test, [], nil) end)
          [next | hands]
        end)

      assert_receive {^ps, {:data, first}}
      [hand | rest] = hands
      ProtonStream.connect(ps, hand)
      mine = until_connected(ps, [first])
      parts = pass(hand, rest, ps, [mine])
      assert size(IO.iodata_to_binary(Enum.reverse(parts))) == size(data)
      assert_receive {:last, {:EXIT, ^ps, {:exit_status, 5}}}
    end

    defp until_connected(ps, bytes) do
      receive do
        {^ps, {:data, data}} -> until_connected(ps, [bytes | data])
        {^ps, :connected} -> bytes
      end
    end

    # Each takes a little, hands the rest to the next, and tells what it had.
    defp pass(hand, [], ps, parts) do
      send(hand, {:all, ps})
      assert_receive {:had, ^hand, bytes}, 20_000
      [bytes | parts]
    end

    defp pass(hand, [next | rest], ps, parts) do
      send(hand, {:pass, ps, next})
      assert_receive {:had, ^hand, bytes}, 20_000
      pass(next, rest, ps, [bytes | parts])
    end

    defp relay(test, [], nil) do
      Process.flag(:trap_exit, true)

      receive do
        {:pass, ps, next} ->
          first = receive do: ({^ps, {:data, data}} -> data)
          ProtonStream.connect(ps, next)
          send(test, {:had, self(), until_connected(ps, [first])})

        {:all, ps} ->
          {out, "", reason} = collect(ps)
          send(test, {:had, self(), out})
          send(test, {:last, {:EXIT, ps, reason}})
      end

      receive do: (:never -> :ok)
    end

    test "to the owner itself is answered and changes nothing" do
      {:ok, ps} = ProtonStream.open("cat", [])
      ProtonStream.connect(ps, self())
      assert_receive {^ps, :connected}
      assert ps in elem(Process.info(self(), :links), 1)
      ProtonStream.command(ps, "a")
      assert_receive {^ps, {:data, "a"}}
    end

    test "to a dead process ends the program" do
      {:ok, ps} = ProtonStream.open("sleep", ["1000"])
      os_pid = ProtonStream.os_pid(ps)
      dead = spawn(fn -> :ok end)
      await_down(Process.monitor(dead))
      ProtonStream.connect(ps, dead)
      assert_receive {^ps, :connected}
      await_down(Process.monitor(ps))
      await_gone(os_pid)
    end

    test "to the session itself changes nothing" do
      {:ok, ps} = ProtonStream.open("cat", [])
      ProtonStream.connect(ps, ps)
      ProtonStream.command(ps, "a")
      assert_receive {^ps, {:data, "a"}}
      refute_received {^ps, :connected}
    end

    test "by somebody else changes nothing" do
      {:ok, ps} = ProtonStream.open("cat", [])
      Task.await(Task.async(fn -> ProtonStream.connect(ps, self()) end))
      ProtonStream.command(ps, "a")
      assert_receive {^ps, {:data, "a"}}
    end
  end
end
