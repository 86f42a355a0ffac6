# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Run do
  @moduledoc false

  # What a session knows of its program, beside the `%ProtonStream{}` that
  # `:sys.get_state/1` shows. It lives in the session's process dictionary: the state of
  # the GenServer is the public struct and nothing else, and the functions that a callback
  # calls on `self()` can answer from here. It is erased before the process ends, so that
  # no crash report prints what was queued.

  alias ProtonStream.Frame
  alias ProtonStream.Group
  alias ProtonStream.Guardian
  alias ProtonStream.Orphans
  alias ProtonStream.Signal
  alias ProtonStream.Stdin

  @key :"$proton_stream_run"
  @version 1

  # A guardian that was told to close names what it could not kill less than two seconds after
  # the kill delay. One that has not is stuck. A nursery kills it, and what it holds; without
  # one there is nothing to be done but to wait a little longer.
  @patience 2_000
  @slack 5_000

  @enforce_keys [:guardian, :level, :stdin, :return, :kill_delay, :window, :mode, :delivery]
  defstruct [
    :guardian,
    :os_pid,
    :level,
    :cgroup,
    :stdin,
    :return,
    :kill_delay,
    :window,
    :mode,
    :delivery,
    :deadline,
    :herald,
    :report,
    :reason,
    :orphans,
    questions: Group.new(),
    version: @version,
    phase: :running,
    closed?: false,
    requested: :normal,
    owed: %{stdout: 0, stderr: 0},
    bytes: %{stdout: 0, stderr: 0}
  ]

  @typedoc """
  `:running`; `:closing` from a close to the guardian's last frame, when output is thrown
  away; `:ended` when the program is dead and its end is still to be told; `:told`.
  """
  @type phase :: :running | :closing | :ended | :told
  @type t :: %__MODULE__{}

  @spec slack() :: pos_integer()
  def slack, do: @slack

  @spec get() :: t() | nil
  def get, do: Process.get(@key)

  @spec put(t()) :: :ok
  def put(%__MODULE__{} = run) do
    Process.put(@key, run)
    :ok
  end

  @doc "Keeps the run, and is what a GenServer callback returns that has nothing else to say."
  @spec stored(t(), ProtonStream.t()) :: {:noreply, ProtonStream.t()}
  def stored(%__MODULE__{} = run, ps) do
    put(run)
    {:noreply, ps}
  end

  @doc "Without this what is not iodata would be found where it ends the session."
  @spec iodata?(term()) :: boolean()
  def iodata?(data) do
    IO.iodata_length(data) >= 0
  rescue
    ArgumentError -> false
  end

  @spec erase() :: t() | nil
  def erase, do: Process.delete(@key)

  @doc "A run that an older version of this package has made."
  @spec upgrade(t()) :: t()
  def upgrade(%{version: @version} = run), do: run

  @doc "Sends what stdin's credit allows."
  @spec pump(t()) :: t()
  def pump(%__MODULE__{stdin: stdin} = run) do
    case Stdin.take(stdin) do
      {nil, stdin} ->
        %{run | stdin: stdin}

      {frame, stdin} ->
        Guardian.send(run.guardian, Frame.encode(frame))
        pump(%{run | stdin: stdin})
    end
  end

  @doc "Queues bytes for the program, if it still takes any."
  @spec push(t(), iodata()) :: {:ok, t()} | {:error, :closed | Stdin.refusal()}
  def push(%__MODULE__{phase: :running} = run, data) do
    with {:ok, stdin} <- Stdin.push(run.stdin, data), do: {:ok, pump(%{run | stdin: stdin})}
  end

  def push(%__MODULE__{}, _data), do: {:error, :closed}

  @spec eof(t()) :: t()
  def eof(%__MODULE__{phase: :running} = run), do: pump(%{run | stdin: Stdin.eof(run.stdin)})
  def eof(%__MODULE__{} = run), do: run

  @spec signal(t(), term(), :program | :tree) :: :ok
  def signal(%__MODULE__{phase: :running} = run, signal, scope) do
    case Signal.number(signal) do
      {:ok, number} -> Guardian.send(run.guardian, Frame.encode({:signal, number, scope}))
      :error -> :ok
    end
  end

  def signal(%__MODULE__{}, _signal, _scope), do: :ok

  @doc "Bytes of a stream were handed on, so the guardian may send as many more."
  @spec handed_on(t(), Frame.stream(), non_neg_integer()) :: t()
  def handed_on(%__MODULE__{phase: :running, owed: owed} = run, stream, count) do
    %{^stream => before} = owed
    %{^stream => return} = run.return

    if before + count < return do
      %{run | owed: %{owed | stream => before + count}}
    else
      Guardian.send(run.guardian, Frame.encode({:credit, stream, before + count}))
      %{run | owed: %{owed | stream => 0}}
    end
  end

  def handed_on(%__MODULE__{} = run, _stream, _count), do: run

  @doc "Asks the guardian about the program's cgroup; the answer comes later."
  @spec ask(t(), Group.question(), GenServer.from()) :: {:ok, t()} | {:error, :closed}
  def ask(%__MODULE__{phase: :running} = run, question, from) do
    {now, questions} = Group.ask(run.questions, question, from)
    question(run, now)
    {:ok, %{run | questions: questions}}
  end

  def ask(%__MODULE__{}, _question, _from), do: {:error, :closed}

  defp question(_run, nil), do: :ok
  defp question(run, question), do: Guardian.send(run.guardian, Frame.encode(question))

  @doc "The guardian's answer; `:error` where there was no question."
  @spec answered(t(), Frame.from_guardian()) :: {:ok, t()} | :error
  def answered(%__MODULE__{} = run, frame) do
    with {:ok, from, answer, next, questions} <- Group.answered(run.questions, frame) do
      GenServer.reply(from, answer)
      question(run, next)
      {:ok, %{run | questions: questions}}
    end
  end

  @doc "Asks, and waits for the answer: for a callback, which nobody else can answer."
  @spec ask_now(t(), Group.question()) :: term()
  def ask_now(%__MODULE__{} = run, question) do
    # A call to oneself whose reply is picked up below.
    ref = make_ref()

    with {:ok, run} <- ask(run, question, {self(), ref}) do
      put(run)
      await(ref, Guardian.deadline(@slack))
    end
  end

  # Others may have asked before.
  defp await(ref, deadline) do
    receive do
      {^ref, answer} -> answer
    after
      0 ->
        run = get()

        with frame when is_binary(frame) <-
               Guardian.answer(run.guardian, Guardian.left(deadline)),
             {:ok, frame} <- Frame.decode(frame, :guardian),
             {:ok, run} <- answered(run, frame) do
          put(run)
          await(ref, deadline)
        else
          _ -> {:error, :closed}
        end
    end
  end

  @doc "Tells the guardian to end the program; from now on its output is thrown away."
  @spec close(t(), term()) :: t()
  def close(%__MODULE__{phase: :running} = run, reason) do
    Guardian.send(run.guardian, Frame.encode(:close))
    deadline = :erlang.start_timer(patience(run), self(), {:"$proton_stream", :close})

    release(
      %{run | phase: :closing, closed?: true, requested: reason, deadline: deadline},
      :closed
    )
  end

  def close(%__MODULE__{} = run, _reason), do: run

  defp patience(%__MODULE__{guardian: guardian, kill_delay: delay}) do
    case Guardian.transport(guardian) do
      :nursery -> delay + @patience
      :port -> delay + @slack
    end
  end

  @doc "The program is dead, or nobody knows. Answers those who wait for its stdin."
  @spec ended(t(), term()) :: t()
  def ended(%__MODULE__{} = run, reason) do
    if run.deadline, do: :erlang.cancel_timer(run.deadline, async: true, info: false)
    if run.orphans, do: Orphans.stop(run.orphans)
    run = %{run | phase: :ended, os_pid: nil, deadline: nil, orphans: nil, reason: reason}
    run |> unanswered() |> release(:closed)
  end

  @doc "Closes, and waits for the end: for when a session itself has to go."
  @spec shut(t(), term()) :: t()
  def shut(%__MODULE__{phase: phase} = run, reason) when phase in [:running, :closing] do
    run = close(run, reason)
    run = last(run, Guardian.deadline(patience(run)))
    Guardian.close(run.guardian)
    run
  end

  def shut(%__MODULE__{} = run, _reason), do: run

  defp last(%__MODULE__{orphans: orphans} = run, _deadline) when orphans != nil do
    {:done, why, pids} = Orphans.await(orphans)
    alone(run, why, pids)
  end

  defp last(run, deadline) do
    case Guardian.await(run.guardian, deadline) do
      {:frame, frame} ->
        case Frame.decode(frame, :guardian) do
          {:ok, {:exit, report}} -> ended(%{run | report: report}, reason(run, report))
          {:ok, {:error, code, sentence}} -> last(failed(run, code, sentence), deadline)
          {:ok, answer} -> last(late(run, answer), deadline)
          {:error, sentence} -> ended(run, {:guardian, {:protocol, sentence}})
        end

      {:closed, why} ->
        last(orphaned(run, run.reason || {:guardian, why}))

      :timeout ->
        last(given_up(run))
    end
  end

  defp last({:waiting, run}), do: last(run, :infinity)
  defp last({:ended, run}), do: run

  # Of all that may still come an answer is the only thing that somebody waits for.
  defp late(run, frame) do
    with true <- Group.answer?(frame), {:ok, run} <- answered(run, frame) do
      run
    else
      _ -> run
    end
  end

  @doc "Whether the guardian has said its last word, and has nothing left to do."
  @spec clean?(t()) :: boolean()
  def clean?(%__MODULE__{report: %{survivors: [], cause: cause}}) when is_atom(cause), do: true
  def clean?(%__MODULE__{}), do: false

  @doc "The guardian does nothing any more. Who can't have it killed leaves its program alive."
  @spec given_up(t()) :: {:waiting | :ended, t()}
  def given_up(%__MODULE__{guardian: guardian} = run) do
    case Guardian.transport(guardian) do
      :nursery -> orphaned(run, {:guardian, :timeout})
      :port -> {:ended, ended(run, stuck(run))}
    end
  end

  defp stuck(%__MODULE__{os_pid: nil}), do: {:guardian, :timeout}
  defp stuck(%__MODULE__{os_pid: os_pid}), do: {:survivors, {:guardian, :timeout}, [os_pid]}

  @doc "The guardian told of an error of its own; its end follows."
  @spec failed(t(), atom(), binary()) :: t()
  def failed(run, :short_frame, _sentence), do: %{run | reason: {:guardian, :short_frame}}
  def failed(run, code, sentence), do: %{run | reason: {:guardian, {code, sentence}}}

  @doc "Whoever waits for stdin is told that nothing more will be written."
  @spec release(t(), :epipe | :closed) :: t()
  def release(%__MODULE__{} = run, why) do
    {waiting, stdin} = Stdin.gone(run.stdin)
    for from <- waiting, do: GenServer.reply(from, {:error, why})
    %{run | stdin: stdin}
  end

  # The guardian will answer nothing more.
  defp unanswered(%__MODULE__{} = run) do
    for from <- Group.waiting(run.questions), do: GenServer.reply(from, {:error, :closed})
    %{run | questions: Group.new()}
  end

  @doc """
  The guardian died without a last word. What it may have left is ended first, and then the end
  is told: `alone/3`.
  """
  @spec orphaned(t(), term()) :: {:waiting | :ended, t()}
  def orphaned(%__MODULE__{} = run, reason) do
    Guardian.close(run.guardian)

    case Orphans.start(run.guardian, run.cgroup) do
      nil -> {:ended, ended(run, reason)}
      orphans -> {:waiting, %{unanswered(run) | orphans: orphans, reason: reason}}
    end
  end

  @doc "Nobody is left, or these are; and perhaps it is known now how the guardian died."
  @spec alone(t(), Guardian.why() | nil, [non_neg_integer()]) :: t()
  def alone(%__MODULE__{} = run, why, pids) do
    reason = cause(run.reason, why)
    ended(run, if(pids == [], do: reason, else: {:survivors, reason, pids}))
  end

  # A socket tells no more than that there is nobody at the other end.
  defp cause({:guardian, seen}, why)
       when seen in [:closed, :econnreset, :epipe] and why != nil,
       do: {:guardian, why}

  defp cause(reason, _why), do: reason

  @doc "Why a program ended, from the guardian's report."
  @spec reason(t(), Frame.exit_report()) :: term()
  def reason(run, report) do
    reason =
      case {run.phase, report.cause, report.ending} do
        {_, {:signal, number}, _} -> {:guardian, {:signal, number}}
        {:closing, _, _} -> run.requested
        {_, _, {:exited, 0}} -> :normal
        {_, _, {:exited, status}} -> {:exit_status, status}
        {_, _, {:signalled, number}} -> {:signal, number}
        {_, _, :unknown} -> :unknown
      end

    case report.survivors do
      [] -> reason
      pids -> {:survivors, reason, pids}
    end
  end

  @doc "What `ProtonStream.info/1` returns."
  @spec info(t()) :: map()
  def info(%__MODULE__{} = run) do
    %{
      os_pid: run.os_pid,
      level: run.level,
      cgroup: run.cgroup,
      transport: Guardian.transport(run.guardian),
      window: run.window,
      bytes: bytes(run),
      queued: run.stdin.queued,
      held: run.mode.held(run),
      exit: if(run.phase in [:ended, :told], do: exit_report(run))
    }
  end

  @doc "The map of `{ps, {:exit_report, map}}`."
  @spec exit_report(t()) :: map()
  def exit_report(%__MODULE__{report: report} = run) do
    report =
      report ||
        %{core_dumped: false, oom_killed: false, survivors: []}
        |> Map.merge(%{user_time: nil, system_time: nil, max_rss: nil})

    %{
      reason: run.reason,
      core_dumped: report.core_dumped,
      oom_killed: report.oom_killed,
      survivors: report.survivors,
      rusage: Map.take(report, [:user_time, :system_time, :max_rss]),
      bytes: bytes(run)
    }
  end

  defp bytes(run), do: Map.put(run.bytes, :stdin, run.stdin.written)
end
