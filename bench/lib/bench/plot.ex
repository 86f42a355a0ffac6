# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule Bench.Plot do
  @moduledoc false

  # Small SVG plots by hand. Each has its own white ground, so that a dark page shows them
  # as a light one does, and colours that the colour-blind can tell apart.

  @colours %{
    "port" => "#6e7781",
    "10 KB" => "#0072b2",
    "ours" => "#0072b2",
    "64 KB" => "#56b4e9",
    "1 MiB" => "#d55e00",
    "System.cmd" => "#009e73"
  }
  @names %{"port" => "bare Port", "ours" => "proton_stream", "10 KB" => "10 KB window (default)"}
  @order ["port", "ours", "10 KB", "64 KB", "1 MiB", "System.cmd"]

  @panel 300
  @left 56
  @height 300
  @top 64
  @bottom 44

  @doc """
  Groups of bars: `groups` is `[{name, [{side, summary}]}]`. The line at 1 is the bare port,
  the thin line through a bar goes from the least to the most that was seen.
  """
  @spec bars(String.t(), String.t(), [{String.t(), [{String.t(), map()}]}]) :: iodata()
  def bars(title, unit, groups) do
    width = @left + 80 + length(groups) * 220
    right = width - 80
    most = for({_, bars} <- groups, {_, s} <- bars, do: s.max) |> Enum.max() |> max(1.2)
    step = step(most)
    top = ceil(most / step) * step
    y = fn value -> @height - @bottom - value / top * (@height - @top - @bottom) end
    sides = groups |> Enum.flat_map(fn {_, bars} -> Enum.map(bars, &elem(&1, 0)) end)

    grid =
      for n <- 0..round(top / step) do
        value = n * step

        [
          line(@left, y.(value), right, y.(value), "#d0d7de", 1),
          text(@left - 8, y.(value) + 4, label(value), "end")
        ]
      end

    placed =
      for {{_, bars}, index} <- Enum.with_index(groups),
          slot = 180 / length(bars),
          {{side, s}, place} <- Enum.with_index(bars),
          do: {side, s, @left + index * 220 + 20 + place * slot, slot}

    rectangles =
      for {side, s, x, slot} <- placed do
        tall = @height - @bottom - y.(s.median)

        ~s(<rect x="#{f(x + 4)}" y="#{f(y.(s.median))}" width="#{f(slot - 8)}" height="#{f(tall)}" fill="#{@colours[side]}"/>\n)
      end

    # After the line at 1, which is not to run through them.
    labels =
      for {_, s, x, slot} <- placed, middle = x + slot / 2 do
        [
          line(middle, y.(s.min), middle, y.(s.max), "#1f2328", 1.5),
          text(middle, y.(s.max) - 6, label(s.median), "middle", "400", halo())
        ]
      end

    names =
      for {{name, _}, index} <- Enum.with_index(groups),
          do: text(@left + index * 220 + 110, @height - @bottom + 20, name, "middle")

    one = [
      line(@left, y.(1), right, y.(1), "#1f2328", 1.5, "5 4"),
      text(right + 8, y.(1) + 4, "bare Port", "start")
    ]

    svg(width, title, unit, [
      grid,
      rectangles,
      one,
      labels,
      names,
      legend(Enum.uniq(sides), width)
    ])
  end

  @doc "Panels of lines: `[%{title:, unit:, x: [label], log: boolean, series: [{side, [y]}]}]`."
  @spec lines(String.t(), [map()]) :: iodata()
  def lines(title, panels) do
    width = length(panels) * @panel + 20

    drawn =
      for {panel, index} <- Enum.with_index(panels), do: panel(panel, index * @panel + @left + 10)

    sides = for %{series: series} <- panels, {side, _} <- series, uniq: true, do: side
    svg(width, title, nil, [drawn, legend(sides, width)])
  end

  defp panel(%{title: title, unit: unit, x: xs, log: log?, series: series}, left) do
    wide = @panel - @left - 20
    values = for {_, ys} <- series, y <- ys, do: y
    {ticks, y} = axis(values, log?)
    x = fn place -> left + (place + 0.5) * wide / length(xs) end

    [
      text(left + wide / 2, @top - 10, title <> ", " <> unit, "middle", "600"),
      for tick <- ticks do
        [
          line(left, y.(tick), left + wide, y.(tick), "#d0d7de", 1),
          text(left - 6, y.(tick) + 4, label(tick), "end")
        ]
      end,
      for {label, place} <- Enum.with_index(xs) do
        text(x.(place), @height - @bottom + 18, label, "middle")
      end,
      for {side, ys} <- series do
        points = for {value, place} <- Enum.with_index(ys), do: {x.(place), y.(value)}
        path = Enum.map_join(points, " ", fn {x, y} -> "#{f(x)},#{f(y)}" end)
        colour = @colours[side]

        [
          ~s(<polyline points="#{path}" fill="none" stroke="#{colour}" stroke-width="2"/>),
          for(
            {x, y} <- points,
            do: ~s(<circle cx="#{f(x)}" cy="#{f(y)}" r="3.5" fill="#{colour}"/>)
          )
        ]
      end
    ]
  end

  defp axis(values, true) do
    low = values |> Enum.min() |> max(0.001) |> :math.log10()
    high = values |> Enum.max() |> max(0.001) |> :math.log10()
    {bottom, top} = {floor(low * 1.0), max(ceil(high), floor(low) + 1)}
    ticks = for n <- bottom..top, do: :math.pow(10, n)

    {ticks, fn value -> place((:math.log10(max(value, 0.001)) - bottom) / (top - bottom)) end}
  end

  defp axis(values, false) do
    most = values |> Enum.max() |> max(0.001)
    step = step(most)
    count = ceil(most / step)
    {for(n <- 0..count, do: n * step), fn value -> place(value / (count * step)) end}
  end

  defp place(share), do: @height - @bottom - share * (@height - @top - @bottom)

  # 1, 2 or 5 times a power of ten, for about five lines.
  defp step(most) do
    power = :math.pow(10, floor(:math.log10(most / 5)))
    Enum.find([1, 2, 5, 10], &(most / (&1 * power) <= 6)) * power
  end

  defp legend(sides, width) do
    sides = Enum.filter(@order, &(&1 in sides))
    # About what the letters take, to have it end at the right edge.
    widths = for side <- sides, do: 32 + 6.6 * String.length(name(side))
    start = max(width - 20 - Enum.sum(widths), 10)

    {drawn, _} =
      sides
      |> Enum.zip(widths)
      |> Enum.map_reduce(start, fn {side, wide}, x ->
        {[
           ~s(<rect x="#{f(x)}" y="#{@height + 2}" width="10" height="10" fill="#{@colours[side]}"/>),
           text(x + 15, @height + 11, name(side), "start")
         ], x + wide}
      end)

    drawn
  end

  defp name(side) do
    Map.get(@names, side) || if(side in ["64 KB", "1 MiB"], do: side <> " window", else: side)
  end

  defp svg(width, title, unit, content) do
    height = @height + 24

    [
      ~s(<!-- SPDX-FileCopyrightText: 2026 The proton_stream authors -->\n),
      ~s(<!-- SPDX-License-Identifier: CC0-1.0 -->\n),
      ~s(<svg xmlns="http://www.w3.org/2000/svg" width="#{width}" height="#{height}" viewBox="0 0 #{width} #{height}" font-family="system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif" font-size="12" role="img">\n),
      ~s(<title>#{escape(title)}</title>\n),
      ~s(<rect width="#{width}" height="#{height}" rx="6" fill="#ffffff"/>\n),
      ~s(<text x="16" y="26" font-size="15" font-weight="600" fill="#1f2328">#{escape(title)}</text>\n),
      if(unit, do: text(16, 44, unit, "start"), else: []),
      content,
      "</svg>\n"
    ]
  end

  # Keeps a label readable where a line runs behind it.
  defp halo, do: ~s( paint-order="stroke" stroke="#ffffff" stroke-width="4")

  defp text(x, y, text, anchor, weight \\ "400", more \\ "") do
    ~s(<text x="#{f(x)}" y="#{f(y)}" text-anchor="#{anchor}" font-weight="#{weight}" fill="#1f2328"#{more}>#{escape(text)}</text>\n)
  end

  defp line(x1, y1, x2, y2, colour, wide, dash \\ "none") do
    ~s(<line x1="#{f(x1)}" y1="#{f(y1)}" x2="#{f(x2)}" y2="#{f(y2)}" stroke="#{colour}" stroke-width="#{wide}" stroke-dasharray="#{dash}"/>\n)
  end

  defp label(value) when value >= 1_000_000, do: trim(value / 1_000_000) <> "M"
  defp label(value) when value >= 10_000, do: trim(value / 1_000) <> "k"
  defp label(value), do: trim(value)

  defp trim(value) when value == trunc(value), do: Integer.to_string(trunc(value))
  defp trim(value) when value >= 100, do: Integer.to_string(round(value))
  defp trim(value) when value >= 10, do: :erlang.float_to_binary(value / 1, decimals: 1)
  defp trim(value), do: :erlang.float_to_binary(value / 1, [:compact, decimals: 2])

  defp f(value), do: :erlang.float_to_binary(value / 1, [:compact, decimals: 1])

  defp escape(text),
    do: String.replace(text, ["&", "<"], &if(&1 == "&", do: "&amp;", else: "&lt;"))
end
