# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.FlowTest do
  use ExUnit.Case, async: true

  import ProtonStream.Eventually
  import ProtonStream.Programs

  alias ProtonStream.Workers.Scripted

  setup do
    Process.flag(:trap_exit, true)
    :ok
  end

  defp say(ps, bytes) do
    assert ProtonStream.write(ps, bytes) == :ok
    eventually("#{inspect(bytes)} is in the session", fn -> waiting_bytes(ps) > 0 end)
  end

  # All that the session had to say to its owner before this has arrived after it.
  defp settled(ps), do: ProtonStream.os_pid(ps)

  describe "active: :once" do
    test "sends one message, and no more until it is asked" do
      ps = echo(active: :once)
      ProtonStream.write(ps, "one")
      assert_receive {^ps, {:data, "one"}}
      say(ps, "two")
      refute_received {^ps, _}
      assert ProtonStream.set_active(ps, :once) == :ok
      assert_receive {^ps, {:data, "two"}}
    end

    test "brings all of both streams, one message at a time" do
      ps = sh("head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2", active: :once)
      assert {300_000, 300_000, :normal} = once(ps, 0, 0)
    end

    defp once(ps, out, err) do
      receive do
        {^ps, {kind, data}} ->
          settled(ps)
          refute_received {^ps, {_, _}}
          :ok = ProtonStream.set_active(ps, :once)

          if kind == :data,
            do: once(ps, out + byte_size(data), err),
            else: once(ps, out, err + byte_size(data))

        {:EXIT, ^ps, reason} ->
          {out, err, reason}
      after
        10_000 -> flunk("nothing comes: #{inspect({out, err, ProtonStream.info(ps)})}")
      end
    end
  end

  describe "a number" do
    test "counts the messages of both streams, and ends with :passive" do
      ps = sh("while read line; do echo $line; echo $line >&2; done", active: 3)
      ProtonStream.write(ps, "a\n")
      assert_receive {^ps, {:data, "a\n"}}
      assert_receive {^ps, {:error, "a\n"}}
      refute_received {^ps, :passive}
      ProtonStream.write(ps, "b\n")
      assert_receive {^ps, {_, "b\n"}}
      assert_receive {^ps, :passive}
      eventually("the other one waits", fn -> waiting_bytes(ps) == 2 end)
      refute_received {^ps, _}
    end

    test "is added to what is left" do
      ps = echo(active: 1)
      assert ProtonStream.set_active(ps, 2) == :ok

      for text <- ["a", "b"] do
        ProtonStream.write(ps, text)
        assert_receive {^ps, {:data, ^text}}
        settled(ps)
        refute_received {^ps, :passive}
      end

      ProtonStream.write(ps, "c")
      assert_receive {^ps, {:data, "c"}}
      assert_receive {^ps, :passive}
    end

    test "that leaves none, or less, makes passive and says so" do
      ps = echo(active: 5)
      assert ProtonStream.set_active(ps, -7) == :ok
      assert_receive {^ps, :passive}
      assert ProtonStream.set_active(ps, 0) == :ok
      assert_receive {^ps, :passive}
      say(ps, "a")
      refute_received _
      # Below none is none: nothing is owed.
      assert ProtonStream.set_active(ps, 1) == :ok
      assert_receive {^ps, {:data, "a"}}
      assert_receive {^ps, :passive}
    end
  end

  describe "a change while output waits" do
    test "to true sends it at once" do
      ps = echo(active: false)
      say(ps, "a")
      refute_received _
      assert ProtonStream.set_active(ps, true) == :ok
      assert_receive {^ps, {:data, "a"}}
      ProtonStream.write(ps, "b")
      assert_receive {^ps, {:data, "b"}}
    end

    test "to false leaves it for read/2, in order" do
      ps = echo([])
      assert ProtonStream.set_active(ps, false) == :ok
      say(ps, "a")
      refute_received _
      assert ProtonStream.read(ps) == {:ok, {:stdout, "a"}}
    end

    test "by a message is the same as by the function" do
      ps = echo(active: false)
      say(ps, "a")
      send(ps, {self(), {:active, :once}})
      assert_receive {^ps, {:data, "a"}}
      send(ps, {self(), {:active, :nonsense}})
      assert ProtonStream.read(ps, 0) == {:error, :timeout}
    end

    test "by another process than the owner changes nothing" do
      ps = echo([])
      task = Task.async(fn -> {ProtonStream.set_active(ps, false), ProtonStream.read(ps)} end)
      assert Task.await(task) == {{:error, :not_owner}, {:error, :not_owner}}
      ProtonStream.command(ps, "a")
      assert_receive {^ps, {:data, "a"}}
    end

    test "to what is no mode raises in the caller" do
      ps = echo([])
      assert_raise ArgumentError, ~r/:once/, fn -> ProtonStream.set_active(ps, :twice) end
      assert_raise ArgumentError, ~r/32767/, fn -> ProtonStream.set_active(ps, 32_768) end
    end
  end

  describe "read/2" do
    test "pulls both streams to their end, and then the exit is told" do
      data = pattern(1_000_000)
      path = temporary("pattern", data)
      ps = sh("cat '#{path}' & cat '#{path}' >&2; wait; exit 3", active: false)
      {out, err} = pull(ps, [], [])
      assert {size(out), size(err)} == {size(data), size(data)}
      assert_receive {:EXIT, ^ps, {:exit_status, 3}}
      assert ProtonStream.read(ps) == {:error, :closed}
      refute_received _
    end

    defp pull(ps, out, err) do
      case ProtonStream.read(ps, 10_000) do
        {:ok, {:stdout, data}} -> pull(ps, [out | data], err)
        {:ok, {:stderr, data}} -> pull(ps, out, [err | data])
        :eof -> {IO.iodata_to_binary(out), IO.iodata_to_binary(err)}
      end
    end

    test "gives each stream its turn" do
      ps = sh("yes & exec yes >&2", active: false)

      eventually("both wait", fn ->
        %{held: %{stdout: out, stderr: err}} = ProtonStream.info(ps)
        out > 20_000 and err > 20_000
      end)

      kinds = for _ <- 1..4, do: ps |> ProtonStream.read() |> elem(1) |> elem(0)
      assert Enum.sort(kinds) == [:stderr, :stderr, :stdout, :stdout]
    end

    test "times out without losing what comes later" do
      ps = echo(active: false)
      assert ProtonStream.read(ps, 1) == {:error, :timeout}
      ProtonStream.write(ps, "late")
      assert ProtonStream.read(ps) == {:ok, {:stdout, "late"}}
      refute_received _
    end

    test "of an active stream is refused" do
      assert ProtonStream.read(echo([])) == {:error, :einval}
      assert ProtonStream.read(echo(active: 7)) == {:error, :einval}
    end

    test "gives pieces no larger than the window" do
      ps = sh("head -c 100000 /dev/zero", active: false, stdio_window: [stdout: 1_000])
      assert {:ok, {:stdout, data}} = ProtonStream.read(ps)
      assert byte_size(data) <= 1_000
    end

    test "is :eof though nothing was ever written" do
      ps = sh("exit 0", active: false)
      assert ProtonStream.read(ps) == :eof
      assert_receive {:EXIT, ^ps, :normal}
    end

    test "raises in a callback, and is not for others of a callback module" do
      test = self()
      call = fn fun, _from, state -> {:reply, fun.(), state} end
      {:ok, ps} = ProtonStream.start_link(Scripted, "cat", [], %{to: test, call: call})

      raised = fn ->
        for fun <- [&ProtonStream.read/1, &ProtonStream.set_active(&1, true)] do
          try do
            fun.(self())
          rescue
            error in ArgumentError -> error.message
          end
        end
      end

      assert [read, active] = GenServer.call(ps, raised)
      assert read =~ "read/2 on self()"
      assert active =~ "set_active/2 on self()"
      assert ProtonStream.read(ps) == {:error, :not_owner}
      assert ProtonStream.set_active(ps, true) == {:error, :not_owner}
    end
  end

  describe "the end" do
    test "waits for a passive owner, as unread output does" do
      ps = sh("echo a; exit 3", active: 1, exit_status: true)
      assert_receive {^ps, {:data, "a\n"}}
      assert_receive {^ps, :passive}
      eventually("the program is gone", fn -> ProtonStream.os_pid(ps) == nil end)
      refute_received _
      assert ProtonStream.set_active(ps, true) == :ok
      assert_receive {^ps, {:exit_status, 3}}
      assert_receive {:EXIT, ^ps, {:exit_status, 3}}
    end

    test "does not wait after a close, which throws away what was not read" do
      ps = sh("echo a; exit 3", active: false)
      eventually("the program is gone", fn -> ProtonStream.os_pid(ps) == nil end)
      ProtonStream.close(ps)
      assert_receive {^ps, :closed}
      assert_receive {:EXIT, ^ps, :normal}
      refute_received _
    end

    test "is told to the new owner of a passive stream that becomes active" do
      ps = sh("echo a", active: false)
      test = self()

      other =
        spawn(fn ->
          receive do
            :go -> send(test, {self(), ProtonStream.read(ps), ProtonStream.read(ps)})
          end

          receive do: (:never -> :ok)
        end)

      ProtonStream.connect(ps, other)
      assert_receive {^ps, :connected}
      send(other, :go)
      assert_receive {^other, {:ok, {:stdout, "a\n"}}, :eof}
      Process.exit(other, :kill)
    end
  end

  test "what is no timeout, and no mode, is refused in words" do
    ps = sh("cat", active: false)

    for timeout <- [-1, :soon, 1.5, 5_000_000_000],
        ask <- [&ProtonStream.read/2, &ProtonStream.write(&1, "a", &2)] do
      assert_raise ArgumentError,
                   ~r/milliseconds from 0 to 4294967295, got: #{inspect(timeout)}/,
                   fn ->
                     ask.(ps, timeout)
                   end
    end

    assert_raise ArgumentError, ~r/set_active\/2 takes .*, got: 100000/, fn ->
      ProtonStream.set_active(ps, 100_000)
    end
  end

  test "what can't hold together is refused in words" do
    for {opts, words} <- [
          {[line: 10, packet: 2], ~r/:line and :packet/},
          {[packet: 2, stderr_to_stdout: true], ~r/:stderr_to_stdout/},
          {[packet: 2, overflow: :drop], ~r/in two/},
          {[packet: 3], ~r/one of 1, 2, 4/},
          {[active: 0], ~r/:once/},
          {[overflow: :lose], ~r/:block, :drop/},
          {[stdio_window: [stdin: 1]], ~r/:stdout and :stderr/},
          {[stdio_window: 0], ~r/from 1 to 67108864/},
          {[stdin_limit: 0], ~r/from 1/}
        ] do
      assert_raise ArgumentError, words, fn -> ProtonStream.open("cat", [], opts) end
    end

    for option <- [active: :once, overflow: :drop] do
      assert_raise ArgumentError, ~r/not for a callback module/, fn ->
        ProtonStream.start_link(Scripted, "cat", [], %{}, [option])
      end
    end
  end
end
