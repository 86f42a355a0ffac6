# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.GuaranteesTest do
  # docs/GUARANTEES.md names the tests that show what is promised: `[file] "name", "name"`.
  use ExUnit.Case, async: true

  @docs Path.expand("../docs", __DIR__)

  test "each test that a guarantee names is there" do
    text = File.read!(Path.join(@docs, "GUARANTEES.md"))
    links = Regex.scan(~r/^\[([\w.]+)\]: (\S+)$/m, text, capture: :all_but_first)
    tests = Map.new(links, fn [label, path] -> {label, tests(path)} end)
    named = for line <- String.split(text, "\n"), pair <- named(line, tests), do: pair

    assert length(named) > 200

    assert for({label, name} <- named, not Enum.any?(tests[label], &is?(&1, name)), do: name) ==
             []

    used = for [_, label] <- Regex.scan(~r/\[([\w.]+)\](?![:(])/, text), do: label
    assert Map.keys(tests) -- used == []
  end

  defp named(line, tests) do
    # What follows a label, to the next one or to the end of the cell.
    for [_, label, names] <- Regex.scan(~r/\[([\w.]+)\](?!\()((?:`[^`]*`|[^\[|.`])*)/, line),
        is_map_key(tests, label),
        [_, name] <- Regex.scan(~r/`([^`]+)`/, names),
        do: {label, name}
  end

  defp tests(path) do
    source = @docs |> Path.join(path) |> File.read!()

    pattern =
      if Path.extname(path) == ".exs",
        do: ~r/^ +test "(.*?)"[, ]/m,
        else: ~r/^ *(?:async )?fn (\w+)\(/m

    for [_, name] <- Regex.scan(pattern, source), do: String.replace(name, ~r/#\{[^}]*\}/, "*")
  end

  # `*` stands for what differs, `…` for what the name before has in common with this one.
  defp is?(test, "…" <> ending), do: String.ends_with?(test, ending)

  defp is?(test, name) do
    pattern = name |> Regex.escape() |> String.replace("\\*", ".*")
    Regex.match?(~r/\A#{pattern}\z/u, test)
  end
end
