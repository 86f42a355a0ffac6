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
  alias ProtonStream.Guardian
  alias ProtonStream.Signal
  alias ProtonStream.Stdin

  @key :"$proton_stream_run"
  @version 1

  # A guardian that was told to close has the kill delay and about two seconds to name
  # what it could not kill. This much later it is taken to be stuck.
  @slack 5_000

  @enforce_keys [:guardian, :level, :stdin, :half, :kill_delay, :window, :mode, :delivery]
  defstruct [
    :guardian,
    :os_pid,
    :level,
    :cgroup,
    :stdin,
    :half,
    :kill_delay,
    :window,
    :mode,
    :delivery,
    :deadline,
    :herald,
    :report,
    :reason,
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
    %{^stream => half} = run.half

    if before + count < half do
      %{run | owed: %{owed | stream => before + count}}
    else
      Guardian.send(run.guardian, Frame.encode({:credit, stream, before + count}))
      %{run | owed: %{owed | stream => 0}}
    end
  end

  def handed_on(%__MODULE__{} = run, _stream, _count), do: run

  @doc "Tells the guardian to end the program; from now on its output is thrown away."
  @spec close(t(), term()) :: t()
  def close(%__MODULE__{phase: :running} = run, reason) do
    Guardian.send(run.guardian, Frame.encode(:close))
    deadline = :erlang.start_timer(run.kill_delay + @slack, self(), :close)

    release(
      %{run | phase: :closing, closed?: true, requested: reason, deadline: deadline},
      :closed
    )
  end

  def close(%__MODULE__{} = run, _reason), do: run

  @doc "The program is dead, or nobody knows. Answers those who wait for its stdin."
  @spec ended(t(), term()) :: t()
  def ended(%__MODULE__{} = run, reason) do
    Guardian.close(run.guardian)
    if run.deadline, do: :erlang.cancel_timer(run.deadline, async: true, info: false)
    release(%{run | phase: :ended, os_pid: nil, deadline: nil, reason: reason}, :closed)
  end

  @doc "Closes, and waits for the end: for when a session itself has to go."
  @spec shut(t(), term()) :: t()
  def shut(%__MODULE__{phase: phase} = run, reason) when phase in [:running, :closing] do
    run = close(run, reason)
    last(run, Guardian.deadline(run.kill_delay + @slack))
  end

  def shut(%__MODULE__{} = run, _reason), do: run

  defp last(run, deadline) do
    case Guardian.await(run.guardian, deadline) do
      {:frame, frame} ->
        case Frame.decode(frame, :guardian) do
          {:ok, {:exit, report}} -> ended(%{run | report: report}, reason(run, report))
          {:ok, {:error, code, sentence}} -> last(failed(run, code, sentence), deadline)
          {:ok, _} -> last(run, deadline)
          {:error, sentence} -> ended(run, {:guardian, {:protocol, sentence}})
        end

      {:closed, why} ->
        ended(run, run.reason || {:guardian, why})

      :timeout ->
        ended(run, stuck(run))
    end
  end

  @doc "Why a run ends whose guardian does nothing any more: its program may live."
  @spec stuck(t()) :: term()
  def stuck(%__MODULE__{os_pid: nil}), do: {:guardian, :timeout}
  def stuck(%__MODULE__{os_pid: os_pid}), do: {:survivors, {:guardian, :timeout}, [os_pid]}

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
      transport: :port,
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
