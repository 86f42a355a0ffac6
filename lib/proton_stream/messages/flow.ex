# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Messages.Flow do
  @moduledoc false

  # How much of a program's output reaches its owner, and when: as it comes while the
  # window has room, as many messages as were asked for, or one answer for each read.
  # Everything here takes a `Run` and returns one; nobody stores it.

  alias ProtonStream.Frame
  alias ProtonStream.Messages.Ending
  alias ProtonStream.Messages.Owner
  alias ProtonStream.Run
  alias ProtonStream.Watcher
  alias ProtonStream.Window

  @type mode :: boolean() | :once | integer()

  # Bytes beyond its windows for an owner with a mailbox full of others' messages, where
  # seeing what was read costs as much as ten looks through that mailbox. With two windows
  # and what chunks keep beside themselves it stays below the 64 KiB that are promised.
  @crowded 57_344

  @doc "Takes what the program has written."
  @spec put(Run.t(), Frame.stream(), binary()) :: Run.t()
  def put(run, stream, bytes) do
    %{^stream => window} = run.delivery
    {_lost, window} = Window.put(window, bytes)
    run = %{run | delivery: %{run.delivery | stream => window}}

    # A program that nobody must wait for is not kept waiting for what is not dropped either.
    if window.overflow == :block, do: run, else: Run.handed_on(run, stream, byte_size(bytes))
  end

  @doc "No more of this stream will come."
  @spec finish(Run.t(), Frame.stream()) :: Run.t()
  def finish(run, stream) do
    %{^stream => window} = run.delivery
    %{run | delivery: %{run.delivery | stream => Window.finish(window)}}
  end

  @doc "Throws away what waits."
  @spec drop(Run.t()) :: Run.t()
  def drop(%Run{delivery: delivery} = run) do
    delivery = %{delivery | stdout: Window.drop(delivery.stdout)}
    %{run | delivery: %{delivery | stderr: Window.drop(delivery.stderr)}}
  end

  @doc "Whether all was handed on that will ever be."
  @spec done?(Run.t()) :: boolean()
  def done?(%Run{delivery: delivery}),
    do: Window.done?(delivery.stdout) and Window.done?(delivery.stderr)

  @doc "Hands on what may be, of the stream first that was not the last one."
  @spec flush(Run.t(), ProtonStream.t()) :: Run.t()
  def flush(%Run{delivery: %{last: :stdout}} = run, ps),
    do: run |> flush(:stderr, ps) |> flush(:stdout, ps)

  def flush(run, ps), do: run |> flush(:stdout, ps) |> flush(:stderr, ps)

  @spec flush(Run.t(), Frame.stream(), ProtonStream.t()) :: Run.t()
  def flush(%Run{delivery: %{active: false, reader: nil}} = run, _stream, _ps), do: run

  def flush(%Run{delivery: delivery} = run, stream, ps) do
    %{^stream => window} = delivery

    cond do
      Window.empty?(window) -> run
      delivery.active == false -> answered(run, stream, ps)
      true -> run |> many(stream, ps) |> one(stream, ps)
    end
  end

  defp answered(run, stream, ps) do
    case next(run, stream, :all, ps) do
      {:ok, item, run} -> answer(run, {:ok, item})
      {:none, run} -> run
    end
  end

  # Many may have been all that was asked for.
  defp one(%Run{delivery: %{active: false}} = run, _stream, _ps), do: run

  defp one(run, stream, ps) do
    case next(run, stream, :room, ps) do
      {:ok, {kind, payload}, run} ->
        Owner.say(run, ps, {self(), {tag(kind), payload}})
        run |> counted(1, ps) |> others(stream, ps)

      {:none, run} ->
        run
    end
  end

  defp others(%Run{delivery: delivery} = run, stream, ps) do
    %{^stream => window} = delivery
    if Window.spent?(window), do: run, else: flush(run, stream, ps)
  end

  # Lines and packets, of which a window may hold dozens.
  defp many(run, stream, ps) do
    %{^stream => window, active: active} = run.delivery

    case Window.take_many(window, most(active, window)) do
      {[], _, _} ->
        run

      {payloads, bytes, window} ->
        Owner.say_each(run, ps, tag(stream), payloads)
        window = if remote?(ps), do: Window.moved(window), else: window
        run |> left(stream, bytes, window) |> counted(length(payloads), ps)
    end
  end

  # A message costs more than a byte, so a window has room for fewer.
  defp most(true, window), do: window.size
  defp most(:once, _window), do: 1
  defp most(n, _window), do: n

  # So many bytes of a stream are the owner's now.
  defp left(run, stream, count, window) do
    run = %{run | delivery: %{run.delivery | stream => window, last: stream}}
    if window.overflow == :block, do: Run.handed_on(run, stream, count), else: run
  end

  # The next item of a stream, which by this leaves the session.
  defp next(run, stream, how, ps) do
    %{^stream => window} = run.delivery

    case window |> Window.allow(extra(run.delivery, stream)) |> Window.take(how) do
      {:ok, payload, count, window} ->
        window = if how == :all or remote?(ps), do: Window.moved(window), else: window
        {:ok, {stream, payload}, left(run, stream, count, window)}

      {:dropped, count, window} ->
        delivery = %{run.delivery | stream => window}
        {:ok, {:dropped, {stream, count}}, %{run | delivery: delivery}}

      {:none, ^window} ->
        {:none, run}

      {:none, window} ->
        {:none, %{run | delivery: %{run.delivery | stream => window}}}

      {:too_large, length} ->
        {:none, Ending.close(run, {:packet_too_large, length})}
    end
  end

  # What one stream may have beyond its window in a crowd, the other one may not: of both
  # together no more than that is unread beyond both windows.
  defp extra(%{crowd?: false}, _stream), do: 0
  defp extra(%{stderr: other}, :stdout), do: max(@crowded - Window.beyond(other), 0)
  defp extra(%{stdout: other}, :stderr), do: max(@crowded - Window.beyond(other), 0)

  defp tag(:stdout), do: :data
  defp tag(:stderr), do: :error
  defp tag(:dropped), do: :dropped

  defp remote?(ps), do: node(ps.owner) != node()

  # So many messages less to go.
  defp counted(%Run{delivery: %{active: true}} = run, _count, _ps), do: run
  defp counted(%Run{delivery: %{active: :once}} = run, _count, _ps), do: mode(run, false)
  defp counted(%Run{delivery: %{active: count}} = run, count, ps), do: passive(run, ps)
  defp counted(%Run{delivery: %{active: n}} = run, count, _ps), do: mode(run, n - count)

  defp passive(run, ps) do
    Owner.say(run, ps, {self(), :passive})
    mode(run, false)
  end

  defp mode(run, active), do: %{run | delivery: %{run.delivery | active: active}}

  @doc "As `:inet` has it: a number is added to what is left of the last one."
  @spec activate(Run.t(), mode(), ProtonStream.t()) :: Run.t()
  def activate(run, n, ps) when is_integer(n) do
    left = if is_integer(run.delivery.active), do: run.delivery.active, else: 0
    if left + n > 0, do: mode(run, left + n), else: passive(run, ps)
  end

  def activate(run, active, _ps), do: mode(run, active)

  @doc "What a reader gets: an answer at once, or what is there by the end of the timeout."
  @spec read(Run.t(), GenServer.from(), timeout(), ProtonStream.t()) :: Run.t()
  def read(run, from, timeout, ps) do
    delivery = run.delivery

    cond do
      run.closed? ->
        reply(run, from, {:error, :closed})

      delivery.active != false or delivery.reader != nil ->
        reply(run, from, {:error, :einval})

      true ->
        timer = if timeout != :infinity, do: :erlang.start_timer(timeout, self(), :read)
        run = %{run | delivery: %{delivery | reader: {from, timer}}}
        run |> flush(ps) |> eof()
    end
  end

  @doc "Tells a reader that there is nothing more to read."
  @spec eof(Run.t()) :: Run.t()
  def eof(%Run{delivery: %{reader: nil}} = run), do: run

  def eof(run) do
    if done?(run),
      do: answer(%{run | delivery: %{run.delivery | eof?: true}}, :eof),
      else: run
  end

  @doc "Answers whoever reads."
  @spec answer(Run.t(), term()) :: Run.t()
  def answer(%Run{delivery: %{reader: nil}} = run, _answer), do: run

  def answer(%Run{delivery: %{reader: {from, timer}}} = run, answer) do
    if timer, do: :erlang.cancel_timer(timer, async: true, info: false)
    reply(%{run | delivery: %{run.delivery | reader: nil}}, from, answer)
  end

  defp reply(run, from, answer) do
    GenServer.reply(from, answer)
    run
  end

  @doc "Something could not be handed on: have a look at whether the owner reads."
  @spec watch(Run.t(), ProtonStream.t()) :: Run.t()
  def watch(%Run{delivery: %{watching: nil, active: active} = delivery} = run, ps)
      when active != false do
    %{stdout: stdout, stderr: stderr} = delivery

    case {Window.limit(stdout), Window.limit(stderr)} do
      # Neither stream waits for its owner.
      {-1, -1} ->
        run

      limits ->
        watcher = {pid, _} = delivery.watcher || Watcher.join(ps.owner)
        ref = Watcher.watch(pid, {stdout.sent, stderr.sent}, limits)
        %{run | delivery: %{delivery | watcher: watcher, watching: ref}}
    end
  end

  def watch(run, _ps), do: run

  @doc "The watcher's answer."
  @spec seen(Run.t(), Watcher.marks(), Watcher.marks(), boolean()) :: Run.t()
  def seen(%Run{delivery: delivery} = run, {out, err}, {out_unread, err_unread}, crowd?) do
    stdout = Window.read(delivery.stdout, out, out_unread)
    stderr = Window.read(delivery.stderr, err, err_unread)
    delivery = %{delivery | stdout: stdout, stderr: stderr, watching: nil, crowd?: crowd?}
    %{run | delivery: delivery}
  end

  @doc "A new owner has read nothing yet, and nothing to read."
  @spec moved(Run.t(), ProtonStream.t()) :: Run.t()
  def moved(%Run{delivery: delivery} = run, _ps) do
    with {pid, monitor} <- delivery.watcher, do: Watcher.leave(pid, monitor)
    stdout = Window.moved(delivery.stdout)
    delivery = %{delivery | watcher: nil, watching: nil, crowd?: false, stdout: stdout}

    answer(
      %{run | delivery: %{delivery | stderr: Window.moved(delivery.stderr)}},
      {:error, :not_owner}
    )
  end

  @doc "The watcher has ended, which it doesn't do by itself while it is asked something."
  @spec unwatched(Run.t(), ProtonStream.t()) :: Run.t()
  def unwatched(%Run{delivery: %{watcher: {pid, _}} = delivery} = run, ps) do
    Watcher.forget(ps.owner, pid)
    %{run | delivery: %{delivery | watcher: nil, watching: nil}}
  end
end
