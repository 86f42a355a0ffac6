# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule Bench.Json do
  @moduledoc false

  # As much of JSON as the results need, both ways: OTP has its own from 27 on only. Maps
  # are written with their keys in order, so that two runs can be compared as text.

  @spec encode(term()) :: iodata()
  def encode(term), do: [value(term, "\n"), "\n"]

  defp value(map, _) when map_size(map) == 0, do: "{}"

  defp value(map, line) when is_map(map) do
    inner = [line, "  "]

    members =
      for {key, member} <- Enum.sort_by(map, fn {key, _} -> to_string(key) end),
          do: [inner, string(to_string(key)), ": ", value(member, inner)]

    ["{", Enum.intersperse(members, ","), line, "}"]
  end

  # Lists of plain values stay on one line.
  defp value(list, line) when is_list(list) do
    if Enum.any?(list, &(is_map(&1) or is_list(&1))) do
      inner = [line, "  "]
      ["[", Enum.intersperse(Enum.map(list, &[inner, value(&1, inner)]), ","), line, "]"]
    else
      ["[", Enum.intersperse(Enum.map(list, &value(&1, line)), ", "), "]"]
    end
  end

  defp value(nil, _), do: "null"
  defp value(atom, _) when is_boolean(atom), do: Atom.to_string(atom)
  defp value(atom, _) when is_atom(atom), do: string(Atom.to_string(atom))
  defp value(binary, _) when is_binary(binary), do: string(binary)
  defp value(integer, _) when is_integer(integer), do: Integer.to_string(integer)
  defp value(float, _) when is_float(float), do: :erlang.float_to_binary(float, [:short])

  defp string(text) do
    escaped =
      String.replace(text, ["\\", "\"", "\n", "\t"], fn
        "\\" -> "\\\\"
        "\"" -> "\\\""
        "\n" -> "\\n"
        "\t" -> "\\t"
      end)

    [?", escaped, ?"]
  end

  @spec decode!(binary()) :: term()
  def decode!(text) do
    {value, rest} = read(space(text))
    "" = space(rest)
    value
  end

  defp read("{" <> rest), do: members(space(rest), %{})
  defp read("[" <> rest), do: elements(space(rest), [])
  defp read("\"" <> rest), do: text(rest, "")
  defp read("null" <> rest), do: {nil, rest}
  defp read("true" <> rest), do: {true, rest}
  defp read("false" <> rest), do: {false, rest}

  defp read(rest) do
    {number, after_integer} = Integer.parse(rest)

    case after_integer do
      <<c, _::binary>> when c in '.eE' -> Float.parse(rest)
      _ -> {number, after_integer}
    end
  end

  defp members("}" <> rest, map), do: {map, rest}

  defp members("\"" <> rest, map) do
    {key, rest} = text(rest, "")
    ":" <> rest = space(rest)
    {value, rest} = read(space(rest))
    rest |> space() |> next() |> members(Map.put(map, key, value))
  end

  defp elements("]" <> rest, list), do: {Enum.reverse(list), rest}

  defp elements(rest, list) do
    {value, rest} = read(rest)
    rest |> space() |> next() |> elements([value | list])
  end

  defp next("," <> rest), do: space(rest)
  defp next(rest), do: rest

  defp text("\"" <> rest, done), do: {done, rest}
  defp text("\\n" <> rest, done), do: text(rest, done <> "\n")
  defp text("\\t" <> rest, done), do: text(rest, done <> "\t")
  defp text(<<"\\", c, rest::binary>>, done), do: text(rest, <<done::binary, c>>)
  defp text(<<c, rest::binary>>, done), do: text(rest, <<done::binary, c>>)

  defp space(<<c, rest::binary>>) when c in ' \n\t\r', do: space(rest)
  defp space(rest), do: rest
end
