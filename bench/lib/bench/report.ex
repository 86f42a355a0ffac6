# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule Bench.Report do
  @moduledoc false

  # What a run leaves: tables on the terminal, one JSON file, three plots.

  alias Bench.{Json, Plot, Proc}

  @results "results"
  @counts [1, 10, 100, 1_000]

  ## The terminal

  @spec print([map()]) :: :ok
  def print(figures) do
    for %{values: values} = figure <- figures do
      IO.puts("\n  #{figure.what} (#{figure.unit})")
      width = values |> Map.keys() |> Enum.map(&String.length/1) |> Enum.max() |> max(11)

      for {side, s} <- order(values) do
        ratio =
          case figure.ratios[side] do
            nil -> ""
            r -> "#{number(r.median)} ×  [#{number(r.min)} to #{number(r.max)}, n=#{r.n}]"
          end

        ratio = String.pad_trailing(ratio, 38)

        range =
          if s.n > 1 and s.min != s.max, do: "  [#{number(s.min)} to #{number(s.max)}]", else: ""

        IO.puts("    #{String.pad_trailing(side, width + 1)}#{ratio}#{number(s.median)}#{range}")
      end
    end

    :ok
  end

  @spec print_targets([map()]) :: :ok
  def print_targets(verdicts) do
    IO.puts("\nTargets (ratios are medians of pairs with a bare Port)")

    for %{target: target, bound: bound, seen: seen, held: held} <- verdicts do
      word = %{true => "held", false => "MISSED", nil => "-"}[held]
      seen = if seen, do: number(seen), else: "not measured"

      IO.puts(
        "  #{String.pad_trailing(target, 40)} #{String.pad_leading(bound, 9)}   #{String.pad_leading(seen, 12)}   #{word}"
      )
    end

    IO.puts("")
  end

  defp number(value) when is_float(value) and value == trunc(value) and abs(value) < 1.0e15,
    do: Integer.to_string(trunc(value))

  defp number(value), do: to_string(value)

  # First what the others are measured against.
  defp order(values),
    do: Enum.sort_by(values, fn {side, _} -> {side not in ["port", "default"], side} end)

  ## Files

  @doc "Writes a run and answers where. Only whole runs go to where results are kept."
  @spec write(map(), boolean()) :: String.t()
  def write(run, whole?) do
    directory = if whole?, do: @results, else: "_build/results"
    File.mkdir_p!(directory)

    base =
      Path.join(
        directory,
        run.date
        |> String.replace(~r/:\d\dZ$/, "")
        |> String.replace("T", "-")
        |> String.replace(":", "")
      )

    File.write!(base <> ".json", Json.encode(run))
    by_id = Map.new(run.figures, &{&1.id, &1})

    for {name, {:ok, svg}} <- [
          {"throughput", throughput(by_id)},
          {"latency", latency(by_id)},
          {"programs", programs(by_id)}
        ],
        do: File.write!("#{base}-#{name}.svg", svg)

    base <> ".json"
  end

  defp throughput(figures) do
    groups =
      for id <- ["stream.head.throughput", "stream.cat.throughput", "stream.lines.lines"],
          figure = figures[id] do
        {figure.what, for(side <- ["10 KB", "64 KB", "1 MiB"], do: {side, figure.ratios[side]})}
      end

    if groups == [],
      do: :none,
      else:
        {:ok,
         Plot.bars(
           "Throughput by window",
           "× of a bare Port, in the same run; more is better",
           groups
         )}
  end

  defp latency(figures) do
    panels =
      for {id, title} <- [
            {"echo.16.curve", "echo of 16 B"},
            {"echo.65536.curve", "echo of 64 KB"},
            {"start.true.curve", "run to exit of true"}
          ],
          figure = figures[id] do
        %{
          title: title,
          unit: "µs",
          x: Enum.map(figure.x, &"p#{&1}"),
          log: true,
          series: order(figure.curves)
        }
      end

    if panels == [],
      do: :none,
      else: {:ok, Plot.lines("Latency percentiles, less is better", panels)}
  end

  defp programs(figures) do
    counts = for count <- @counts, figures["growth.#{count}.throughput"], do: count

    panels =
      for {key, title, unit, log?} <- [
            {"throughput", "all together", "MB/s", false},
            {"vm", "most VM memory, each", "KB", true},
            {"machine", "most machine memory, each", "KB", true},
            {"spread", "slowest to fastest", "×", false}
          ] do
        all = for count <- counts, do: figures["growth.#{count}.#{key}"].values

        %{
          title: title,
          unit: unit,
          x: Enum.map(counts, &to_string/1),
          log: log?,
          series:
            for(
              side <- ["port", "10 KB", "1 MiB"],
              do: {side, Enum.map(all, &max(&1[side].median, 1))}
            )
        }
      end

    if length(counts) < 2,
      do: :none,
      else: {:ok, Plot.lines("Cost by number of programs that stream together", panels)}
  end

  ## What was measured, and on what

  @spec machine() :: map()
  def machine do
    %{
      cores: System.schedulers_online(),
      # Where the kernel says it: on x86.
      processor:
        "/proc/cpuinfo"
        |> File.read!()
        |> then(&Regex.run(~r/^model name\s*: (.*)$/m, &1, capture: :all_but_first))
        |> then(&(&1 && hd(&1))),
      # Without what distributions and hosts append.
      linux:
        "/proc/sys/kernel/osrelease"
        |> File.read!()
        |> then(&Regex.run(~r/^[\d.]*\d/, &1))
        |> hd(),
      memory_gib: Float.round(Proc.machine_memory() / 1_048_576, 1),
      otp: List.to_string(:erlang.system_info(:otp_release)),
      elixir: System.version(),
      rust: first_word("rustc", ["--version"], 1),
      root: first_word("id", ["-u"], 0) == "0",
      load_before: "/proc/loadavg" |> File.read!() |> String.split() |> hd() |> String.to_float()
    }
  end

  @spec source() :: map()
  def source do
    {changed, _} =
      System.cmd("git", ~w(--no-optional-locks status --porcelain -- .. :!.),
        stderr_to_stdout: true
      )

    %{
      version: to_string(Application.spec(:proton_stream, :vsn)),
      commit: first_word("git", ["rev-parse", "--short=12", "HEAD"], 0),
      with_changes: changed != "",
      # Built from these sources, or made elsewhere and named in PROTON_GUARDIAN.
      guardian: if(System.get_env("PROTON_GUARDIAN", "") == "", do: "built", else: "given")
    }
  end

  defp first_word(command, args, index) do
    case System.cmd(command, args, stderr_to_stdout: true) do
      {text, 0} -> text |> String.split() |> Enum.at(index)
      _ -> nil
    end
  rescue
    ErlangError -> nil
  end

  ## Runs against each other

  @doc "The last three whole runs, target by target: what was held in two of them holds."
  @spec compare() :: :ok
  def compare do
    runs =
      "#{@results}/*.json"
      |> Path.wildcard()
      |> Enum.take(-3)
      |> Enum.map(&(&1 |> File.read!() |> Json.decode!()))

    if runs == [], do: raise("there is no whole run in bench/#{@results}")
    IO.puts("Runs: " <> Enum.map_join(runs, ", ", & &1["date"]))

    # By name: a run may be older than a target.
    for %{"target" => target, "bound" => bound} <- List.last(runs)["targets"] do
      verdicts = for run <- runs, do: Enum.find(run["targets"], %{}, &(&1["target"] == target))

      seen =
        for verdict <- verdicts, do: if(verdict["seen"], do: number(verdict["seen"]), else: "-")

      held = Enum.count(verdicts, & &1["held"])

      word =
        cond do
          Enum.all?(verdicts, &is_nil(&1["held"])) -> "-"
          held >= 2 -> "holds"
          length(verdicts) < 3 -> "held in #{held} of #{length(verdicts)}"
          true -> "DOES NOT HOLD"
        end

      columns = Enum.map_join(seen, "", &String.pad_leading(&1, 10))

      IO.puts(
        "  #{String.pad_trailing(target, 40)} #{String.pad_leading(bound, 9)} #{columns}   #{word}"
      )
    end

    :ok
  end
end
