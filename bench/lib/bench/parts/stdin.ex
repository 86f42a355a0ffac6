# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule Bench.Parts.Stdin do
  @moduledoc false

  # Bytes in chunks of 64 KB to a `dd` that takes so many and then ends; from the first
  # chunk to its exit. `Port.command/2` waits while the port is busy. Of ours, `write/3`
  # waits until the program's pipe has its bytes, so it is shown with chunks of 1 MiB, too;
  # `command/2` waits for nothing, and is used the way that keeps the queue short, with a
  # `write/3` in every 64 chunks (4 MiB).

  import Bench.Numbers, only: [figure: 4]
  alias Bench.{Proc, Side}

  @chunk 65_536
  # A large write has so many.
  @large 16

  @spec run(map()) :: [map()]
  def run(%{quick: quick?}) do
    chunks = if quick?, do: 256, else: 4_096
    dd = Side.path("dd")
    args = arguments(chunks)
    data = :binary.copy("i", @chunk)

    sides = [
      {"port", :port},
      {"write/3", :write},
      {"write 1 MiB", :large},
      {"command/2", :command}
    ]

    for {_, side} <- sides,
        do:
          Side.alone(fn ->
            once(side, dd, arguments(@large), data, @large)
          end)

    Process.sleep(50)
    before = Proc.below()

    rounds =
      Side.rounds(sides, if(quick?, do: 2, else: 11), fn side ->
        cpu = Proc.cpu()
        took = Side.alone(fn -> once(side, dd, args, data, chunks) end)
        Proc.settle(before)
        %{took: took, cpu: Proc.cpu() - cpu}
      end)

    bytes = chunks * @chunk
    what = "stdin, #{div(bytes, 1_048_576)} MiB in chunks of 64 KB"

    [
      figure("stdin.throughput", what, "MB/s", map(rounds, &(bytes / &1.took))),
      figure(
        "stdin.cpu",
        what <> ", CPU of all processes",
        "s/GiB",
        map(rounds, &(&1.cpu / bytes * 1_073_741_824))
      )
    ]
  end

  defp arguments(chunks),
    do: ~w(bs=64K count=#{chunks} iflag=fullblock of=/dev/null status=none)

  defp map(rounds, fun) do
    for round <- rounds, do: Map.new(round, fn {side, result} -> {side, fun.(result)} end)
  end

  defp once(side, dd, args, data, chunks) do
    p = Side.open(if(side == :port, do: :port, else: []), dd, args)
    # The start isn't meant here, so it is over before the clock starts.
    Side.os_pid(p)

    {took, 0} =
      Side.microseconds(fn ->
        for chunk <- 1..chunks, do: put(side, p, data, chunk)
        Side.count(p)
      end)

    took
  end

  defp put(:port, p, data, _), do: true = Port.command(p, data)
  defp put(:write, p, data, _), do: written(ProtonStream.write(p, data, 60_000))

  defp put(:large, p, data, chunk) when rem(chunk, @large) == 0,
    do: written(ProtonStream.write(p, List.duplicate(data, @large), 60_000))

  defp put(:large, _, _, _), do: :ok

  defp put(:command, p, data, chunk) when rem(chunk, 64) == 0,
    do: written(ProtonStream.write(p, data, 60_000))

  defp put(:command, p, data, _), do: ProtonStream.command(p, data)

  # `dd` ends with the last byte, and who waits for that one may hear that it is gone.
  defp written(:ok), do: :ok
  defp written({:error, reason}) when reason in [:closed, :epipe], do: :ok
end
