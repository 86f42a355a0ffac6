# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Watcher do
  @moduledoc false

  alias ProtonStream.Watcher.Mailbox
  alias ProtonStream.Watcher.Table

  # Looks into an owner's mailbox for sessions that have handed on a whole window: has it
  # been read? Not the session itself, because the question waits for as long as the owner
  # is inside of a long native function. One watcher serves all sessions of an owner, so
  # that an owner of hundreds is looked at once.
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
  #
  # Who reads among many strangers is not kept waiting for that. A count that finds something
  # read is free, and so is the next one, if the mailbox has become shorter by then, or is as
  # long as the strangers alone were: the owner reads what it gets, as far as one can tell.
  # The first that finds nothing ends it. And in a crowd a session is told so: the count costs
  # several times what the owner's own look for a message does, so it may hand on more at once.

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

  # A mailbox of more than this is paid for, and counted by a process of its own.
  @many 100

  # So many strangers are a crowd.
  @crowd 1_000

  @type marks :: {non_neg_integer(), non_neg_integer()}
  @type limits :: {integer(), integer()}

  @doc "The watcher of an owner, and the calling session's monitor of it."
  @spec join(pid()) :: {pid(), reference()}
  def join(owner) do
    watcher = Table.lookup(owner) || register(owner)
    {watcher, Process.monitor(watcher)}
  end

  @doc """
  Asks for a message `{ref, marks, unread, crowd?}` when of one stream no more than its
  limit is unread: the marks as given, what of each stream is still in the mailbox, and
  whether there are many others' messages. A limit below 0 is never met.
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
  defdelegate forget(owner, watcher), to: Table, as: :delete

  # Of two sessions that do this at once, one is first.
  defp register(owner) do
    watcher = spawn(__MODULE__, :init, [owner])

    if Table.insert(owner, watcher) do
      watcher
    else
      send(watcher, {:leave, self()})
      Table.lookup(owner) || register(owner)
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
      longest: nil,
      strangers: nil,
      reads?: false,
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
  defp stop(state), do: Table.delete(state.owner, self())

  defp handle({:watch, session, ref, marks, limits}, %{sessions: sessions} = state)
       when is_map_key(sessions, session),
       do: fresh(state, Map.put(state.pending, session, {ref, marks, limits}))

  defp handle({:watch, session, _ref, _marks, _limits} = message, state) do
    sessions = Map.put(state.sessions, session, Process.monitor(session))
    handle(message, %{state | sessions: sessions})
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
  defp fresh(%{most_looks: looks} = state, pending) do
    %{
      state
      | pending: pending,
        looks: looks,
        pause: 1,
        length: nil,
        longest: nil,
        recheck: @recheck
    }
  end

  defp look(state) do
    case Process.info(state.owner, :message_queue_len) do
      {:message_queue_len, length} when length > 0 -> full(length, earn(state))
      # Empty, or dead.
      _ -> state |> quick() |> answer_all() |> next()
    end
  end

  defp quick(%{looks: looks} = state) when looks > 0,
    do: %{state | most_looks: min(2 * state.most_looks, @looks)}

  defp quick(state), do: state

  # A short mailbox is counted in less time than it takes to fill a window.
  defp full(length, state) when length <= @many and length != state.length,
    do: count(state, length)

  defp full(length, state) do
    cond do
      ripe?(length, state) -> state |> quick() |> count(length)
      state.looks > 0 -> state |> longest(length) |> look_again()
      state.balance <= 0 -> pause(longest(state, length))
      state.length == nil or length < state.length -> count(state, length)
      state.balanced - state.counted >= state.recheck -> count(state, length)
      true -> pause(longest(state, length))
    end
  end

  # Somebody who reads has probably done so again.
  defp ripe?(length, %{reads?: true, strangers: strangers, longest: longest})
       when strangers != nil,
       do: length <= strangers or (longest != nil and length < longest)

  defp ripe?(_length, _state), do: false

  defp longest(%{longest: longest} = state, length) when longest == nil or length > longest,
    do: %{state | longest: length}

  defp longest(state, _length), do: state

  defp look_again(%{looks: 1} = state),
    do: wait(%{state | looks: 0, most_looks: max(div(state.most_looks, 2), @fewest_looks)}, 0)

  defp look_again(state) do
    :erlang.yield()
    wait(%{state | looks: state.looks - 1}, 0)
  end

  defp pause(state), do: wait(%{state | pause: min(2 * state.pause, @longest)}, state.pause)

  defp wait(state, pause) do
    receive do
      message -> message |> handle(state) |> next()
    after
      pause -> look(state)
    end
  end

  defp count(%{owner: owner, pending: pending} = state, length) do
    case if(length > @many, do: apart(owner, pending), else: Mailbox.count(owner, pending)) do
      {length, strangers, unread} ->
        {read, still} = Map.split(pending, Mailbox.read(pending, unread))
        reads? = read != %{}
        state = paid(%{state | length: length, strangers: strangers, reads?: reads?}, length)
        answer(read, unread, strangers >= @crowd)
        state = if reads?, do: fresh(state, still), else: slower(state)
        next(state)

      nil ->
        state |> answer_all() |> next()
    end
  end

  # The heap of a count lives no longer than the count, nor do strangers' binaries, and to give
  # it back holds nobody up.
  defp apart(owner, pending) do
    {_, monitor} = spawn_monitor(fn -> exit({:counted, Mailbox.count(owner, pending)}) end)

    receive do
      {:DOWN, ^monitor, _, _, {:counted, result}} -> result
      {:DOWN, ^monitor, _, _, reason} -> exit(reason)
    end
  end

  defp slower(state) do
    state = %{state | recheck: min(2 * state.recheck, @longest_recheck)}
    %{state | pause: min(2 * state.pause, @longest)}
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
  # takes less than a microsecond to copy. Nor is who gets something for it.
  defp paid(state, length) do
    now = now()
    free? = state.reads? or length <= @many
    spent = if free?, do: 0, else: min(now - state.balanced, length)
    %{state | balance: state.balance - spent, balanced: now, counted: now}
  end

  # Nothing is unread.
  defp answer_all(%{pending: pending} = state) do
    answer(pending, %{}, false)
    %{state | pending: %{}, strangers: nil}
  end

  defp answer(pending, unread, crowd?) do
    :maps.foreach(
      fn session, {ref, marks, _} ->
        send(session, {ref, marks, Map.get(unread, session, {0, 0}), crowd?})
      end,
      pending
    )
  end

  defp now, do: System.monotonic_time(:microsecond)
end
