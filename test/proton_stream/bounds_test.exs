# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.BoundsTest do
  use ExUnit.Case, async: true

  import ProtonStream.Eventually
  import ProtonStream.Programs

  alias ProtonStream.Workers.Scripted

  setup do
    Process.flag(:trap_exit, true)
    :ok
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
end
