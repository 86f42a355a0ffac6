# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.SoakTest do
  # Opens, floods, kills and closes at random, for PROTON_STREAM_SOAK_SECONDS (a second
  # when it isn't set). Not async, to have a whole machine to race on.
  use ExUnit.Case, async: false

  import ProtonStream.Eventually
  import ProtonStream.Programs

  @seconds String.to_integer(System.get_env("PROTON_STREAM_SOAK_SECONDS", "1"))
  @moduletag timeout: (@seconds + 120) * 1_000

  test "whatever happens to a program, it ends, and is told of once" do
    Process.flag(:trap_exit, true)
    deadline = System.monotonic_time(:millisecond) + @seconds * 1_000

    runs =
      1..8
      |> Enum.map(fn n -> Task.async(fn -> soak(n, deadline, 0) end) end)
      |> Task.await_many(:infinity)

    assert Enum.sum(runs) > 0
  end

  defp soak(n, deadline, runs) do
    Process.flag(:trap_exit, true)

    if System.monotonic_time(:millisecond) > deadline do
      runs
    else
      one(Enum.random(1..8))
      soak(n, deadline, runs + 1)
    end
  end

  defp one(kind) do
    ps =
      sh(
        Enum.random([
          "cat",
          "yes",
          "yes >&2",
          "head -c 100000 /dev/zero; exit 3",
          "trap '' TERM; cat",
          "sleep 1000 & cat"
        ]),
        delay_to_sigkill: 20
      )

    os_pid = ProtonStream.os_pid(ps)
    guardian = Process.alive?(ps) && safely(fn -> guardian(ps) end)
    ProtonStream.command(ps, :binary.copy("x", Enum.random([0, 1, 100_000, 1_000_000])))
    pause()
    act(kind, ps)
    pause()
    ProtonStream.close(ps)
    assert_receive {^ps, :closed}, 20_000
    refute Process.alive?(ps)
    exits = told(ps, 0)
    assert exits == 1
    if os_pid && kind != 5, do: refute(runs?(os_pid))
    if is_integer(os_pid), do: await_gone(os_pid)
    if is_integer(guardian), do: await_free(guardian)
  end

  defp act(1, ps), do: ProtonStream.signal(ps, Enum.random([:sigterm, :sigkill, :sigstop]))
  defp act(2, ps), do: ProtonStream.eof(ps)
  defp act(3, ps), do: Process.exit(ps, :boom)
  defp act(4, ps), do: ProtonStream.write(ps, "a", 10)
  defp act(5, ps), do: Process.exit(ps, :kill)
  defp act(6, ps), do: send(ps, {self(), :close})
  defp act(_, _ps), do: :ok

  defp told(ps, exits) do
    receive do
      {:EXIT, ^ps, _} -> told(ps, exits + 1)
      {^ps, _} -> told(ps, exits)
    after
      0 -> exits
    end
  end

  defp safely(fun) do
    fun.()
  catch
    _, _ -> nil
  end

  # Up to a few milliseconds, to meet every moment of a program's life.
  defp pause do
    receive do
    after
      Enum.random(0..4) -> :ok
    end
  end
end
