# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Watcher do
  @moduledoc false

  # Looks into an owner's mailbox for sessions that have handed on a whole window: has it
  # been read? Not the session itself, because the question waits for as long as the owner
  # is inside of a long native function. One watcher serves all sessions of an owner, so
  # that an owner of hundreds is looked at once.
  #
  # Watchers are found in a table that is made when it is first needed, and whose keeper
  # does nothing else. Nothing depends on either: a session monitors its watcher and looks
  # for another when that ends, and a table that is gone is made again; the watchers that
  # were in it go on with the sessions they have.
  #
  # An empty mailbox answers everybody, and asking for its length costs next to nothing.
  # One that isn't empty may be full of strangers, for ever; then our own messages have to
  # be counted, which copies all of it while the owner stands still. So a count
  #   1. waits until the mailbox is shorter than at the last one, since somebody who
  #      sleeps reads nothing. A message read while another arrives hides from that, so it
  #      is also done without, ever more rarely;
  #   2. is paid for: a twentieth of the time that passes may be spent on counting.
  # A mailbox of a hundred messages or less costs no more to count than a window to fill; it
  # is counted whenever its length has changed.

  # Looks at an owner that is perhaps about to run, before the first pause: the fewer, the
  # less often they were of use. One takes about a microsecond, waking a scheduler fifty.
  @looks 512
  @fewest_looks 8

  # Milliseconds between looks, doubled each time. The longest is what an owner that slept
  # waits until its stream flows again.
  @longest 16

  # Microseconds until a count without a sign that something was read, doubled likewise.
  @recheck 1_000
  @longest_recheck 256_000

  # The part of the time that may be spent on counts, and how many microseconds may be saved.
  @share 20
  @saved 1_000

  # A mailbox of more than this is paid for, and what its count leaves is collected.
  @many 100

  # What a message costs its owner beside its bytes: without this a program that writes
  # byte by byte would cost a hundred times its window.
  @overhead 128

  @type marks :: {non_neg_integer(), non_neg_integer()}
  @type limits :: {integer(), integer()}

  @doc "Bytes that a message in a mailbox is taken to cost beside its payload."
  @spec overhead() :: pos_integer()
  def overhead, do: @overhead

  @doc "The watcher of an owner, and the calling session's monitor of it."
  @spec join(pid()) :: {pid(), reference()}
  def join(owner) do
    watcher = lookup(owner) || register(owner)
    {watcher, Process.monitor(watcher)}
  end

  @doc """
  Asks for a message `{ref, marks, unread}` when of one stream no more than its limit is
  unread: the marks as given, and what of each stream is still in the mailbox. A limit
  below 0 is never met.
  """
  @spec watch(pid(), marks(), limits()) :: reference()
  def watch(watcher, marks, limits) do
    ref = make_ref()
    send(watcher, {:watch, self(), ref, marks, limits})
    ref
  end

  @doc "The calling session has no more use for a watcher."
  @spec leave(pid(), reference()) :: :ok
  def leave(watcher, monitor) do
    Process.demonitor(monitor, [:flush])
    send(watcher, {:leave, self()})
    :ok
  end

  @doc "A watcher has ended; another one may be made."
  @spec forget(pid(), pid()) :: :ok
  def forget(owner, watcher) do
    :ets.delete_object(__MODULE__, {owner, watcher})
    :ok
  rescue
    ArgumentError -> :ok
  end

  defp lookup(owner) do
    case :ets.lookup(__MODULE__, owner) do
      [{_, watcher}] -> watcher
      [] -> nil
    end
  rescue
    ArgumentError -> nil
  end

  # Of two sessions that do this at once, one is first.
  defp register(owner) do
    watcher = spawn(__MODULE__, :init, [owner])

    if insert({owner, watcher}) do
      watcher
    else
      send(watcher, {:leave, self()})
      lookup(owner) || register(owner)
    end
  end

  defp insert(row) do
    :ets.insert_new(__MODULE__, row)
  rescue
    ArgumentError ->
      ref = make_ref()
      {_, monitor} = spawn_monitor(__MODULE__, :keep, [self(), ref])

      receive do
        {^ref, :kept} -> Process.demonitor(monitor, [:flush])
        # Another one was first.
        {:DOWN, ^monitor, _, _, _} -> :ok
      end

      insert(row)
  end

  @doc false
  def keep(starter, ref) do
    # Not the group leader of whoever came first: it would end with that application.
    Process.group_leader(self(), Process.whereis(:init))
    :ets.new(__MODULE__, [:named_table, :public, read_concurrency: true])
    send(starter, {ref, :kept})
    :erlang.hibernate(__MODULE__, :kept, [])
  rescue
    ArgumentError -> :ok
  end

  @doc false
  def kept do
    receive do
      _ -> :erlang.hibernate(__MODULE__, :kept, [])
    end
  end

  @doc false
  def init(owner) do
    idle(%{
      owner: owner,
      sessions: %{},
      pending: %{},
      looks: @looks,
      most_looks: @looks,
      pause: 1,
      length: nil,
      counted: now(),
      recheck: @recheck,
      balance: @saved,
      balanced: now()
    })
  end

  defp idle(state) do
    receive do
      message -> message |> handle(state) |> next()
    after
      # Whoever wanted this watcher has died before it said so.
      if(state.sessions == %{}, do: 5_000, else: :infinity) -> stop(state)
    end
  end

  defp next(%{pending: pending} = state) when pending != %{}, do: look(state)
  defp next(%{sessions: sessions} = state) when sessions != %{}, do: idle(state)
  defp next(state), do: stop(state)

  # A session that found this watcher before it left the table sees by its monitor that
  # there is nobody.
  defp stop(state), do: forget(state.owner, self())

  defp handle({:watch, session, ref, marks, limits}, state) do
    sessions = Map.put_new_lazy(state.sessions, session, fn -> Process.monitor(session) end)
    pending = Map.put(state.pending, session, {ref, marks, limits})
    fresh(%{state | sessions: sessions, pending: pending})
  end

  defp handle({:leave, session}, state) do
    {monitor, sessions} = Map.pop(state.sessions, session)
    if monitor, do: Process.demonitor(monitor, [:flush])
    %{state | sessions: sessions, pending: Map.delete(state.pending, session)}
  end

  defp handle({:DOWN, _, _, session, _}, state) do
    sessions = Map.delete(state.sessions, session)
    %{state | sessions: sessions, pending: Map.delete(state.pending, session)}
  end

  defp handle(_message, state), do: state

  # Something has changed: look more often again, and what was counted is no measure.
  defp fresh(state),
    do: %{state | looks: state.most_looks, pause: 1, length: nil, recheck: @recheck}

  defp look(state) do
    case Process.info(state.owner, :message_queue_len) do
      {:message_queue_len, length} when length > 0 -> full(length, earn(state))
      # Empty, or dead.
      _ -> state |> quick() |> answer(state.pending, %{}) |> next()
    end
  end

  defp quick(%{looks: looks} = state) when looks > 0,
    do: %{state | most_looks: min(2 * state.most_looks, @looks)}

  defp quick(state), do: state

  # A short mailbox is counted in less time than it takes to fill a window.
  defp full(length, state) when length <= @many and length != state.length, do: count(state)

  defp full(_length, %{looks: 1} = state),
    do: wait(%{state | looks: 0, most_looks: max(div(state.most_looks, 2), @fewest_looks)}, 0)

  defp full(_length, %{looks: looks} = state) when looks > 1 do
    :erlang.yield()
    wait(%{state | looks: looks - 1}, 0)
  end

  defp full(length, state) do
    cond do
      state.balance <= 0 -> pause(state)
      state.length == nil or length < state.length -> count(state)
      state.balanced - state.counted >= state.recheck -> count(state)
      true -> pause(state)
    end
  end

  defp pause(state), do: wait(%{state | pause: min(2 * state.pause, @longest)}, state.pause)

  defp wait(state, pause) do
    receive do
      message -> message |> handle(state) |> next()
    after
      pause -> look(state)
    end
  end

  defp count(state) do
    case Process.info(state.owner, :messages) do
      {:messages, messages} ->
        {length, unread} = unread(messages, state.pending, 0, %{})
        state = paid(%{state | length: length}, length)
        {read, still} = Map.split(state.pending, read(state.pending, unread))

        state = if read == %{}, do: slower(state), else: fresh(state)
        %{state | pending: still} |> answer(read, unread) |> collect(length) |> next()

      nil ->
        state |> answer(state.pending, %{}) |> next()
    end
  end

  defp slower(state) do
    state = %{state | recheck: min(2 * state.recheck, @longest_recheck)}
    %{state | pause: min(2 * state.pause, @longest)}
  end

  # The heap of a count lives no longer than the count, and neither do strangers' binaries.
  defp collect(state, length) do
    if length > @many, do: :erlang.garbage_collect()
    state
  end

  defp earn(state) do
    now = now()
    balance = min(state.balance + div(now - state.balanced, @share), @saved)
    # What is less than one is not lost.
    if balance == state.balance and balance < @saved,
      do: state,
      else: %{state | balance: balance, balanced: now}
  end

  # An owner that was inside of a long native function has not been paid for: one message
  # takes less than a microsecond to copy.
  defp paid(state, length) do
    now = now()
    spent = if length > @many, do: min(now - state.balanced, length), else: 0
    %{state | balance: state.balance - spent, balanced: now, counted: now}
  end

  defp answer(state, pending, unread) do
    for {session, {ref, marks, _}} <- pending,
        do: send(session, {ref, marks, Map.get(unread, session, {0, 0})})

    %{state | pending: Map.drop(state.pending, Map.keys(pending))}
  end

  defp read(pending, unread) do
    for {session, {_, _, {out_limit, err_limit}}} <- pending,
        {out, err} = Map.get(unread, session, {0, 0}),
        out <= out_limit or err <= err_limit,
        do: session
  end

  defp unread([], _pending, length, unread), do: {length, unread}

  defp unread([{session, {tag, payload}} | rest], pending, length, unread)
       when is_map_key(pending, session) and tag in [:data, :error] do
    {out, err} = Map.get(unread, session, {0, 0})
    cost = cost(payload)
    sum = if tag == :data, do: {out + cost, err}, else: {out, err + cost}
    unread(rest, pending, length + 1, Map.put(unread, session, sum))
  end

  defp unread([_ | rest], pending, length, unread), do: unread(rest, pending, length + 1, unread)

  @doc "What a message with this payload costs its owner."
  @spec cost(binary() | {atom(), binary()}) :: non_neg_integer()
  def cost({_, bytes}), do: byte_size(bytes) + @overhead
  def cost(bytes), do: byte_size(bytes) + @overhead

  defp now, do: System.monotonic_time(:microsecond)
end
