# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.InputTest do
  use ExUnit.Case, async: true

  import ProtonStream.Eventually
  import ProtonStream.Programs

  setup do
    Process.flag(:trap_exit, true)
    :ok
  end

  # row: 5
  test "sort answers after the end of file" do
    {:ok, ps} = ProtonStream.open("sort", [])
    send(ps, {self(), {:command, "b\n"}})
    send(ps, {self(), {:command, "a\n"}})
    send(ps, {self(), :eof})
    assert collect(ps) == {"a\nb\n", "", :normal}
  end

  # row: 5
  test "what was sent right before the end of file arrives" do
    for _ <- 1..20 do
      {:ok, ps} = ProtonStream.open("wc", ["-c"])
      ProtonStream.command(ps, :binary.copy("x", 300_000))
      ProtonStream.eof(ps)
      assert collect(ps) == {"300000\n", "", :normal}
    end
  end

  test "a second end of file, and commands after the first, change nothing" do
    {:ok, ps} = ProtonStream.open("cat", [])
    ProtonStream.command(ps, "a")
    ProtonStream.eof(ps)
    ProtonStream.eof(ps)
    ProtonStream.command(ps, "b")
    assert collect(ps) == {"a", "", :normal}
  end

  test "a write after the end of file is refused" do
    {:ok, ps} = ProtonStream.open("sleep", ["1000"])
    ProtonStream.eof(ps)
    assert ProtonStream.write(ps, "a") == {:error, :eof}
  end

  test "a write is :ok when the program can read its bytes" do
    {:ok, ps} = ProtonStream.open("cat", [])
    assert ProtonStream.write(ps, ["a", [?b]]) == :ok
    assert_receive {^ps, {:data, "ab"}}
    assert ProtonStream.write(ps, "") == :ok
  end

  test "a write waits for a program that does not read, and its bytes are written later" do
    ps = sh("kill -STOP $$; wc -c")
    data = :binary.copy("x", 1_000_000)
    assert ProtonStream.write(ps, data, 100) == {:error, :timeout}
    assert %{queued: queued} = ProtonStream.info(ps)
    assert queued > 0
    ProtonStream.signal(ps, :sigcont)
    ProtonStream.eof(ps)
    assert collect(ps) == {"1000000\n", "", :normal}
  end

  test "a write to a program that has closed its stdin is :epipe" do
    ps = sh("exec <&-; echo closed; exec sleep 1000")
    await_line(ps, "closed")
    eventually("stdin is gone", fn -> ProtonStream.write(ps, "a") == {:error, :epipe} end)
    # It is the stream that is gone, not the program.
    assert is_integer(ProtonStream.os_pid(ps))
    assert ProtonStream.command(ps, "b") == :ok
  end

  test "a write that waits is told when the program dies" do
    {:ok, ps} = ProtonStream.open("sleep", ["1000"])
    data = :binary.copy("x", 1_000_000)
    ProtonStream.command(ps, data)

    killer =
      Task.async(fn -> eventually("it is queued", fn -> ProtonStream.info(ps).queued > 0 end) end)

    Task.await(killer, 20_000)
    ProtonStream.signal(ps, :sigkill)
    assert ProtonStream.write(ps, "a") in [{:error, :epipe}, {:error, :closed}]
  end

  test "a write of somebody who is not the owner is refused" do
    {:ok, ps} = ProtonStream.open("cat", [])
    assert Task.await(Task.async(fn -> ProtonStream.write(ps, "a") end)) == {:error, :not_owner}
  end

  # row: 4
  test "a program that never reads 8 MiB can still be asked, signalled and closed" do
    {:ok, ps} = ProtonStream.open("sleep", ["1000"])
    ProtonStream.command(ps, :binary.copy("x", 8_388_608))
    os_pid = ProtonStream.os_pid(ps)
    assert runs?(os_pid)
    assert ProtonStream.signal(ps, :sigcont) == :ok
    ProtonStream.close(ps)
    assert_receive {^ps, :closed}
    refute runs?(os_pid)
  end

  # row: 4
  test "a program that never reads and never ends is gone with its session" do
    {:ok, ps} = ProtonStream.open("sleep", ["1000"])
    ProtonStream.command(ps, :binary.copy("x", 8_388_608))
    os_pid = ProtonStream.os_pid(ps)
    guardian = guardian(ps)
    Process.unlink(ps)
    Process.exit(ps, :kill)
    await_gone(os_pid)
    await_free(guardian)
  end

  test "64 MiB through sha256sum, one write after the other, have the right digest" do
    chunk = pattern(1_048_576)
    {:ok, ps} = ProtonStream.open("sha256sum", [])
    for _ <- 1..64, do: assert(ProtonStream.write(ps, chunk, 30_000) == :ok)
    ProtonStream.eof(ps)

    digest = sha256(chunk, 64)

    assert collect(ps) == {digest <> "  -\n", "", :normal}
  end

  # row: 6
  test "a stopped program can be asked, and closed" do
    {:ok, ps} = ProtonStream.open("sleep", ["1000"])
    os_pid = ProtonStream.os_pid(ps)
    ProtonStream.signal(ps, :sigstop)

    eventually("it is stopped", fn ->
      File.read!("/proc/#{os_pid}/stat")
      |> String.split(") ")
      |> List.last()
      |> String.starts_with?("T")
    end)

    assert ProtonStream.os_pid(ps) == os_pid
    ProtonStream.close(ps)
    assert_receive {^ps, :closed}
    refute runs?(os_pid)
  end

  # row: 6
  test "a program that was stopped and continued still answers" do
    {:ok, ps} = ProtonStream.open("cat", [])
    ProtonStream.signal(ps, :sigstop)
    ProtonStream.command(ps, "a")
    ProtonStream.signal(ps, :sigcont)
    assert_receive {^ps, {:data, "a"}}
  end
end
