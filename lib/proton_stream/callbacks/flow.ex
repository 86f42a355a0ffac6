# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Callbacks.Flow do
  @moduledoc false

  # Output on its way to a callback module. What fits a window is the callback's as it came.
  # The rest waits, and is taken up by a message to itself: between two callbacks the session
  # serves whoever else wants something.

  alias ProtonStream.Buffer
  alias ProtonStream.Callbacks.Calls
  alias ProtonStream.Delivery
  alias ProtonStream.Frame
  alias ProtonStream.Run

  @doc "The program wrote something."
  @spec output(Frame.stream(), binary(), Run.t(), ProtonStream.t()) :: Delivery.reply()
  def output(stream, bytes, run, ps) do
    %{delivery: %{^stream => buffer, more?: more?} = delivery, window: %{^stream => window}} = run

    if buffer.cut == :raw and buffer.bytes == 0 and byte_size(bytes) <= window do
      give(stream, bytes, byte_size(bytes), run, ps)
    else
      run = %{run | delivery: %{delivery | stream => Buffer.put(buffer, bytes)}}
      if more?, do: Run.stored(run, ps), else: more(run, ps)
    end
  end

  @doc "No more of a stream will come."
  @spec end_of_output(Frame.stream(), Run.t(), ProtonStream.t()) :: Delivery.reply()
  def end_of_output(stream, run, ps) do
    run = finish(run, stream)
    if run.delivery.more?, do: Run.stored(run, ps), else: more(run, ps)
  end

  @doc "Takes up what waits, of the stream first that was not the last one."
  @spec more(Run.t(), ProtonStream.t()) :: Delivery.reply()
  def more(%Run{delivery: delivery} = run, ps) do
    run = %{run | delivery: %{delivery | more?: false}}
    first = if delivery.last == :stdout, do: :stderr, else: :stdout
    second = if first == :stdout, do: :stderr, else: :stdout

    with {:none, run} <- next(first, run, ps),
         {:none, run} <- next(second, run, ps) do
      if run.phase == :ended, do: farewell(run, ps), else: Run.stored(run, ps)
    end
  end

  defp next(stream, run, ps) do
    %{^stream => buffer} = run.delivery

    case Buffer.take(buffer, Map.fetch!(run.window, stream)) do
      {:ok, payload, count, buffer} ->
        send(self(), {:"$proton_stream", :more})
        delivery = %{run.delivery | stream => buffer, last: stream, more?: true}
        give(stream, Buffer.own(payload), count, %{run | delivery: delivery}, ps)

      {:none, buffer} ->
        {:none, %{run | delivery: %{run.delivery | stream => buffer}}}

      {:too_large, length} ->
        run |> close({:packet_too_large, length}) |> Run.stored(ps)
    end
  end

  defp give(stream, payload, count, run, ps) do
    name = if stream == :stdout, do: :handle_stdout, else: :handle_stderr

    reply =
      case Calls.exported(name, run, 2) do
        nil -> Run.stored(run, ps)
        callback -> run |> Calls.invoke(callback, [payload, ps.state]) |> Calls.reply(ps)
      end

    # Only now: a callback that takes long holds up the program, not the memory.
    Run.put(Run.handed_on(Run.get(), stream, count))
    reply
  end

  defp finish(%Run{delivery: delivery} = run, stream) do
    %{^stream => buffer} = delivery
    %{run | delivery: %{delivery | stream => Buffer.finish(buffer)}}
  end

  @doc "Ends the program. What waits is not delivered."
  @spec close(Run.t(), term()) :: Run.t()
  def close(%Run{delivery: delivery} = run, reason) do
    delivery = %{delivery | stdout: Buffer.drop(delivery.stdout)}
    Run.close(%{run | delivery: %{delivery | stderr: Buffer.drop(delivery.stderr)}}, reason)
  end

  @doc "The program is dead: `handle_exit/2` comes when all else was given."
  @spec ended(Run.t(), ProtonStream.t()) :: Delivery.reply()
  def ended(run, ps) do
    run = run |> finish(:stdout) |> finish(:stderr)
    if run.delivery.more?, do: Run.stored(run, ps), else: more(run, ps)
  end

  defp farewell(run, ps) do
    case Calls.exported(:handle_exit, run, 2) do
      nil ->
        Run.put(run)
        {:stop, run.reason, ps}

      callback ->
        case Calls.invoke(run, callback, [run.reason, ps.state]) do
          {:stop, reason, state} -> {:stop, reason, %{ps | state: state}}
          other -> {:stop, {:bad_return_value, other}, ps}
        end
    end
  end
end
