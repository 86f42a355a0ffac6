# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule Bench.Proc do
  @moduledoc false

  # What /proc says: CPU time, parents, memory, context switches.

  @settled 5_000

  @doc """
  CPU seconds of the VM, of all processes below it, and of those below it that have ended
  and were waited for.

  It counts user and system time of every process that has to do with moving the bytes,
  programs included, and nothing of the machine's other work. Guardians are waited for by
  the VM's `erl_child_setup`, and programs by their guardians, so nothing is lost. Kernel
  threads are not in it; the road of a pipe or local socket has none.
  """
  @spec cpu() :: float()
  def cpu do
    table = table()
    vm = own()
    ticks = for pid <- [vm | below(table, vm)], do: table[pid].ticks
    Enum.sum(ticks) / 100
  end

  @doc "CPU seconds of the whole machine, idle and waiting left out."
  @spec machine_cpu() :: float()
  def machine_cpu do
    [line | _] = File.stream!("/proc/stat") |> Enum.take(1)
    ["cpu" | numbers] = String.split(line)
    [user, nice, system, _idle, _wait, irq, softirq, steal | _] = Enum.map(numbers, &number/1)
    # Steal is what others of the same host took; it is no work, but it disturbs as much.
    (user + nice + system + irq + softirq + steal) / 100
  end

  @doc "Processes below the VM."
  @spec below() :: [pos_integer()]
  def below, do: below(table(), own())

  @doc """
  Waits until no process is below the VM but those in `before`, and guardians that have no
  program: one or more wait for the next one.
  """
  @spec settle([pos_integer()]) :: :ok
  def settle(before), do: settle(before, System.monotonic_time(:millisecond) + @settled)

  defp settle(before, deadline) do
    table = table()
    # A process that is made ahead of the next program.
    waiting = for {pid, %{name: "proton-waiting"}} <- table, into: MapSet.new(), do: pid

    busy =
      for {pid, %{parent: parent}} <- table, pid not in waiting, into: MapSet.new(), do: parent

    waits? = fn pid ->
      pid in waiting or (pid not in busy and table[pid].name == "proton-guardian")
    end

    case Enum.reject(below(table, own()) -- before, waits?) do
      [] ->
        :ok

      left ->
        if System.monotonic_time(:millisecond) > deadline,
          do: raise("#{length(left)} processes are left over after #{@settled} ms")

        Process.sleep(5)
        settle(before, deadline)
    end
  end

  @spec parent(pos_integer()) :: pos_integer() | nil
  def parent(pid), do: with(%{parent: parent} <- stat(pid), do: parent)

  @spec name(pos_integer()) :: String.t() | nil
  def name(pid), do: with(%{name: name} <- stat(pid), do: name)

  @doc "CPU time of a process and of its dead children, in hundredths of a second."
  @spec ticks(pos_integer()) :: non_neg_integer()
  def ticks(pid), do: stat(pid).ticks

  @doc "Whether it is there and not just a zombie, which is dead and waits to be counted."
  @spec alive?(pos_integer()) :: boolean()
  def alive?(pid) do
    case stat(pid) do
      nil -> false
      %{state: state} -> state not in ["Z", "X"]
    end
  end

  @doc "KiB that only this process has and that differ from any file; nil where it isn't told."
  @spec private_dirty(pos_integer()) :: non_neg_integer() | nil
  def private_dirty(pid), do: field("/proc/#{pid}/smaps_rollup", "Private_Dirty:")

  @spec voluntary_switches(pos_integer()) :: non_neg_integer() | nil
  def voluntary_switches(pid), do: field("/proc/#{pid}/status", "voluntary_ctxt_switches:")

  @doc "KiB that could be had without swapping."
  @spec available() :: non_neg_integer()
  def available, do: field("/proc/meminfo", "MemAvailable:")

  @spec machine_memory() :: non_neg_integer()
  def machine_memory, do: field("/proc/meminfo", "MemTotal:")

  defp field(file, name) do
    with {:ok, text} <- File.read(file),
         line when is_binary(line) <-
           text |> String.split("\n") |> Enum.find(&String.starts_with?(&1, name)) do
      [_, value | _] = String.split(line)
      number(value)
    else
      _ -> nil
    end
  end

  defp own, do: System.pid() |> number()

  defp table do
    for entry <- File.ls!("/proc"),
        match?({_, ""}, Integer.parse(entry)),
        stat = stat(number(entry)),
        into: %{},
        do: {number(entry), stat}
  end

  defp below(table, pid) do
    children = for {child, %{parent: ^pid}} <- table, do: child
    children ++ Enum.flat_map(children, &below(table, &1))
  end

  # The name is in parentheses and may have any character in it, so the last one counts.
  defp stat(pid) do
    with {:ok, text} <- File.read("/proc/#{pid}/stat"),
         {close, 1} <- text |> :binary.matches(")") |> List.last() do
      {open, 1} = :binary.match(text, "(")
      [state, parent | rest] = text |> binary_slice_from(close + 2) |> String.split()
      ticks = rest |> Enum.slice(9, 4) |> Enum.map(&number/1) |> Enum.sum()
      name = binary_part(text, open + 1, close - open - 1)
      %{state: state, parent: number(parent), ticks: ticks, name: name}
    else
      _ -> nil
    end
  end

  defp binary_slice_from(text, from), do: binary_part(text, from, byte_size(text) - from)
  defp number(text), do: String.to_integer(text)
end
