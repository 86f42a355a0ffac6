# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Window do
  @moduledoc false

  # One output stream on its way to an owner: pure data. Of what was handed on, about `size`
  # bytes are unread at most; the rest waits in a buffer. `sent` and `read` count what
  # messages cost (`Mailbox.cost/1`), not bytes. An owner that holds nothing gets `extra`
  # more, in one piece, where finding out that it does is dear. `next` is what the line or packet
  # costs that waits because it doesn't fit in what is left of the window.

  alias ProtonStream.Buffer
  alias ProtonStream.Watcher.Mailbox

  @overhead Mailbox.overhead()

  @typedoc "`{:drop, keep}` throws away what comes when `keep` bytes wait."
  @type overflow :: :block | {:drop, pos_integer()}

  @type t :: %__MODULE__{
          size: pos_integer(),
          overflow: overflow(),
          buffer: Buffer.t(),
          sent: non_neg_integer(),
          read: non_neg_integer(),
          extra: non_neg_integer(),
          next: non_neg_integer(),
          dropped: non_neg_integer(),
          finished?: boolean()
        }

  @enforce_keys [:size, :buffer]
  defstruct [
    :size,
    :buffer,
    overflow: :block,
    sent: 0,
    read: 0,
    extra: 0,
    next: 0,
    dropped: 0,
    finished?: false
  ]

  @spec new(pos_integer(), Buffer.cut(), overflow()) :: t()
  def new(size, cut \\ :raw, overflow \\ :block),
    do: %__MODULE__{size: size, buffer: Buffer.new(cut), overflow: overflow}

  @doc "An owner that holds nothing may get so much more than the window's size."
  @spec allow(t(), non_neg_integer()) :: t()
  def allow(%__MODULE__{extra: extra} = window, extra), do: window
  def allow(%__MODULE__{} = window, extra), do: %{window | extra: extra}

  @doc "Whether there is nothing to tell: no bytes, and none that were dropped."
  @spec empty?(t()) :: boolean()
  def empty?(%__MODULE__{buffer: %{bytes: held}, dropped: dropped}),
    do: held == 0 and dropped == 0

  @doc "Whether nothing more can go now: raw bytes go in one piece, as large as there is room for."
  @spec spent?(t()) :: boolean()
  def spent?(%__MODULE__{buffer: %{cut: :raw}, dropped: 0, sent: sent, read: read}),
    do: sent > read

  def spent?(%__MODULE__{}), do: false

  @doc "Bytes that wait."
  @spec held(t()) :: non_neg_integer()
  def held(%__MODULE__{buffer: buffer}), do: buffer.bytes

  @doc """
  Takes bytes in, and says how many of them are gone already: those that were dropped,
  because too much waits before them.
  """
  @spec put(t(), binary()) :: {non_neg_integer(), t()}
  def put(%__MODULE__{overflow: :block} = window, bytes),
    do: {0, %{window | buffer: Buffer.put(window.buffer, bytes)}}

  # What follows a gap belongs behind its notice, so it falls into the gap too.
  def put(%__MODULE__{overflow: {:drop, keep}} = window, bytes) do
    room = if window.dropped > 0, do: 0, else: max(keep - held(window), 0)

    if byte_size(bytes) <= room do
      {0, %{window | buffer: Buffer.put(window.buffer, bytes)}}
    else
      <<kept::binary-size(room), lost::binary>> = bytes
      buffer = if room > 0, do: Buffer.put(window.buffer, kept), else: window.buffer
      count = byte_size(lost)
      # The last line before a gap ends there.
      {count, %{window | buffer: Buffer.finish(buffer), dropped: window.dropped + count}}
    end
  end

  @doc """
  What an owner that wants it may get now: a payload and how many of the stream's bytes it
  is, or how many were dropped here.
  """
  @spec take(t(), :room | :all) ::
          {:ok, Buffer.payload(), pos_integer(), t()}
          | {:dropped, pos_integer(), t()}
          | {:too_large, pos_integer()}
          | {:none, t()}
  def take(%__MODULE__{buffer: %{bytes: 0}, dropped: dropped} = window, _) when dropped > 0 do
    buffer = %{window.buffer | ended?: window.finished?}
    {:dropped, dropped, %{window | dropped: 0, buffer: buffer}}
  end

  def take(%__MODULE__{} = window, how) do
    case if(how == :all, do: window.size, else: room(window)) do
      0 -> {:none, window}
      room -> window.buffer |> Buffer.take(room) |> taken(how, window)
    end
  end

  @doc """
  Lines or packets, as `take/2` would give them one after the other, and how many of the
  stream's bytes they are: as many as may go now, no more than `most`, that lie whole in the
  first piece of what waits.
  """
  @spec take_many(t(), pos_integer()) :: {[Buffer.payload()], non_neg_integer(), t()}
  def take_many(%__MODULE__{buffer: %{cut: cut, bytes: held} = buffer} = window, most)
      when cut != :raw and held > 0 do
    {bytes, others} = Buffer.first(buffer)
    left = left(window)

    case many(bytes, cut, left, held, window.size, most, []) do
      {[], _, _} ->
        {[], 0, window}

      {payloads, rest, now} ->
        buffer = Buffer.put_back(others, rest)
        window = %{window | buffer: buffer, sent: window.sent + left - now, next: 0}
        {Enum.reverse(payloads), held - buffer.bytes, window}
    end
  end

  def take_many(%__MODULE__{} = window, _most), do: {[], 0, window}

  defp many(bytes, cut, left, held, size, most, payloads)
       when most > 0 and (left >= held + @overhead or left >= div(size, 2) + @overhead) do
    with {payload, rest} <- Buffer.next(cut, bytes),
         cost = Mailbox.cost(payload),
         true <- cost <= left do
      count = byte_size(bytes) - byte_size(rest)
      payloads = [Buffer.own(payload, most_kept(size, count)) | payloads]
      many(rest, cut, left - cost, held - count, size, most - 1, payloads)
    else
      _ -> {payloads, bytes, left}
    end
  end

  defp many(bytes, _cut, left, _held, _size, _most, payloads), do: {payloads, bytes, left}

  defp taken({:ok, payload, count, buffer}, how, window) do
    cost = Mailbox.cost(payload)

    if how == :all or fits?(cost, window) do
      payload = Buffer.own(payload, most_kept(window.size, count))
      {:ok, payload, count, %{window | buffer: buffer, sent: window.sent + cost, next: 0}}
    else
      {:none, %{window | next: cost}}
    end
  end

  defp taken({:none, buffer}, _how, window), do: {:none, %{window | buffer: buffer}}
  defp taken({:too_large, _} = too_large, _how, _window), do: too_large

  # Of raw bytes no more were taken than there is room for.
  defp fits?(_cost, %{buffer: %{cut: :raw}}), do: true
  defp fits?(_cost, %{sent: same, read: same}), do: true
  defp fits?(cost, window), do: cost <= left(window)

  # Small windows are kept to their size, and so is what goes beyond one.
  defp most_kept(size, count) when size <= 16_384 or count > size, do: 1_024
  defp most_kept(_size, _count), do: :infinity

  @doc "Whether nothing is left to hand on, and nothing more will come."
  @spec done?(t()) :: boolean()
  def done?(%__MODULE__{} = window), do: window.dropped == 0 and Buffer.done?(window.buffer)

  @doc """
  A limit for `Watcher.watch/3`: how much may be unread for more to be handed on, or -1 where
  nothing waits for that.
  """
  @spec limit(t()) :: integer()
  def limit(%__MODULE__{buffer: %{bytes: 0}}), do: -1

  def limit(%__MODULE__{} = window) do
    if room(window) == 0,
      do: max(window.size - max(worth_it(window) + @overhead, window.next), 0),
      else: -1
  end

  @doc "The owner has read all but `unread` of what was handed on up to `mark`."
  @spec read(t(), non_neg_integer(), non_neg_integer()) :: t()
  def read(%__MODULE__{read: read} = window, mark, unread) when mark - unread <= read, do: window
  def read(%__MODULE__{} = window, mark, unread), do: %{window | read: mark - unread}

  @doc "How much more than its size is unread."
  @spec beyond(t()) :: non_neg_integer()
  def beyond(%__MODULE__{} = window), do: max(window.sent - window.read - window.size, 0)

  @doc "The owner holds nothing: it is new, or has said so."
  @spec moved(t()) :: t()
  def moved(%__MODULE__{} = window), do: %{window | read: window.sent}

  @doc "No more bytes will come."
  @spec finish(t()) :: t()
  def finish(%__MODULE__{} = window),
    do: %{window | buffer: Buffer.finish(window.buffer), finished?: true}

  @spec drop(t()) :: t()
  def drop(%__MODULE__{} = window),
    do: %{window | buffer: Buffer.drop(window.buffer), dropped: 0, next: 0}

  # An owner that holds nothing gets a whole window, however small. Otherwise less than all
  # that waits is worth a message only when it is half a window: who reads byte by byte
  # does not get it byte by byte.
  defp room(%__MODULE__{sent: same, read: same, size: size, extra: extra}), do: size + extra

  defp room(%__MODULE__{next: next} = window) do
    left = left(window)
    room = left - @overhead
    if room < worth_it(window) or left < next, do: 0, else: max(room, 0)
  end

  defp worth_it(%__MODULE__{size: size, buffer: %{bytes: held}}), do: min(held, div(size, 2))

  # What messages may still cost.
  defp left(%__MODULE__{size: size, sent: sent, read: read}), do: size - (sent - read)
end
