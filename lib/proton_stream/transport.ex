# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Transport do
  @moduledoc false

  # What the options mean for the two output streams: how much an owner may hold of each,
  # how much may be on its way between guardian and session, and how bytes are cut. Pure.

  alias ProtonStream.Buffer
  alias ProtonStream.Frame
  alias ProtonStream.Options

  @window 10_240

  # Between guardian and session more may be on its way than an owner may hold: a window
  # that had to go all the way to the guardian and back would be slow where it is small.
  @credit 262_144

  @doc "Bytes that a reader may hold of a stream: a line that may be longer counts as that long."
  @spec window(Options.t(), Frame.stream()) :: pos_integer()
  def window(options, stream) do
    window =
      case Map.get(options, :stdio_window, @window) do
        windows when is_list(windows) -> Keyword.get(windows, stream, @window)
        window -> window
      end

    max(window, Map.get(options, :line, 0))
  end

  @doc "Initial credit of both streams. A packet that fills its window has a header, too."
  @spec credit(Options.t()) :: %{Frame.stream() => pos_integer()}
  def credit(options) do
    # And of a line that fills its window two bytes more are looked at.
    header = Map.get(options, :packet, 2)
    credit = fn stream -> max(window(options, stream) + header, @credit) end
    %{stdout: credit.(:stdout), stderr: credit.(:stderr)}
  end

  @doc "What to read at once where a window is large; `nil` for all others."
  @spec width(%{Frame.stream() => pos_integer()}) :: pos_integer() | nil
  def width(credit) do
    width = max(credit.stdout, credit.stderr)
    if width > @credit, do: width
  end

  @doc """
  From how many bytes on that were handed on their credit is returned: half of it, so that this is
  not done for each piece, but never so much that the rest of a line or packet couldn't come.
  """
  @spec return(Options.t()) :: %{Frame.stream() => pos_integer()}
  def return(options) do
    Map.new(credit(options), fn {stream, credit} ->
      spare = credit - Buffer.longest(cut(options, stream))
      {stream, max(min(div(credit, 2), spare), 1)}
    end)
  end

  @spec cut(Options.t(), Frame.stream()) :: Buffer.cut()
  def cut(%{line: max}, _stream), do: {:line, max}
  def cut(%{packet: size} = options, :stdout), do: {:packet, size, window(options, :stdout)}
  def cut(_options, _stream), do: :raw
end
