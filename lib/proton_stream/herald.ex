# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Herald do
  @moduledoc false

  # The small processes beside a session, for what it can't do itself.
  #
  # A dead process can't say that it is dead: `{ps, :closed}` comes from a herald, which
  # monitors the session. The VM orders what one process sends to another, not what two
  # send to a third, so an owner on another node hears everything through the herald.

  alias ProtonStream.Run

  @doc "The calling session's run, with a herald."
  @spec of(Run.t()) :: Run.t()
  def of(%Run{herald: nil} = run), do: %{run | herald: spawn(__MODULE__, :init, [self()])}
  def of(%Run{} = run), do: run

  @doc "Says something now."
  @spec say(pid(), pid(), term()) :: :ok
  def say(herald, to, message) do
    send(herald, {:say, to, message})
    :ok
  end

  @doc "Has somebody told `{ps, :closed}` once the session is dead."
  @spec closed(Run.t(), pid()) :: Run.t()
  def closed(run, to) do
    run = of(run)
    send(run.herald, {:closed, to})
    run
  end

  @doc """
  Sends the calling session `{ref, traps?}`: whether a process traps exits.

  That question waits for as long as the process asked is inside of a long native function.
  """
  @spec ask(pid()) :: reference()
  def ask(pid) do
    ref = make_ref()
    spawn(__MODULE__, :answer, [self(), ref, pid])
    ref
  end

  @doc """
  Sees to the answer of a close request that its sender makes to `ps` right after this.

  A session that is dead, or dies before it reads the request, can't answer, so the
  witness does. A session that has read it says so to the witness first.
  """
  @spec witness(GenServer.server(), pid()) :: pid()
  def witness(ps, requester), do: spawn(__MODULE__, :watch, [ps, requester])

  @doc "The session has read the request."
  @spec seen(pid()) :: :ok
  def seen(witness) do
    send(witness, {:seen, self()})
    :ok
  end

  @doc false
  def init(session), do: loop(session, Process.monitor(session), [])

  defp loop(session, monitor, closers) do
    receive do
      {:say, to, message} ->
        send(to, message)
        loop(session, monitor, closers)

      {:closed, to} ->
        loop(session, monitor, [to | closers])

      {:DOWN, ^monitor, _, _, _} ->
        for to <- Enum.reverse(closers), do: send(to, {session, :closed})
    end
  end

  @doc false
  def answer(session, ref, pid), do: send(session, {ref, traps?(pid)})

  defp traps?(pid) when node(pid) == node(), do: trap_exit(Process.info(pid, :trap_exit))

  defp traps?(pid) do
    trap_exit(:erpc.call(node(pid), Process, :info, [pid, :trap_exit], 5_000))
  catch
    _, _ -> false
  end

  defp trap_exit({:trap_exit, traps?}), do: traps?
  defp trap_exit(nil), do: false

  @doc false
  def watch(ps, requester) do
    monitor = Process.monitor(ps)

    receive do
      {:seen, _} -> :ok
      {:DOWN, ^monitor, _, _, _} -> send(requester, {ps, :closed})
    end
  end
end
