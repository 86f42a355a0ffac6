# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Nursery.Frame do
  @moduledoc false

  # The frames between a VM and its nursery (docs/PROTOCOL.md §10): type and body, as in
  # `ProtonStream.Frame`. Both directions, for the vectors in fixtures/.

  alias ProtonStream.Frame
  alias ProtonStream.Frame.Body
  alias ProtonStream.Frame.Reader

  @secret 32
  @greatest 65_536

  @type ending :: {:exited, 1..255} | {:signalled, 1..64} | :unknown
  @type to_nursery ::
          {:nurse, package :: binary(), controller :: pos_integer(), secret :: binary()}
          | {:kill, run :: non_neg_integer()}
  @type from_nursery ::
          {:ready, package :: binary(), path :: binary()}
          | {:died, run :: non_neg_integer(), ending(), survivors :: [pos_integer()]}
          | {:error, code :: atom(), sentence :: binary()}
  @type t :: to_nursery() | from_nursery()

  @bounds %{
    0x20 => {0, @greatest},
    0x21 => {8, 8},
    0xA0 => {0, @greatest},
    0xA1 => {0, @greatest}
  }

  @doc "How many bytes a secret has."
  @spec secret_size() :: pos_integer()
  def secret_size, do: @secret

  @doc "What a connection begins with."
  @spec preamble(binary(), non_neg_integer()) :: binary()
  def preamble(secret, run) when byte_size(secret) == @secret, do: <<secret::binary, run::64>>

  @spec encode(t()) :: iodata()
  def encode({:nurse, package, controller, secret}),
    do: [0x20, Body.head(package) | <<controller::32, secret::binary>>]

  def encode({:kill, run}), do: <<0x21, run::64>>
  def encode({:ready, package, path}), do: [0xA0, Body.head(package) | path]

  def encode({:died, run, ending, survivors}) do
    {kind, code} =
      case ending do
        {:exited, status} -> {0, status}
        {:signalled, number} -> {1, number}
        :unknown -> {2, 0}
      end

    pids = for pid <- survivors, do: <<pid::32>>
    [<<0xA1, run::64, kind, code, length(survivors)::16>> | pids]
  end

  def encode({:error, _, _} = frame), do: Frame.encode(frame)

  @doc "Reads type and body. Never raises: what is wrong is said in a sentence."
  @spec decode(binary()) :: {:ok, t()} | {:error, String.t()}
  def decode(<<0x8A, _::binary>> = frame), do: Frame.decode(frame, :guardian)

  def decode(<<type, body::binary>>) do
    with :ok <- Frame.within(@bounds, type, byte_size(body)), do: {:ok, body(type, body)}
  catch
    {:malformed, sentence} -> {:error, sentence}
  end

  def decode(<<>>), do: {:error, "a frame has neither type nor body"}

  @doc "Judges a header."
  @spec check(byte(), integer()) :: :ok | {:error, String.t()}
  def check(type, length), do: Frame.within(@bounds, type, length)

  defp body(0x20, body) do
    {package, body} = Body.handshake(body)
    {controller, body} = Reader.integer(body, "controller", 4)
    {secret, rest} = Reader.bytes(body, "secret", @secret)
    Reader.ended(rest)
    {:nurse, package, controller, secret}
  end

  defp body(0x21, <<run::64>>), do: {:kill, run}

  defp body(0xA0, body) do
    {package, path} = Body.handshake(body)
    {:ready, package, path}
  end

  defp body(0xA1, body) do
    {run, body} = Reader.integer(body, "run", 8)
    {kind, body} = Reader.integer(body, "kind", 1)
    {code, body} = Reader.integer(body, "code", 1)
    ending = if kind == 0, do: failed(code), else: Body.ending(kind, code)
    {count, body} = Reader.integer(body, "survivors", 2)
    {survivors, rest} = Body.survivors(body, count, [])
    Reader.ended(rest)
    {:died, run, ending, survivors}
  end

  # Of one that has ended as it should nobody hears.
  defp failed(0), do: Reader.refuse("code", 0, "1 to 255")
  defp failed(status), do: {:exited, status}
end
