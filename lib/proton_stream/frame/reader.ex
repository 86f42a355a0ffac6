# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Frame.Reader do
  @moduledoc false

  # Takes fields off a frame's body. What is wrong is thrown as `{:malformed, sentence}`
  # and caught in one place, `ProtonStream.Frame.decode/2`; the sentences are the same
  # ones that the guardian says.

  @spec integer(binary(), String.t(), 1 | 2 | 4 | 8) :: {non_neg_integer(), binary()}
  def integer(body, field, size) do
    case body do
      <<value::unit(8)-size(size), rest::binary>> -> {value, rest}
      _ -> cut(field)
    end
  end

  @spec bytes(binary(), String.t(), non_neg_integer()) :: {binary(), binary()}
  def bytes(body, field, size) do
    case body do
      <<value::binary-size(size), rest::binary>> -> {value, rest}
      _ -> cut(field)
    end
  end

  @spec ended(binary()) :: :ok
  def ended(<<>>), do: :ok
  def ended(rest), do: malformed("#{byte_size(rest)} bytes follow the frame's last field")

  @spec name([{byte(), atom()}], String.t(), byte(), String.t()) :: atom()
  def name(table, field, code, allowed) do
    case List.keyfind(table, code, 0) do
      {_, name} -> name
      nil -> refuse(field, code, allowed)
    end
  end

  @spec bit(String.t(), byte()) :: boolean()
  def bit(field, code), do: name([{0, false}, {1, true}], field, code, "0 or 1")

  @spec refuse(String.t(), integer(), String.t()) :: no_return()
  def refuse(field, value, allowed),
    do: malformed("`#{field}` is #{value}, allowed is #{allowed}")

  @spec cut(String.t()) :: no_return()
  def cut(field), do: malformed("the frame ends inside its field `#{field}`")

  @spec malformed(String.t()) :: no_return()
  def malformed(sentence), do: throw({:malformed, sentence})

  @spec hex(byte()) :: String.t()
  def hex(byte), do: "0x" <> Base.encode16(<<byte>>, case: :lower)

  @doc "Bytes as text: those outside of printable ASCII as `\\xNN`."
  @spec printable(binary()) :: String.t()
  def printable(bytes) do
    for <<byte <- bytes>>, into: "" do
      if byte in 0x20..0x7E and byte not in ~c("\\|),
        do: <<byte>>,
        else: "\\x" <> Base.encode16(<<byte>>, case: :lower)
    end
  end
end
