# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Buffer do
  @moduledoc false

  # Bytes of one stream that wait in the session, and how they are cut into what a reader
  # gets: as they come, into lines, or into packets. Pure data.
  #
  # They are cut when they are taken, not when they come: a line of one byte that waits
  # costs one byte. Nothing is copied but what is joined, and small pieces, which are
  # merged so that a program that writes byte by byte costs no more than one that doesn't.

  @typedoc "`{:packet, header, greatest}`: bytes of the header, and of the longest packet."
  @type cut :: :raw | {:line, pos_integer()} | {:packet, 1 | 2 | 4, pos_integer()}
  @type payload :: binary() | {:eol | :noeol, binary()}

  @type t :: %__MODULE__{
          cut: cut(),
          bytes: non_neg_integer(),
          queue: :queue.queue(binary()),
          tail: binary(),
          seen: non_neg_integer(),
          ended?: boolean()
        }

  @enforce_keys [:cut]
  defstruct [:cut, bytes: 0, queue: :queue.new(), tail: <<>>, seen: 0, ended?: false]

  @small 4_096
  @merged 65_536

  @spec new(cut()) :: t()
  def new(cut), do: %__MODULE__{cut: cut}

  @doc "How many bytes may have to be there for the next payload."
  @spec longest(cut()) :: pos_integer()
  def longest(:raw), do: 1
  # A carriage return and a newline may follow.
  def longest({:line, max}), do: max + 2
  def longest({:packet, header, greatest}), do: header + greatest

  @spec put(t(), binary()) :: t()
  def put(%__MODULE__{bytes: 0} = buffer, bytes) when byte_size(bytes) >= @small,
    do: %{buffer | queue: :queue.in(bytes, buffer.queue), bytes: byte_size(bytes)}

  def put(%__MODULE__{bytes: held} = buffer, bytes) do
    held = held + byte_size(bytes)

    if byte_size(bytes) < @small do
      # Appended in place by the VM, for as long as nobody else holds the tail.
      tail = buffer.tail <> bytes

      if byte_size(tail) >= @merged,
        do: settle(%{buffer | bytes: held, tail: tail}),
        else: %{buffer | bytes: held, tail: tail}
    else
      buffer = settle(buffer)
      %{buffer | bytes: held, queue: :queue.in(bytes, buffer.queue)}
    end
  end

  @doc "Whether nothing is left that could be taken, and nothing more will come."
  @spec done?(t()) :: boolean()
  def done?(%__MODULE__{bytes: 0, ended?: ended?}), do: ended?
  # A packet that was cut short is lost, as with a `Port`.
  def done?(%__MODULE__{cut: {:packet, _, _}, ended?: true} = buffer),
    do: match?({:none, _}, take(buffer, 1))

  def done?(%__MODULE__{}), do: false

  @doc "No more bytes will come."
  @spec finish(t()) :: t()
  def finish(%__MODULE__{} = buffer), do: %{buffer | ended?: true}

  @spec drop(t()) :: t()
  def drop(%__MODULE__{} = buffer),
    do: %{buffer | bytes: 0, queue: :queue.new(), tail: <<>>, seen: 0}

  @doc """
  The next payload and how many bytes it took from the stream: of raw bytes at most `most`.

  `:too_large` is a packet that can't be taken in.
  """
  @spec take(t(), pos_integer()) ::
          {:ok, payload(), pos_integer(), t()} | {:none, t()} | {:too_large, pos_integer()}
  def take(%__MODULE__{bytes: 0} = buffer, _most), do: {:none, buffer}

  def take(%__MODULE__{cut: :raw} = buffer, most) do
    count = min(buffer.bytes, most)
    {bytes, buffer} = pop(buffer, count)
    {:ok, bytes, count, buffer}
  end

  def take(%__MODULE__{cut: cut} = buffer, _most) do
    {bytes, others} = first(buffer)

    case next(cut, bytes) do
      {payload, rest} ->
        rest = put_back(others, rest)
        {:ok, payload, buffer.bytes - rest.bytes, rest}

      nil ->
        join(cut, buffer)
    end
  end

  # What does not lie in one piece, or not yet.
  defp join({:line, max}, buffer) do
    case newline(buffer, max + 2) do
      {:at, position, buffer} ->
        {line, rest} = pop(buffer, position)
        line = without_return(line)

        if byte_size(line) <= max,
          do: {:ok, {:eol, line}, position + 1, elem(pop(rest, 1), 1)},
          else: part(buffer, max)

      {:none, %{bytes: bytes} = buffer} when bytes > max + 1 ->
        part(buffer, max)

      {:none, %{ended?: true, bytes: bytes} = buffer} ->
        part(buffer, min(bytes, max))

      {:none, %{bytes: bytes} = buffer} when bytes == max + 1 ->
        {_, last} = pop(buffer, max)
        if match?({"\r", _}, pop(last, 1)), do: {:none, buffer}, else: part(buffer, max)

      {:none, buffer} ->
        {:none, buffer}
    end
  end

  defp join({:packet, header, greatest}, buffer) do
    if buffer.bytes < header do
      {:none, buffer}
    else
      {<<length::unit(8)-size(header)>>, rest} = pop(buffer, header)

      cond do
        length > greatest ->
          {:too_large, length}

        rest.bytes < length ->
          {:none, buffer}

        true ->
          {packet, rest} = pop(rest, length)
          {:ok, packet, header + length, rest}
      end
    end
  end

  @doc """
  The bytes of the first piece, without the buffer's upkeep for each line or packet: `first/1`,
  `next/2` for as long as there are any, `put_back/2`.
  """
  @spec first(t()) :: {binary(), t()}
  def first(%__MODULE__{seen: seen} = buffer) when seen > 0, do: {<<>>, buffer}

  def first(%__MODULE__{} = buffer) do
    case :queue.out(buffer.queue) do
      {{:value, head}, queue} -> less(%{buffer | queue: queue}, head)
      {:empty, _} -> less(%{buffer | tail: <<>>}, buffer.tail)
    end
  end

  defp less(buffer, bytes), do: {bytes, %{buffer | bytes: buffer.bytes - byte_size(bytes)}}

  @doc "The first line or packet of these bytes, if all of it is there, and the bytes after it."
  @spec next(cut(), binary()) :: {payload(), binary()} | nil
  def next({:line, max}, bytes) do
    # As with a `Port`, a carriage return belongs to the newline, and `max` bytes before
    # that are a whole line; so two bytes more are looked at, and no others.
    near = binary_part(bytes, 0, min(byte_size(bytes), max + 2))

    case :erlang.decode_packet(:line, near, []) do
      {:ok, line, _} ->
        length = byte_size(line) - 1
        <<line::binary-size(length), _, rest::binary>> = bytes
        line = without_return(line)
        if byte_size(line) <= max, do: {{:eol, line}, rest}, else: cut_off(bytes, max)

      _ ->
        if byte_size(bytes) > max + 1, do: cut_off(bytes, max)
    end
  end

  def next({:packet, header, greatest}, bytes) do
    case bytes do
      <<length::unit(8)-size(header), packet::binary-size(length), rest::binary>>
      when length <= greatest ->
        {packet, rest}

      _ ->
        nil
    end
  end

  defp cut_off(bytes, max) do
    <<part::binary-size(max), rest::binary>> = bytes
    {{:noeol, part}, rest}
  end

  @doc "Takes back what is left of the first piece."
  @spec put_back(t(), binary()) :: t()
  def put_back(%__MODULE__{} = buffer, <<>>), do: buffer

  def put_back(%__MODULE__{bytes: 0} = buffer, bytes) when byte_size(bytes) < @small,
    do: %{buffer | tail: bytes, bytes: byte_size(bytes)}

  def put_back(%__MODULE__{} = buffer, bytes) do
    queue = :queue.in_r(bytes, buffer.queue)
    %{buffer | queue: queue, bytes: buffer.bytes + byte_size(bytes)}
  end

  @doc """
  A payload that keeps nothing else alive. A slice keeps its whole frame for as long as
  somebody holds it, which would make of a window of 10 KB, or of a line that is
  remembered, a quarter of a megabyte. As much as itself may be kept, and `most` bytes: to
  copy takes time, too.
  """
  @spec own(payload(), non_neg_integer() | :infinity) :: payload()
  def own(payload, most \\ :infinity)
  def own({end_of_line, line}, most), do: {end_of_line, own(line, most)}

  def own(bytes, most) do
    size = byte_size(bytes)

    # An atom is greater than any number.
    if :binary.referenced_byte_size(bytes) - size > min(size, most) + 64,
      do: :binary.copy(bytes),
      else: bytes
  end

  defp part(buffer, count) do
    {part, buffer} = pop(buffer, count)
    {:ok, {:noeol, part}, count, buffer}
  end

  defp without_return(line) do
    kept = byte_size(line) - 1

    case line do
      <<line::binary-size(kept), ?\r>> -> line
      _ -> line
    end
  end

  defp settle(%__MODULE__{tail: <<>>} = buffer), do: buffer

  defp settle(%__MODULE__{} = buffer),
    do: %{buffer | queue: :queue.in(buffer.tail, buffer.queue), tail: <<>>}

  defp newline(buffer, max),
    do: newline(:queue.to_list(buffer.queue) ++ [buffer.tail], 0, max, buffer)

  defp newline([head | rest], before, max, buffer) when before < max do
    # What was looked at when there was less is not looked at again.
    from = min(max(buffer.seen - before, 0), byte_size(head))
    length = min(byte_size(head), max - before) - from

    case length > 0 && :binary.match(head, "\n", scope: {from, length}) do
      {position, 1} -> {:at, before + position, %{buffer | seen: 0}}
      _ -> newline(rest, before + byte_size(head), max, buffer)
    end
  end

  defp newline(_rest, _before, max, buffer),
    do: {:none, %{buffer | seen: min(buffer.bytes, max)}}

  # The first bytes, as one binary.
  defp pop(buffer, 0), do: {<<>>, buffer}

  defp pop(buffer, count) do
    {parts, queue} = gather(settle(buffer).queue, count, [])
    bytes = buffer.bytes - count
    {one(parts), %{buffer | queue: queue, tail: <<>>, bytes: bytes, seen: 0}}
  end

  defp gather(queue, 0, parts), do: {parts, queue}

  defp gather(queue, count, parts) do
    {{:value, head}, queue} = :queue.out(queue)

    if byte_size(head) <= count do
      gather(queue, count - byte_size(head), [head | parts])
    else
      <<now::binary-size(count), later::binary>> = head
      {[now | parts], :queue.in_r(later, queue)}
    end
  end

  defp one([bytes]), do: bytes
  defp one(parts), do: parts |> Enum.reverse() |> IO.iodata_to_binary()
end
