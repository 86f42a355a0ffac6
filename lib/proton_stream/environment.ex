# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Environment do
  @moduledoc false

  # The VM's environment as the bytes that a program would inherit.
  #
  # `:os.env/0` gives code points. Where file names are UTF-8 (nearly everywhere) it
  # decodes an entry whose bytes are UTF-8, and hands over the bytes themselves as code
  # points where they are not. Both end in the same list for `é` and for the single byte
  # 0xE9; then the environment that this VM was started with has the answer, because what
  # is set later is always encoded.

  # To see that it is what it was takes a third of the time that encoding it takes. But who
  # replaces a persistent term has all processes looked at, so that is done seldom (ms). What
  # `/proc` had a part in, which may be out of reach for a moment, is not kept.
  @seldom 60_000

  @doc "`KEY=VALUE` of each variable, byte for byte, with a NUL between two."
  @spec inherited() :: binary()
  def inherited do
    variables = :os.env()

    case :persistent_term.get(__MODULE__, nil) do
      {^variables, bytes, _since} ->
        bytes

      known ->
        bytes = ascii(variables)
        if bytes, do: keep(variables, bytes, known)
        bytes || any(variables)
    end
  end

  defp keep(variables, bytes, known) do
    now = System.monotonic_time(:millisecond)

    if known == nil or now - elem(known, 2) >= @seldom,
      do: :persistent_term.put(__MODULE__, {variables, bytes, now})
  end

  # Nearly every environment is: then nothing has to be looked at one by one.
  defp ascii(variables) do
    bytes = variables |> joined() |> :erlang.iolist_to_binary()
    if byte_size(:unicode.characters_to_binary(bytes, :latin1)) == byte_size(bytes), do: bytes
  rescue
    # A code point above 255.
    ArgumentError -> nil
  end

  defp joined([]), do: []
  defp joined([{key, value}]), do: [key, ?= | value]
  defp joined([{key, value} | others]), do: [key, ?=, value, 0 | joined(others)]

  defp any(variables) do
    for({key, value} <- variables, do: key ++ [?= | value])
    |> to_bytes(:file.native_name_encoding(), &at_start/0)
    |> Enum.intersperse(0)
    |> :erlang.iolist_to_binary()
  end

  @doc false
  @spec to_bytes([charlist()], :utf8 | :latin1, fun()) :: [binary()]
  def to_bytes(entries, :latin1, _at_start), do: Enum.map(entries, &:erlang.list_to_binary/1)

  def to_bytes(entries, :utf8, at_start) do
    entries = Enum.map(entries, &entry/1)

    if Enum.any?(entries, &is_tuple/1) do
      known = MapSet.new(at_start.())

      Enum.map(entries, fn
        {raw, encoded} -> if raw in known, do: raw, else: encoded
        bytes -> bytes
      end)
    else
      entries
    end
  end

  defp entry(chars) do
    encoded = :unicode.characters_to_binary(chars)

    cond do
      # Lone surrogates can't be code points of decoded text, so these are not text.
      not is_binary(encoded) -> :erlang.list_to_binary(chars)
      byte_size(encoded) == length(chars) -> encoded
      Enum.any?(chars, &(&1 > 255)) -> encoded
      true -> ambiguous(:erlang.list_to_binary(chars), encoded)
    end
  end

  # Had the entry been `raw`, and that been UTF-8, it would have been decoded.
  defp ambiguous(raw, encoded), do: if(String.valid?(raw), do: encoded, else: {raw, encoded})

  defp at_start do
    case File.read("/proc/self/environ") do
      {:ok, bytes} -> :binary.split(bytes, <<0>>, [:global])
      {:error, _} -> []
    end
  end
end
