# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule Bench.Parts.Options do
  @moduledoc false

  # What an option costs: the same program with it and without, one right after the other.
  # Here the ratios are to our own default, not to a bare port.

  import Bench.Numbers, only: [figure: 5]
  alias Bench.{Group, Side}

  @plain "default"
  @megabyte 1_048_576

  @spec run(map()) :: [map()]
  def run(%{quick: quick?, directory: directory}) do
    Group.below(fn base ->
      starts(if(quick?, do: 20, else: 100), if(quick?, do: 2, else: 11), base) ++
        streams(directory, if(quick?, do: 16, else: 256), if(quick?, do: 2, else: 9)) ++
        cuts(directory, if(quick?, do: 20_000, else: 200_000), if(quick?, do: 2, else: 9))
    end)
  end

  ## A run from the open to the exit

  defp starts(times, rounds, base) do
    path = Side.path("true")

    sides =
      [
        {@plain, []},
        {"transport: :port", [transport: :port]},
        {"on_exit: :wait", [on_exit: :wait]},
        {"exit_report: true", [exit_report: true]},
        {"nice, umask, rlimits", [nice: 5, umask: 0o077, rlimits: [nofile: 256]]}
      ] ++ privileged(base)

    sides = Enum.filter(sides, fn {_, options} -> works?(path, options) end)

    rounds =
      Side.rounds(sides, rounds, fn options ->
        {took, _} =
          Side.microseconds(fn ->
            Side.alone(fn -> for _ <- 1..times, do: path |> open([], options) |> Side.count() end)
          end)

        took / times
      end)

    [figure("options.start", "run to exit of `true`", "µs", rounds, @plain)]
  end

  # Where this user, or this host, can't have it, there is no figure.
  defp privileged(base) do
    in_groups =
      if base do
        [
          {"cgroup, cpu", [cgroup_base: base, cgroup_controllers: ["cpu"]]},
          {"limits: memory, cpu, pids",
           [cgroup_base: base, limits: [memory: "64M", cpu: 1, pids: 20]]}
        ]
      end

    [
      {"containment: :pid_namespace", [containment: :pid_namespace]},
      {"uid: \"nobody\"", [uid: "nobody"]}
    ] ++ (in_groups || [])
  end

  defp works?(path, options) do
    Side.alone(fn ->
      case ProtonStream.open(path, [], [exit_status: true] ++ options) do
        {:ok, ps} -> Side.count(ps) == 0
        {:error, reason} -> IO.puts("  without #{inspect(options)}: #{inspect(reason)}") == nil
      end
    end)
  end

  ## Throughput

  defp streams(directory, megabytes, rounds) do
    file = Path.join(directory, "options")
    fill = ~w(if=/dev/zero of=#{file} bs=1M status=none count=#{megabytes})
    {_, 0} = System.cmd("dd", fill)
    bytes = megabytes * @megabyte

    sides = [
      {@plain, []},
      {"stdio_window: 64 KB", [stdio_window: 65_536]},
      {"stdio_window: 1 MiB", [stdio_window: @megabyte]},
      {"stdio_window: 1 KB", [stdio_window: 1_024]},
      {"active: :once", [active: :once]},
      {"active: 100", [active: 100]},
      {"active: false, read/2", [active: false]},
      {"overflow: :drop", [overflow: :drop]},
      {"transport: :port", [transport: :port]},
      {"stderr_to_stdout: true", [stderr_to_stdout: true]},
      {"containment: :pid_namespace", [containment: :pid_namespace]}
    ]

    path = Side.path("cat")
    sides = Enum.filter(sides, fn {_, options} -> works?(Side.path("true"), calm(options)) end)

    rounds = Side.rounds(sides, rounds, fn options -> rate(path, [file], options, bytes) end)

    File.rm!(file)
    [figure("options.stream", "cat of a cached file of #{megabytes} MiB", "MB/s", rounds, @plain)]
  end

  # What is tried with a program that says nothing.
  defp calm(options), do: Keyword.drop(options, [:active])

  # The same lines, whole and cut; as packets, each has a header of its own.
  defp cuts(directory, count, rounds) do
    lines = Path.join(directory, "lines")
    packets = Path.join(directory, "packets")
    line = :binary.copy("x", 79)
    File.write!(lines, :binary.copy(line <> "\n", count))
    File.write!(packets, :binary.copy(<<80::32>> <> line <> "\n", count))
    path = Side.path("cat")

    sides = [
      {@plain, {lines, []}},
      {"line: 100", {lines, [line: 100]}},
      {"line: 100, stdio_window: 1 MiB", {lines, [line: 100, stdio_window: @megabyte]}},
      {"a bare Port, line: 100", {lines, {:port, line: 100}}},
      {"packet: 4", {packets, [packet: 4]}},
      {"packet: 4, stdio_window: 1 MiB", {packets, [packet: 4, stdio_window: @megabyte]}},
      {"a bare Port, packet: 4", {packets, {:port, packet: 4}}}
    ]

    rounds =
      Side.rounds(sides, rounds, fn {file, options} ->
        rate(path, [file], options, count * 80) / 80
      end)

    for file <- [lines, packets], do: File.rm!(file)
    what = "cat of #{count} lines of 80 bytes, each cut off by itself or not"
    [figure("options.cut", what, "lines/µs", rounds, @plain)]
  end

  # Of what was thrown away is counted that it was.
  defp rate(path, args, options, bytes) do
    {took, ^bytes} =
      Side.microseconds(fn ->
        Side.alone(fn -> path |> open(args, options) |> read(mode(options), 0) end)
      end)

    bytes / took
  end

  defp open(path, args, {:port, options}) do
    options = [:binary, :exit_status, :hide, args: args] ++ options
    Port.open({:spawn_executable, path}, options)
  end

  defp open(path, args, options), do: Side.open(options, path, args)

  defp mode({:port, _}), do: true
  defp mode(options), do: options[:active]

  defp read(ps, false, bytes) do
    case ProtonStream.read(ps, 60_000) do
      {:ok, {_, data}} -> read(ps, false, bytes + byte_size(data))
      :eof -> read(ps, true, bytes)
    end
  end

  defp read(ps, active, bytes) do
    receive do
      {^ps, {:data, {:eol, line}}} -> read(ps, active, bytes + byte_size(line) + 1)
      {^ps, {:data, data}} -> ps |> more(active) |> read(active, bytes + byte_size(data))
      {^ps, {:dropped, {:stdout, count}}} -> read(ps, active, bytes + count)
      {^ps, :passive} -> ps |> more(:passive) |> read(active, bytes)
      {^ps, {:exit_status, 0}} -> bytes
    after
      60_000 -> raise "nothing comes: #{inspect(ProtonStream.info(ps))}"
    end
  end

  defp more(ps, :once), do: ask(ps, :once)
  defp more(ps, :passive), do: ask(ps, 100)
  defp more(ps, _), do: ps

  defp ask(ps, active) do
    send(ps, {self(), {:active, active}})
    ps
  end
end
