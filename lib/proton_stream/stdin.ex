# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Stdin do
  @moduledoc false

  # What is on its way to a program's stdin: pure data, no process. Bytes wait here until
  # the guardian gives credit for them; credit that comes back says that as many bytes are
  # in the program's pipe, which is what writers wait for.

  import Bitwise

  alias ProtonStream.Options

  @typedoc "Why bytes are not taken; the last two are the writer's fault."
  @type refusal ::
          :eof
          | :epipe
          | {:stdin_overflow, queued :: pos_integer()}
          | {:packet_too_large, pos_integer()}
  @type state :: :open | :eof | :ended | :gone
  @type t :: %__MODULE__{
          state: state(),
          credit: non_neg_integer(),
          limit: pos_integer(),
          header: 0 | 1 | 2 | 4,
          queue: :queue.queue(binary()),
          queued: non_neg_integer(),
          accepted: non_neg_integer(),
          written: non_neg_integer(),
          waiting: :queue.queue({non_neg_integer(), term()}),
          unasked: :queue.queue(non_neg_integer())
        }

  defstruct state: :open,
            credit: 0,
            limit: 67_108_864,
            header: 0,
            queue: :queue.new(),
            queued: 0,
            accepted: 0,
            written: 0,
            waiting: :queue.new(),
            unasked: :queue.new()

  # A pipe's usual size: larger frames are read and written in parts anyway, and a signal
  # or a close would have to wait behind them.
  @greatest_frame 65_536

  @spec new(non_neg_integer(), Options.t()) :: t()
  def new(credit, options \\ %{}) do
    stdin = %__MODULE__{credit: credit, header: Map.get(options, :packet, 0)}
    %{stdin | limit: Map.get(options, :stdin_limit, stdin.limit)}
  end

  @doc "Takes bytes over, or says why they can go nowhere."
  @spec push(t(), iodata()) :: {:ok, t()} | {:error, refusal()}
  def push(%__MODULE__{state: :open} = stdin, data) do
    with {:ok, data} <- packet(stdin.header, data) do
      iovec = :erlang.iolist_to_iovec(data)
      size = :erlang.iolist_size(iovec)

      # What can leave at once is not queued.
      if stdin.queued + size - stdin.credit > stdin.limit,
        do: {:error, {:stdin_overflow, stdin.queued + size}},
        else: {:ok, queue(stdin, iovec, size)}
    end
  end

  def push(%__MODULE__{state: :gone}, _data), do: {:error, :epipe}
  def push(%__MODULE__{}, _data), do: {:error, :eof}

  defp queue(stdin, iovec, size) do
    queue = Enum.reduce(iovec, stdin.queue, &:queue.in/2)
    %{stdin | queue: queue, queued: stdin.queued + size, accepted: stdin.accepted + size}
  end

  defp packet(0, data), do: {:ok, data}

  defp packet(header, data) do
    size = :erlang.iolist_size(data)

    if size < 1 <<< (8 * header),
      do: {:ok, [<<size::unit(8)-size(header)>> | data]},
      else: {:error, {:packet_too_large, size}}
  end

  @doc "Remembers who waits until all that was pushed so far is in the pipe."
  @spec wait(t(), term()) :: {:waiting | :written, t()}
  def wait(%__MODULE__{accepted: all, written: all} = stdin, _from), do: {:written, stdin}

  def wait(%__MODULE__{accepted: offset} = stdin, from) do
    waiting = :queue.in({offset, from}, stdin.waiting)
    {:waiting, %{stdin | waiting: waiting, unasked: :queue.in(offset, stdin.unasked)}}
  end

  @doc "End of file after what was pushed; later pushes are refused."
  @spec eof(t()) :: t()
  def eof(%__MODULE__{state: :open} = stdin), do: %{stdin | state: :eof}
  def eof(%__MODULE__{} = stdin), do: stdin

  @doc "The next frame that may be sent now."
  @spec take(t()) :: {{:stdin, iodata()} | :sync | :eof | nil, t()}
  def take(%__MODULE__{} = stdin) do
    # The guardian returns little credit unasked: it is asked where somebody waits.
    sent = stdin.accepted - stdin.queued

    case asked(stdin.unasked, sent) do
      {true, unasked} -> {:sync, %{stdin | unasked: unasked}}
      {false, _} -> next(stdin)
    end
  end

  defp asked(unasked, sent, any? \\ false) do
    case :queue.peek(unasked) do
      {:value, offset} when offset <= sent -> asked(:queue.drop(unasked), sent, true)
      _ -> {any?, unasked}
    end
  end

  defp next(%__MODULE__{queued: 0, state: :eof} = stdin), do: {:eof, %{stdin | state: :ended}}
  defp next(%__MODULE__{queued: 0} = stdin), do: {nil, stdin}
  defp next(%__MODULE__{credit: 0} = stdin), do: {nil, stdin}

  defp next(%__MODULE__{} = stdin) do
    room = min(stdin.credit, @greatest_frame)
    {bytes, size, queue} = gather(stdin.queue, room, [], 0)
    stdin = %{stdin | queue: queue, queued: stdin.queued - size, credit: stdin.credit - size}
    {{:stdin, bytes}, stdin}
  end

  @doc "Credit that came back, and those who waited for it."
  @spec credit(t(), pos_integer()) :: {[term()], t()}
  def credit(%__MODULE__{} = stdin, count) do
    stdin = %{stdin | credit: stdin.credit + count, written: stdin.written + count}
    {done, waiting} = settled(stdin.waiting, stdin.written, [])
    {done, %{stdin | waiting: waiting}}
  end

  @doc "Nothing more can be written: what was queued is dropped, those who wait are returned."
  @spec gone(t()) :: {[term()], t()}
  def gone(%__MODULE__{} = stdin) do
    waiting = for {_, from} <- :queue.to_list(stdin.waiting), do: from
    empty = :queue.new()
    {waiting, %{stdin | state: :gone, queue: empty, queued: 0, waiting: empty, unasked: empty}}
  end

  defp gather(queue, 0, bytes, size), do: {Enum.reverse(bytes), size, queue}

  defp gather(queue, room, bytes, size) do
    case :queue.out(queue) do
      {:empty, queue} ->
        {Enum.reverse(bytes), size, queue}

      {{:value, head}, queue} when byte_size(head) <= room ->
        gather(queue, room - byte_size(head), [head | bytes], size + byte_size(head))

      {{:value, head}, queue} ->
        <<now::binary-size(room), later::binary>> = head
        gather(:queue.in_r(later, queue), 0, [now | bytes], size + room)
    end
  end

  defp settled(waiting, written, done) do
    case :queue.peek(waiting) do
      {:value, {offset, from}} when offset <= written ->
        settled(:queue.drop(waiting), written, [from | done])

      _ ->
        {Enum.reverse(done), waiting}
    end
  end
end
