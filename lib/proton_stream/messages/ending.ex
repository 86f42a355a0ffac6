# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Messages.Ending do
  @moduledoc false

  # The last words to an owner, when the program is dead and nothing waits to be read. They
  # wait for an owner that is passive, as the end of a passive socket does.

  alias ProtonStream.Herald
  alias ProtonStream.Messages.Flow
  alias ProtonStream.Messages.Owner
  alias ProtonStream.Run

  @doc "Ends the program; what was not delivered is thrown away, also when it has ended."
  @spec close(Run.t(), term()) :: Run.t()
  def close(run, reason) do
    run = run |> Flow.drop() |> Flow.answer({:error, :closed})

    case run do
      %{phase: :running} ->
        Run.close(run, reason)

      %{phase: :ended, delivery: %{asking: nil}} ->
        %{run | closed?: true, reason: overruled(run.reason, reason)}

      _ ->
        run
    end
  end

  # A close that comes when the program has ended makes of any status a close, but not of
  # what went wrong.
  defp overruled({:survivors, _, pids}, reason), do: {:survivors, reason, pids}
  defp overruled({:guardian, why}, _reason), do: {:guardian, why}
  defp overruled(_, reason), do: reason

  @doc "Says the last words if it is time for them, and what a GenServer callback returns."
  @spec tell(Run.t(), ProtonStream.t()) :: ProtonStream.Delivery.reply()
  def tell(%Run{phase: :ended, delivery: %{asking: nil} = delivery} = run, ps) do
    cond do
      delivery.silent -> stop(run, ps)
      not Flow.done?(run) -> run |> Flow.watch(ps) |> Run.stored(ps)
      passive?(run) -> run |> Flow.eof() |> passive(ps)
      true -> last_words(run, ps)
    end
  end

  def tell(run, ps), do: run |> Flow.eof() |> Flow.watch(ps) |> Run.stored(ps)

  defp passive?(%Run{delivery: %{active: active, eof?: eof?}, closed?: closed?}),
    do: active == false and not eof? and not closed?

  defp passive(run, ps), do: if(passive?(run), do: Run.stored(run, ps), else: last_words(run, ps))

  defp last_words(run, ps) do
    report(run, ps)

    if unlink(ps.owner),
      do: Run.stored(%{run | delivery: %{run.delivery | asking: Herald.ask(ps.owner)}}, ps),
      else: stop(run, ps)
  end

  @doc "The answer to whether the owner traps exits, which is the last thing to know."
  @spec asked(boolean(), Run.t(), ProtonStream.t()) :: ProtonStream.Delivery.reply()
  def asked(traps?, run, ps) do
    if traps?, do: Owner.say(run, ps, {:EXIT, self(), run.reason})
    stop(run, ps)
  end

  defp stop(run, ps) do
    Run.put(%{run | phase: :told})
    {:stop, stop_reason(run.reason), ps}
  end

  @doc """
  Either all was told, or somebody stopped the session: then there is nothing left to do but
  to wait, first for the program's death and then for the answer.
  """
  @spec terminate(term(), Run.t(), ProtonStream.t()) :: term()
  def terminate(_reason, %Run{phase: :told} = run, ps), do: late_closes(run, ps)

  def terminate(reason, run, ps) do
    run = Run.shut(run, reason)
    run = if run.phase == :ended, do: %{run | reason: reason}, else: run

    case run.delivery do
      %{silent: true} -> :ok
      %{asking: nil} -> report(run, ps)
      _ -> :ok
    end

    ref =
      run.delivery.asking ||
        (!run.delivery.silent && unlink(ps.owner) && Herald.ask(ps.owner))

    if ref, do: goodbye(ref, plain(reason), run, ps)
    late_closes(run, ps)
  end

  defp goodbye(ref, reason, run, ps) do
    receive do
      {^ref, true} -> Owner.say(run, ps, {:EXIT, self(), reason})
      {^ref, false} -> :ok
    end
  end

  # Requests that are in the mailbox when the session ends get their answer too.
  defp late_closes(run, %{owner: owner} = ps) do
    receive do
      {^owner, :close} ->
        run |> Herald.closed(owner) |> late_closes(ps)

      {:"$proton_stream", :close, pid, witness} when is_pid(witness) ->
        Herald.seen(witness)
        run = if pid == owner, do: Herald.closed(run, owner), else: run
        late_closes(run, ps)
    after
      0 -> :ok
    end
  end

  defp report(run, ps) do
    status = run.delivery.exit_status && !run.closed? && status(run.reason)
    if status, do: Owner.say(run, ps, {self(), {:exit_status, status}})

    if run.delivery.exit_report,
      do: Owner.say(run, ps, {self(), {:exit_report, Run.exit_report(run)}})
  end

  defp status({:survivors, reason, _pids}), do: status(reason)
  defp status({:exit_status, status}), do: status
  defp status({:signal, number}), do: 128 + number
  defp status(:normal), do: 0
  defp status(_reason), do: nil

  # Whether there was a link. Unlinked first, so that the session's own end is no exit
  # signal to an owner that doesn't trap.
  defp unlink(owner) do
    {:links, links} = Process.info(self(), :links)
    Process.unlink(owner)
    owner in links
  end

  defp plain({:shutdown, reason}), do: reason
  defp plain(reason), do: reason

  defp stop_reason(:normal), do: :normal
  defp stop_reason(:shutdown), do: :shutdown
  defp stop_reason({:shutdown, _} = reason), do: reason
  defp stop_reason(reason), do: {:shutdown, reason}
end
