# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule Bench.Parts.Echo do
  @moduledoc false

  # Bytes to `cat` and back, one message at a time: from the command until all of it has
  # come back. Each round opens its own `cat`, for an owner of its own: whether those who
  # pass a message on share a CPU is drawn when they start, stays so, and makes the
  # difference between 8 and 60 µs on either side.

  import Bench.Numbers, only: [figure: 4, percentile: 2, short: 1]
  alias Bench.Side

  @sides [{"port", :port}, {"10 KB", []}, {"1 MiB", [stdio_window: 1_048_576]}]
  @plotted [50, 90, 99, 99.9]

  @spec run(map()) :: [map()]
  def run(%{quick: quick?}) do
    for {size, name, times} <- [{16, "16 B", 1_000}, {65_536, "64 KB", 300}],
        figure <- echo(size, name, if(quick?, do: 100, else: times), if(quick?, do: 3, else: 21)),
        do: figure
  end

  defp echo(size, name, times, rounds) do
    cat = Side.path("cat")
    data = :binary.copy("e", size)

    rounds =
      Side.rounds(@sides, rounds, fn options ->
        Side.alone(fn ->
          p = Side.open(options, cat, [])
          block(p, data, size, 50)
          took = block(p, data, size, times)
          Side.close([p])
          took
        end)
      end)

    at = fn percent ->
      for round <- rounds,
          do: Map.new(round, fn {side, all} -> {side, percentile(all, percent)} end)
    end

    pooled =
      Map.new(@sides, fn {side, _} ->
        all = Enum.flat_map(rounds, & &1[side])
        {side, for(percent <- @plotted, do: short(percentile(all, percent)))}
      end)

    [
      figure("echo.#{size}.p50", "echo of #{name}, p50", "µs", at.(50)),
      figure("echo.#{size}.p99", "echo of #{name}, p99", "µs", at.(99)),
      %{
        id: "echo.#{size}.curve",
        what: "echo of #{name}",
        unit: "µs",
        x: @plotted,
        curves: pooled
      }
    ]
  end

  defp block(p, data, size, times) do
    for _ <- 1..times do
      {took, :ok} =
        Side.microseconds(fn ->
          Side.command(p, data)
          Side.take(p, size)
        end)

      took
    end
  end
end
