# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule Bench do
  @moduledoc false

  # What bench/run runs: the parts, one after the other, and what is left of them.

  alias Bench.{Parts, Proc, Report, Targets}

  @parts [
    {"stream", Parts.Stream},
    {"echo", Parts.Echo},
    {"stdin", Parts.Stdin},
    {"start", Parts.Start},
    {"idle", Parts.Idle},
    {"close", Parts.Close},
    {"owner", Parts.Owner},
    {"growth", Parts.Growth},
    {"options", Parts.Options}
  ]
  @names Enum.map(@parts, &elem(&1, 0))

  @spec main([String.t()]) :: :ok
  def main(argv) do
    case OptionParser.parse(argv, strict: [quick: :boolean, compare: :boolean, help: :boolean]) do
      {[help: true], _, _} ->
        usage(:stdio)

      {[compare: true], [], []} ->
        Report.compare()

      {options, names, []} ->
        if names -- @names == [], do: run(options[:quick] || false, names), else: wrong()

      _ ->
        wrong()
    end
  end

  defp wrong do
    usage(:stderr)
    System.halt(2)
  end

  defp usage(device) do
    IO.puts(device, """
    usage: bench/run [--quick] [PART...]    all parts, or those named
           bench/run --compare              targets over the last three whole runs
           bench/run [--quick] codec        the codec alone, with criterion
    parts: #{Enum.join(@names, ", ")}\
    """)
  end

  defp run(quick?, names) do
    {:ok, _} = Application.ensure_all_started(:proton_stream)
    machine = Report.machine()
    date = DateTime.utc_now() |> DateTime.truncate(:second) |> DateTime.to_iso8601()
    context = %{quick: quick?, directory: System.fetch_env!("BENCH_DIRECTORY")}

    IO.puts(
      "#{machine.cores} cores (#{machine.processor || "unknown"}), Linux #{machine.linux}, OTP #{machine.otp}, Elixir #{machine.elixir}; load #{machine.load_before}"
    )

    results =
      for {name, part} <- @parts, names == [] or name in names, do: part(name, part, context)

    figures = Enum.flat_map(results, & &1.figures)
    verdicts = Targets.judge(figures)

    run = %{
      format: 1,
      date: date,
      quick: quick?,
      machine: machine,
      source: Report.source(),
      parts: Enum.map(results, &Map.delete(&1, :figures)),
      figures: figures,
      targets: verdicts
    }

    Report.print_targets(verdicts)
    IO.puts("Written: bench/" <> Report.write(run, names == [] and not quick?))
  end

  # A part that breaks is a result as well, and no reason to lose the others'.
  defp part(name, part, context) do
    IO.puts("\n#{name}")
    start = System.monotonic_time(:millisecond)
    {machine, own} = {Proc.machine_cpu(), Proc.cpu()}
    {pid, monitor} = spawn_monitor(fn -> exit({:figures, part.run(context)}) end)

    {figures, failure} =
      receive do
        {:DOWN, ^monitor, _, ^pid, {:figures, figures}} -> {figures, nil}
        {:DOWN, ^monitor, _, ^pid, reason} -> {[], Exception.format_exit(reason)}
      end

    seconds = (System.monotonic_time(:millisecond) - start) / 1000
    # The kernel counts the machine by ticks and processes exactly, so it may be below 0.
    others = max((Proc.machine_cpu() - machine - (Proc.cpu() - own)) / seconds, 0.0)
    if failure, do: IO.puts("  FAILED: #{failure}")
    Report.print(figures)

    IO.puts(
      "\n  #{Float.round(seconds, 1)} s, in which others used #{Float.round(others, 2)} cores"
    )

    %{
      name: name,
      seconds: Float.round(seconds, 1),
      others_cores: Float.round(others, 2),
      failure: failure,
      figures: figures
    }
  end
end
