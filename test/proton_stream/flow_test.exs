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

  # A program that writes a line for each line that it reads, so that the test decides when.
  defp echo(opts) do
    {:ok, ps} = ProtonStream.open("cat", [], opts)
    ps
  end

  defp say(ps, bytes) do
    assert ProtonStream.write(ps, bytes) == :ok
    eventually("#{inspect(bytes)} is in the session", fn -> held(ps) > 0 end)
  end

  defp held(ps) do
    %{held: %{stdout: out, stderr: err}} = ProtonStream.info(ps)
    out + err
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
      eventually("the other one waits", fn -> held(ps) == 2 end)
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

  describe "line: bytes" do
    test "delivers lines of both streams, and what the end cuts short" do
      ps = sh("printf 'one\\r\\ntwo\\n\\nlast'; printf 'err\\nno' >&2", line: 100)

      assert lines(ps, [], []) ==
               {[eol: "one", eol: "two", eol: "", noeol: "last"], [eol: "err", noeol: "no"],
                :normal}
    end

    test "cuts longer lines, also those longer than the window, and loses nothing" do
      ps = sh("head -c 600000 /dev/zero; echo; echo end", line: 300_000, stdio_window: 100)
      assert {[noeol: one, eol: two, eol: "end"], [], :normal} = lines(ps, [], [])
      assert {byte_size(one), byte_size(two)} == {300_000, 300_000}
    end

    # Each of them, and less than half as much before.
    for max <- [131_071, 131_073, 262_144, 1_000_000] do
      @tag max: max
      test "brings lines of #{max} bytes after shorter ones", %{max: max} do
        short = div(max, 2) - 10

        script =
          "for n in 1 2 3; do head -c #{short} /dev/zero; echo; head -c #{max} /dev/zero; echo; done"

        sizes = [short, max, short, max, short, max]

        for opts <- [[], [stdio_window: max], [stdio_window: 1, active: 100]] do
          assert {out, [], :normal} = lines(sh(script, [line: max] ++ opts), [], [])
          assert for({:eol, line} <- out, do: byte_size(line)) == sizes
        end

        assert {[], err, :normal} = lines(sh("{ #{script}; } >&2", line: max), [], [])
        assert for({:eol, line} <- err, do: byte_size(line)) == sizes

        ps = sh(script, line: max, active: false)

        for size <- sizes,
            do:
              assert({:ok, {:stdout, {:eol, <<_::size(size)-unit(8)>>}}} = ProtonStream.read(ps))

        assert ProtonStream.read(ps) == :eof

        {:ok, _} =
          ProtonStream.start_link(Scripted, "sh", ["-c", script], %{to: self()}, line: max)

        for size <- sizes,
            do: assert_receive({:stdout, {:eol, <<_::size(size)-unit(8)>>}}, 10_000)

        assert_receive {:exit, :normal}, 10_000
      end
    end

    test "keeps an owner to its window that has read a little, whatever comes next" do
      script = "while :; do head -c 4000 /dev/zero; echo; head -c 10240 /dev/zero; echo; done"
      ps = sh(script, line: 10_240)

      for _ <- 1..20 do
        eventually("something waits", fn -> held(ps) > 10_240 end)
        {:messages, messages} = Process.info(self(), :messages)
        sizes = for {^ps, {:data, {:eol, line}}} <- messages, do: byte_size(line)
        assert sizes in [[], [4_000], [10_240]]
        assert_receive {^ps, {:data, {:eol, _}}}
      end
    end

    test "keeps an owner that does not read to its window" do
      ps = sh("yes", line: 80)
      eventually("the session is full", fn -> held(ps) > 200_000 end)
      {:messages, messages} = Process.info(self(), :messages)
      assert length(messages) < div(10_240, 128) + 2
    end

    test "is read line by line, too" do
      ps = sh("printf 'a\\nb'", line: 10, active: false)
      assert ProtonStream.read(ps) == {:ok, {:stdout, {:eol, "a"}}}
      assert ProtonStream.read(ps) == {:ok, {:stdout, {:noeol, "b"}}}
      assert ProtonStream.read(ps) == :eof
    end

    test "brings a callback module lines that keep nothing else alive" do
      {:ok, _} =
        ProtonStream.start_link(Scripted, "sh", ["-c", "seq 100000"], %{to: self()}, line: 9)

      assert_receive {:exit, :normal}, 30_000
      {:messages, messages} = Process.info(self(), :messages)
      lines = for {:stdout, {:eol, line}} <- messages, do: line
      assert length(lines) == 100_000
      assert Enum.all?(lines, &(:binary.referenced_byte_size(&1) < 100))
    end

    test "brings a callback module lines, and a last part" do
      {:ok, ps} =
        ProtonStream.start_link(Scripted, "sh", ["-c", "seq 3; printf x"], %{to: self()}, line: 9)

      for line <- [eol: "1", eol: "2", eol: "3", noeol: "x"],
          do: assert_receive({:stdout, ^line})

      assert_receive {:exit, :normal}
      assert_receive {:EXIT, ^ps, :normal}
    end

    defp lines(ps, out, err) do
      receive do
        {^ps, {:data, line}} -> lines(ps, [line | out], err)
        {^ps, {:error, line}} -> lines(ps, out, [line | err])
        {:EXIT, ^ps, reason} -> {Enum.reverse(out), Enum.reverse(err), reason}
      after
        10_000 -> flunk("no end: #{inspect(ProtonStream.info(ps))}")
      end
    end
  end

  describe "packet: bytes" do
    for header <- [1, 2, 4] do
      @tag header: header
      test "#{header} frames both ways, in order", %{header: header} do
        ps = echo(packet: header)
        packets = for n <- [0, 1, 255, 3], do: :binary.copy("#{rem(n, 10)}", n)
        for packet <- packets, do: ProtonStream.command(ps, packet)
        for packet <- packets, do: assert_receive({^ps, {:data, ^packet}})
      end
    end

    test "leaves stderr as it is" do
      ps = sh("printf '\\000\\001a'; printf 'oh no' >&2", packet: 2)
      assert collect(ps) == {"a", "oh no", :normal}
    end

    test "ends the program when one is larger than the window" do
      ps = sh("printf '\\177\\000\\000\\000'; sleep 1000", packet: 4)
      assert_receive {:EXIT, ^ps, {:packet_too_large, 0x7F000000}}
    end

    test "takes one as large as the window" do
      ps = echo(packet: 4, stdio_window: 1_000_000)
      data = pattern(1_000_000)
      ProtonStream.command(ps, data)
      assert_receive {^ps, {:data, ^data}}
    end

    test "takes one as large as the window after a smaller one" do
      for window <- [200_000, 262_144], smaller <- [100_000, 131_071] do
        ps = echo(packet: 4, stdio_window: window)
        for n <- [smaller, window, smaller, window], do: ProtonStream.command(ps, pattern(n))

        for n <- [smaller, window, smaller, window] do
          data = pattern(n)
          assert_receive {^ps, {:data, ^data}}, 10_000
        end

        ProtonStream.close(ps)
      end
    end

    test "refuses a write that has no such length, and ends for a command" do
      ps = echo(packet: 1)
      assert ProtonStream.write(ps, :binary.copy("x", 256)) == {:error, :einval}
      assert ProtonStream.write(ps, "still here") == :ok
      assert_receive {^ps, {:data, "still here"}}
      ProtonStream.command(ps, :binary.copy("x", 256))
      assert_receive {:EXIT, ^ps, {:packet_too_large, 256}}
    end

    test "brings a callback module packets" do
      {:ok, ps} = ProtonStream.start_link(Scripted, "cat", [], %{to: self()}, packet: 2)
      ProtonStream.command(ps, "one")
      ProtonStream.command(ps, "")
      assert_receive {:stdout, "one"}
      assert_receive {:stdout, ""}
    end
  end

  describe "overflow: :drop" do
    test "never blocks the program, and says what is missing" do
      ps = sh("head -c 3000000 /dev/zero; echo end", overflow: :drop, active: false)
      eventually("the program is gone", fn -> ProtonStream.os_pid(ps) == nil end)
      assert {bytes, dropped} = pieces(ps, 0, 0)
      assert bytes + dropped == 3_000_004
      assert bytes <= 262_146
    end

    test "tells an owner in the place of what is missing" do
      ps = sh("yes | head -c 1000000; exec sleep 1000", overflow: :drop)

      eventually("all was written", fn -> ProtonStream.info(ps).bytes.stdout == 1_000_000 end)
      assert {bytes, count} = until_dropped(ps, 0)
      assert bytes + count == 1_000_000
      # A burst that the session can hold is no reason to drop any of it.
      assert bytes >= 262_000
      ProtonStream.close(ps)
      assert_receive {^ps, :closed}
    end

    defp until_dropped(ps, bytes) do
      receive do
        {^ps, {:data, data}} -> until_dropped(ps, bytes + byte_size(data))
        {^ps, {:dropped, {:stdout, count}}} -> {bytes, count}
      after
        10_000 -> flunk("no notice after #{bytes}")
      end
    end

    defp pieces(ps, bytes, dropped) do
      case ProtonStream.read(ps) do
        {:ok, {:stdout, data}} -> pieces(ps, bytes + byte_size(data), dropped)
        {:ok, {:dropped, {:stdout, count}}} -> pieces(ps, bytes, dropped + count)
        :eof -> {bytes, dropped}
      end
    end
  end

  describe "stdin_limit" do
    test "ends the program when commands queue more" do
      {:ok, ps} = ProtonStream.open("sleep", ["1000"], stdin_limit: 100_000)
      for _ <- 1..100, do: ProtonStream.command(ps, :binary.copy("x", 10_000))
      assert_receive {:EXIT, ^ps, {:stdin_overflow, bytes}}
      assert bytes > 100_000
    end

    @tag :capture_log
    test "is a callback module's reason, too" do
      {:ok, ps} =
        ProtonStream.start_link(Scripted, "sleep", ["1000"], %{to: self()}, stdin_limit: 1_000)

      ProtonStream.command(ps, :binary.copy("x", 1_000_000))
      assert_receive {:exit, {:stdin_overflow, 1_000_000}}
      assert_receive {:EXIT, ^ps, {:stdin_overflow, 1_000_000}}
    end

    test "refuses a write, and takes the next when there is room" do
      {:ok, ps} = ProtonStream.open("cat", [], stdin_limit: 1_000, active: false)
      assert ProtonStream.write(ps, :binary.copy("x", 1_000_000)) == {:error, :stdin_limit}
      assert ProtonStream.write(ps, "y") == :ok
      assert ProtonStream.read(ps) == {:ok, {:stdout, "y"}}
    end
  end

  describe "a callback module" do
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
