# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.CutTest do
  use ExUnit.Case, async: true

  import ProtonStream.Eventually
  import ProtonStream.Programs

  alias ProtonStream.Workers.Scripted

  setup do
    Process.flag(:trap_exit, true)
    :ok
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
        eventually("something waits", fn -> waiting_bytes(ps) > 10_240 end)
        {:messages, messages} = Process.info(self(), :messages)
        sizes = for {^ps, {:data, {:eol, line}}} <- messages, do: byte_size(line)
        assert sizes in [[], [4_000], [10_240]]
        assert_receive {^ps, {:data, {:eol, _}}}
      end
    end

    test "keeps an owner that does not read to its window" do
      ps = sh("yes", line: 80)
      eventually("the session is full", fn -> waiting_bytes(ps) > 200_000 end)
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
end
