# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule Bench.Numbers do
  @moduledoc false

  # Medians and ranges. No mean and no deviation: what disturbs a run on a machine with
  # other work to do is never symmetric.

  @type summary :: %{median: number(), min: number(), max: number(), n: pos_integer()}

  @doc """
  A figure from the rounds of an interleaved run: each round has one value for each side,
  and a ratio, to the side that is the base, is taken inside of its round only.
  """
  @spec figure(String.t(), String.t(), String.t(), [%{String.t() => number()}], String.t()) ::
          map()
  def figure(id, what, unit, rounds, base \\ "port") do
    sides = rounds |> hd() |> Map.keys()
    sides = for side <- sides, Enum.all?(rounds, &is_number(&1[side])), do: side

    %{
      id: id,
      what: what,
      unit: unit,
      values: Map.new(sides, &{&1, summary(Enum.map(rounds, fn round -> round[&1] end))}),
      ratios:
        for side <- sides, side != base, Enum.all?(rounds, &comparable?(&1, base)), into: %{} do
          {side, summary(Enum.map(rounds, &(&1[side] / &1[base])))}
        end
    }
  end

  # Next to nothing everything is infinitely much.
  defp comparable?(round, base), do: is_number(round[base]) and round[base] > 0

  @spec summary([number()]) :: summary()
  def summary(values) do
    %{
      median: short(percentile(values, 50)),
      min: short(Enum.min(values)),
      max: short(Enum.max(values)),
      n: length(values)
    }
  end

  @doc "The value below which `percent` of them lie; between two, the lower one."
  @spec percentile([number()], number()) :: number()
  def percentile(values, percent) do
    sorted = Enum.sort(values)
    count = length(sorted)

    if percent == 50 and rem(count, 2) == 0 do
      middle = div(count, 2)
      (Enum.at(sorted, middle - 1) + Enum.at(sorted, middle)) / 2
    else
      Enum.at(sorted, min(count - 1, max(0, ceil(count * percent / 100) - 1)))
    end
  end

  @doc "Four significant digits: more would only pretend."
  @spec short(number()) :: number()
  def short(0), do: 0
  def short(value) when value == 0, do: 0.0
  def short(value) when is_integer(value) and abs(value) < 100_000, do: value

  def short(value) do
    digits = 3 - floor(:math.log10(abs(value)))
    if digits > 0, do: Float.round(value / 1, min(digits, 15)), else: round(value)
  end
end
