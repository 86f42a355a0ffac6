# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Window do
  @moduledoc false

  # One output stream on its way to an owner: pure data. Of what was handed on, at most
  # `size` bytes are unread; the rest waits here, merged, so that a program which writes
  # byte by byte costs no more than one that writes at once.

  @type t :: %__MODULE__{
          size: pos_integer(),
          held: binary(),
          sent: non_neg_integer(),
          read: non_neg_integer()
        }

  @enforce_keys [:size]
  defstruct [:size, held: <<>>, sent: 0, read: 0]

  @spec new(pos_integer()) :: t()
  def new(size), do: %__MODULE__{size: size}

  @spec put(t(), binary()) :: t()
  def put(%__MODULE__{held: <<>>} = window, bytes), do: %{window | held: bytes}
  def put(%__MODULE__{held: held} = window, bytes), do: %{window | held: held <> bytes}

  @doc "The next chunk that fits."
  @spec take(t()) :: {binary() | nil, t()}
  def take(%__MODULE__{held: <<>>} = window), do: {nil, window}

  def take(%__MODULE__{size: size, held: held, sent: sent, read: read} = window) do
    room = size - (sent - read)

    cond do
      room <= 0 ->
        {nil, window}

      byte_size(held) <= room ->
        {own(held), %{window | held: <<>>, sent: sent + byte_size(held)}}

      true ->
        <<chunk::binary-size(room), rest::binary>> = held
        {own(chunk), %{window | held: rest, sent: sent + room}}
    end
  end

  @doc "The owner has read all but `unread` of what was handed on up to `mark`."
  @spec read(t(), non_neg_integer(), non_neg_integer()) :: t()
  def read(%__MODULE__{} = window, mark, unread),
    do: %{window | read: max(window.read, mark - unread)}

  @doc "A new owner holds nothing yet."
  @spec moved(t()) :: t()
  def moved(%__MODULE__{} = window), do: %{window | read: window.sent}

  @spec drop(t()) :: t()
  def drop(%__MODULE__{} = window), do: %{window | held: <<>>}

  # A slice keeps the whole frame alive for as long as somebody holds it, which would
  # make of a window of 10 KB a quarter of a megabyte in the owner.
  defp own(chunk) do
    if :binary.referenced_byte_size(chunk) > 2 * byte_size(chunk) + 64,
      do: :binary.copy(chunk),
      else: chunk
  end
end
