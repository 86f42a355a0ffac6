# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule Bench.Side do
  @moduledoc false

  # The same few things done by a bare `Port` and by us. Both send `{p, {:data, binary}}`
  # and `{p, {:exit_status, n}}`, so everything that reads is one piece of code.

  @patience 60_000

  @type side :: :port | keyword()
  @type program :: port() | pid()

  @doc "Starts a program by absolute path, for the calling process."
  @spec open(side(), String.t(), [String.t()]) :: program()
  def open(:port, path, args) do
    Port.open({:spawn_executable, path}, [:binary, :exit_status, :hide, args: args])
  end

  def open(options, path, args) do
    {:ok, ps} = ProtonStream.open(path, args, [exit_status: true] ++ options)
    ps
  end

  @spec command(program(), iodata()) :: term()
  def command(p, data) when is_port(p), do: Port.command(p, data)
  def command(p, data), do: ProtonStream.command(p, data)

  @doc "Counts what a program writes, until it has ended with status 0."
  @spec count(program(), non_neg_integer()) :: non_neg_integer()
  def count(p, bytes \\ 0) do
    receive do
      {^p, {:data, data}} -> count(p, bytes + byte_size(data))
      {^p, {:exit_status, 0}} -> bytes
      {^p, {:exit_status, status}} -> raise "a program ended with status #{status}"
    after
      @patience ->
        raise "#{what(p)}: nothing came for #{div(@patience, 1000)} s, after #{bytes} bytes"
    end
  end

  # What it is that hangs, and what it says of itself.
  defp what(port) when is_port(port), do: "a bare port (#{inspect(Port.info(port))})"
  defp what(ps), do: "ours (#{inspect(ProtonStream.info(ps))})"

  @doc "Waits until that many bytes have come, of whichever stream."
  @spec take(program(), integer()) :: :ok
  def take(_p, left) when left <= 0, do: :ok

  def take(p, left) do
    receive do
      {^p, {kind, data}} when kind in [:data, :error] -> take(p, left - byte_size(data))
      {^p, {:exit_status, status}} -> raise "a program ended with status #{status}"
    after
      @patience -> raise "#{left} bytes did not come within #{div(@patience, 1000)} s"
    end
  end

  @doc "The pid of the program; a port may not know it yet."
  @spec os_pid(program()) :: pos_integer()
  def os_pid(p) when is_port(p) do
    case Port.info(p, :os_pid) do
      {:os_pid, pid} when is_integer(pid) -> pid
      {:os_pid, _} -> os_pid(p)
    end
  end

  def os_pid(p), do: ProtonStream.os_pid(p)

  @doc "Ends programs that were opened here, and waits until they are gone."
  @spec close([program()]) :: :ok
  def close(programs) do
    {ports, sessions} = Enum.split_with(programs, &is_port/1)
    # While a port is open and has told no exit, its pid is still its program's.
    pids = for port <- ports, do: Integer.to_string(os_pid(port))
    if pids != [], do: System.cmd("kill", ["-KILL" | pids])
    for port <- ports, do: exited(port)
    for ps <- sessions, do: ProtonStream.close(ps)
    for ps <- sessions, do: closed(ps)
    :ok
  end

  defp exited(port) do
    receive do
      {^port, {:exit_status, _}} -> :ok
    after
      @patience -> raise "a killed program's exit was not told"
    end
  end

  @spec closed(pid()) :: :ok
  def closed(ps) do
    receive do
      {^ps, :closed} -> :ok
      {^ps, _} -> closed(ps)
    after
      @patience -> raise "a close was not answered"
    end
  end

  @doc """
  One round for each number: every side once, the order turned by one each time, so that
  no side always has the place after a certain other one. When the budget (milliseconds) is
  used up no round begins any more; one is always done.
  """
  @spec rounds([{String.t(), term()}], pos_integer(), timeout(), (term() -> term())) :: [map()]
  def rounds(sides, count, budget \\ :infinity, fun) do
    start = System.monotonic_time(:millisecond)

    Enum.reduce_while(1..count, [], fn round, done ->
      if round > 1 and System.monotonic_time(:millisecond) - start > budget do
        {:halt, done}
      else
        {before, from} = Enum.split(sides, rem(round - 1, length(sides)))
        {:cont, [Map.new(from ++ before, fn {name, side} -> {name, fun.(side)} end) | done]}
      end
    end)
    |> Enum.reverse()
  end

  @doc "Runs in a process of its own, which is a fresh owner with an empty mailbox."
  @spec alone((() -> result)) :: result when result: term()
  def alone(fun), do: fun |> Task.async() |> Task.await(:infinity)

  @spec microseconds((() -> result)) :: {float(), result} when result: term()
  def microseconds(fun) do
    start = System.monotonic_time()
    result = fun.()
    took = System.monotonic_time() - start
    {System.convert_time_unit(took, :native, :nanosecond) / 1000, result}
  end

  @doc "Where a program is; looked up before anything is measured."
  @spec path(String.t()) :: String.t()
  def path(name), do: System.find_executable(name) || raise("there is no #{name}")
end
