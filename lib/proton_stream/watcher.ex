# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Watcher do
  @moduledoc false

  # Looks into an owner's mailbox for a session that has handed on a whole window: has it
  # been read? Not the session itself, because the question waits for as long as the owner
  # is inside of a long native function; and a new one for each owner, because the old one
  # may be waiting there.

  # Milliseconds between two looks, doubled each time nothing was read. The longest is
  # what an owner that slept waits at most until its stream flows again.
  @longest 16

  # A mailbox that isn't empty may be full of strangers. Then our own messages have to be
  # counted, which copies all of it: at most a twentieth of the time is spent on that.
  @share 20

  @type marks :: {non_neg_integer(), non_neg_integer()}

  @doc "A watcher of one owner for the calling session."
  @spec start(pid()) :: pid()
  def start(owner), do: spawn(__MODULE__, :init, [self(), owner])

  @doc """
  Asks for a message `{ref, marks, unread}` when less than `outstanding` of what was
  handed on is unread: the marks as given, and how much of each stream is still in the
  mailbox.
  """
  @spec watch(pid(), marks(), marks()) :: reference()
  def watch(watcher, marks, outstanding) do
    ref = make_ref()
    send(watcher, {:watch, ref, marks, outstanding})
    ref
  end

  @spec stop(pid()) :: :ok
  def stop(watcher) do
    send(watcher, :stop)
    :ok
  end

  @doc false
  def init(session, owner), do: idle(session, owner, Process.monitor(session))

  defp idle(session, owner, monitor) do
    receive do
      {:watch, ref, marks, outstanding} ->
        case look(session, owner, monitor, 0, outstanding) do
          :stop ->
            :ok

          unread ->
            send(session, {ref, marks, unread})
            idle(session, owner, monitor)
        end

      :stop ->
        :ok

      {:DOWN, ^monitor, _, _, _} ->
        :ok
    end
  end

  defp look(session, owner, monitor, pause, before) do
    case Process.info(owner, :message_queue_len) do
      {:message_queue_len, 0} -> {0, 0}
      nil -> {0, 0}
      # The owner is perhaps about to run: one turn of the scheduler is the shortest wait.
      _ when pause == 0 -> pause(session, owner, monitor, 0, before)
      _ -> count(session, owner, monitor, pause, before)
    end
  end

  defp count(session, owner, monitor, pause, before) do
    started = System.monotonic_time(:millisecond)

    case Process.info(owner, :messages) do
      nil ->
        {0, 0}

      {:messages, messages} ->
        now = unread(messages, session, 0, 0)
        spent = System.monotonic_time(:millisecond) - started

        if read?(before, now),
          do: now,
          else: pause(session, owner, monitor, max(pause, spent * @share), before)
    end
  end

  defp read?({out, err}, {out_now, err_now}), do: out_now < out or err_now < err

  defp pause(session, owner, monitor, pause, before) do
    receive do
      :stop -> :stop
      {:DOWN, ^monitor, _, _, _} -> :stop
    after
      pause -> look(session, owner, monitor, min(max(1, 2 * pause), max(@longest, pause)), before)
    end
  end

  defp unread([], _session, out, err), do: {out, err}

  defp unread([{session, {:data, bytes}} | rest], session, out, err),
    do: unread(rest, session, out + byte_size(bytes), err)

  defp unread([{session, {:error, bytes}} | rest], session, out, err),
    do: unread(rest, session, out, err + byte_size(bytes))

  defp unread([_ | rest], session, out, err), do: unread(rest, session, out, err)
end
