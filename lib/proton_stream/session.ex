# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Session do
  @moduledoc false

  # One program, seen from the VM. The GenServer's state is the `%ProtonStream{}` that
  # users see; what the session needs for itself is a `ProtonStream.Run`.
  #
  # It never blocks while its program runs: not on the port, whose queue stdin's credit
  # bounds, and not on the owner, into whose mailbox others look.

  use GenServer

  alias ProtonStream.Callbacks
  alias ProtonStream.Environment
  alias ProtonStream.Frame
  alias ProtonStream.Group
  alias ProtonStream.Guardian
  alias ProtonStream.Messages
  alias ProtonStream.Orphans
  alias ProtonStream.Run
  alias ProtonStream.Start
  alias ProtonStream.Stdin
  alias ProtonStream.Transport

  # What a call of the library's own looks like, so that it isn't taken for a user's.
  @tag :"$proton_stream"

  # A guardian gives up a freeze after two seconds.
  @answer 10_000

  # An open/3 session that has been idle for this long gives its memory back.
  @hibernate_after 1_000

  # Words, enough for a start that passes few arguments and variables: it collects no garbage.
  # Afterwards the heap is as large as it needs to be. The VM's environment is read by the process
  # that calls, which has memory already: as a list it is many times as large as all else.
  @first_heap 2_000
  @start [spawn_opt: [min_heap_size: @first_heap]]

  @spec start(ProtonStream.Options.t(), pid()) :: GenServer.on_start()
  def start(options, owner) do
    how = [hibernate_after: @hibernate_after] ++ @start

    case GenServer.start(__MODULE__, {:stream, options, Environment.inherited(), owner}, how) do
      {:error, {:shutdown, reason}} -> {:error, reason}
      other -> other
    end
  end

  @spec start_link(module(), term(), ProtonStream.Options.t()) :: GenServer.on_start()
  def start_link(module, init_arg, options) do
    {name, options} = Map.pop(options, :name)
    server = if name, do: [name: name] ++ @start, else: @start
    worker = {:worker, module, init_arg, options, Environment.inherited()}
    GenServer.start_link(__MODULE__, worker, server)
  end

  @doc "Milliseconds that a supervisor should leave a session for its end."
  @spec shutdown(ProtonStream.Options.t()) :: pos_integer()
  def shutdown(options), do: Start.kill_delay(options) + Run.slack() + 1_000

  @doc "Asks a session something; `default` when there is none."
  @spec ask(GenServer.server(), :os_pid | :info, term()) :: term()
  def ask(ps, request, default) do
    GenServer.call(ps, {@tag, request})
  catch
    # A session that is there and too busy is the caller's to know.
    :exit, {:timeout, _} = reason -> exit(reason)
    :exit, _ -> default
  end

  @spec write(GenServer.server(), iodata(), timeout()) :: :ok | {:error, atom()}
  def write(ps, data, timeout) do
    GenServer.call(ps, {@tag, {:write, data}}, timeout)
  catch
    :exit, {:timeout, _} -> {:error, :timeout}
    :exit, _ -> {:error, :closed}
  end

  @doc "Asks about the program's cgroup."
  @spec ask_group(GenServer.server(), ProtonStream.Group.question()) :: term()
  def ask_group(ps, question) do
    GenServer.call(ps, {@tag, {:ask, question}}, @answer)
  catch
    :exit, {:timeout, _} -> {:error, :timeout}
    :exit, _ -> {:error, :closed}
  end

  @spec active(GenServer.server(), boolean() | :once | integer()) :: :ok | {:error, atom()}
  def active(ps, mode), do: request(ps, {:active, mode})

  # The session keeps the time: an answer that came too late would be lost bytes.
  @spec read(GenServer.server(), timeout()) :: {:ok, term()} | :eof | {:error, atom()}
  def read(ps, timeout), do: request(ps, {:read, timeout})

  defp request(ps, request) do
    GenServer.call(ps, {@tag, request}, :infinity)
  catch
    :exit, _ -> {:error, :closed}
  end

  @impl GenServer
  def init({:stream, options, environment, owner}) do
    Process.flag(:trap_exit, true)
    release_heap()
    monitor = Process.monitor(owner)

    case Start.start(options, environment, Transport.credit(options), {:monitor, monitor}) do
      {:ok, guardian, started} ->
        Process.link(owner)
        delivery = Messages.new(options, monitor)
        run = run(guardian, started, options, Messages, delivery)
        Run.put(Messages.Owner.of(run, owner))
        {:ok, struct(options, guardian, started, owner, nil)}

      {:error, reason} ->
        {:stop, {:shutdown, reason}}

      {:cancelled, _reason} ->
        {:stop, {:shutdown, :owner}}
    end
  end

  def init({:worker, module, init_arg, options, environment}) do
    Process.put(:"$initial_call", {module, :init, 1})
    release_heap()

    Callbacks.init(module, init_arg, fn state, traps? ->
      watch = {:parent, Callbacks.parent()}

      case Start.start(options, environment, Transport.credit(options), watch) do
        {:ok, guardian, started} ->
          delivery = Callbacks.new(module, traps?, options)
          Run.put(run(guardian, started, options, Callbacks, delivery))
          {:ok, struct(options, guardian, started, self(), state)}

        {_, reason} ->
          {:stop, reason}
      end
    end)
  end

  defp release_heap do
    {:min_heap_size, words} = :erlang.system_info(:min_heap_size)
    Process.flag(:min_heap_size, words)
  end

  defp run(guardian, started, options, mode, delivery) do
    window = fn stream -> Transport.window(options, stream) end

    %Run{
      guardian: guardian,
      os_pid: started.pid,
      level: started.level,
      cgroup: cgroup(started),
      stdin: Stdin.new(started.stdin_credit, options),
      return: Transport.return(options),
      kill_delay: Start.kill_delay(options),
      window: %{stdout: window.(:stdout), stderr: window.(:stderr)},
      mode: mode,
      delivery: delivery
    }
  end

  defp struct(options, guardian, started, owner, state) do
    %ProtonStream{
      command: options.command,
      args: options.args,
      owner: owner,
      port: guardian.port,
      cgroup_path: cgroup(started),
      buffer: "",
      state: state
    }
  end

  defp cgroup(%{cgroup: ""}), do: nil
  defp cgroup(%{cgroup: path}), do: path

  @impl GenServer
  def handle_info(message, ps) do
    run = Run.get()

    case Guardian.event(run.guardian, message) do
      {:frame, frame} -> frame(Frame.decode(frame, :guardian), run, ps)
      {:closed, why} -> orphaned(run, run.reason || {:guardian, why}, ps)
      :sent -> {:noreply, ps}
      nil -> message(message, run, ps)
    end
  end

  # Of one that has said its last word the group is gone.
  defp orphaned(%Run{report: nil, phase: phase} = run, reason, ps)
       when phase in [:running, :closing] do
    waiting_or_told(Run.orphaned(run, reason), ps)
  end

  defp orphaned(run, _reason, ps), do: Run.stored(run, ps)

  defp waiting_or_told({:waiting, run}, ps), do: Run.stored(run, ps)
  defp waiting_or_told({:ended, run}, ps), do: told(run, ps)

  defp frame({:ok, {stream, bytes}}, %Run{phase: :running} = run, ps)
       when stream in [:stdout, :stderr] do
    %{bytes: %{^stream => before} = counted} = run
    run = %{run | bytes: %{counted | stream => before + byte_size(bytes)}}
    run.mode.output(stream, bytes, run, ps)
  end

  defp frame({:ok, {stream, _bytes}}, run, ps) when stream in [:stdout, :stderr],
    do: Run.stored(run, ps)

  defp frame({:ok, {:stdin_credit, count}}, run, ps) do
    {written, stdin} = Stdin.credit(run.stdin, count)
    for from <- written, do: GenServer.reply(from, :ok)
    Run.stored(pump(%{run | stdin: stdin}), ps)
  end

  defp frame({:ok, :stdin_gone}, run, ps), do: Run.stored(Run.release(run, :epipe), ps)

  defp frame({:ok, :reaped}, run, ps), do: Run.stored(%{run | os_pid: nil}, ps)

  defp frame({:ok, {:end_of_output, stream}}, run, ps),
    do: run.mode.end_of_output(stream, run, ps)

  defp frame({:ok, {:exit, report}}, run, ps),
    do: ended(%{run | report: report}, run.reason || Run.reason(run, report), ps)

  defp frame({:ok, {:error, code, sentence}}, run, ps) do
    # The guardian's own end comes when the program's tree is dead.
    Run.stored(run |> Run.failed(code, sentence) |> Run.close(:normal), ps)
  end

  defp frame({:ok, frame}, run, ps) do
    with true <- Group.answer?(frame),
         {:ok, run} <- Run.answered(run, frame) do
      Run.stored(run, ps)
    else
      _ -> unexpected(frame, run, ps)
    end
  end

  defp frame({:error, sentence}, run, ps),
    do: ended(run, {:guardian, {:protocol, sentence}}, ps)

  defp unexpected(frame, run, ps) do
    frame = if is_tuple(frame), do: elem(frame, 0), else: frame
    sentence = "#{frame} came after the program was started"
    ended(run, {:guardian, {:protocol, sentence}}, ps)
  end

  defp pump(%Run{phase: :running} = run), do: Run.pump(run)
  defp pump(run), do: run

  defp message({:timeout, deadline, {@tag, :close}}, %Run{deadline: deadline} = run, ps)
       when is_reference(deadline),
       do: waiting_or_told(Run.given_up(run), ps)

  defp message(message, %Run{orphans: orphans} = run, ps) when orphans != nil do
    case Orphans.event(orphans, message) do
      {:going, orphans} -> Run.stored(%{run | orphans: orphans}, ps)
      {:done, why, pids} -> run |> Run.alone(why, pids) |> told(ps)
      nil -> run.mode.message(message, run, ps)
    end
  end

  defp message(message, run, ps), do: run.mode.message(message, run, ps)

  defp ended(%Run{phase: phase} = run, reason, ps) when phase in [:running, :closing],
    do: run |> Run.ended(reason) |> told(ps)

  defp ended(run, _reason, ps), do: Run.stored(run, ps)

  # The guardian waits for nothing but to be let go of, which takes longer than to tell.
  defp told(run, ps) do
    reply = run.mode.ended(run, %{ps | port: nil})
    if Run.clean?(run), do: Guardian.keep(run.guardian), else: Guardian.close(run.guardian)
    reply
  end

  @impl GenServer
  def handle_call({@tag, :os_pid}, _from, ps), do: {:reply, Run.get().os_pid, ps}
  def handle_call({@tag, :info}, _from, ps), do: {:reply, Run.info(Run.get()), ps}

  # What comes from `ProtonStream` was checked there; anybody can make up such a request.
  def handle_call({@tag, {:ask, question}}, {pid, _} = from, ps) do
    run = Run.get()

    with true <- question?(question) || {:error, :unknown_call},
         true <- question == :query or run.mode.writer?(pid, ps) || {:error, :not_owner},
         {:ok, run} <- Run.ask(run, question, from) do
      Run.stored(run, ps)
    else
      error -> {:reply, error, ps}
    end
  end

  def handle_call({@tag, {:active, mode}}, from, ps)
      when is_boolean(mode) or mode == :once or is_integer(mode) do
    run = Run.get()
    run.mode.active(mode, from, run, ps)
  end

  def handle_call({@tag, {:read, timeout}}, from, ps)
      when timeout == :infinity or (is_integer(timeout) and timeout in 0..4_294_967_295//1) do
    run = Run.get()
    run.mode.read(timeout, from, run, ps)
  end

  def handle_call({@tag, {:write, data}}, {pid, _} = from, ps) do
    run = Run.get()

    with true <- Run.iodata?(data) || {:error, :unknown_call},
         true <- run.mode.writer?(pid, ps) || {:error, :not_owner},
         {:ok, run} <- Run.push(run, data) do
      {result, stdin} = Stdin.wait(run.stdin, from)
      Run.put(pump(%{run | stdin: stdin}))
      if result == :written, do: {:reply, :ok, ps}, else: {:noreply, ps}
    else
      {:error, {:stdin_overflow, _}} -> {:reply, {:error, :stdin_limit}, ps}
      {:error, {:packet_too_large, _}} -> {:reply, {:error, :einval}, ps}
      error -> {:reply, error, ps}
    end
  end

  def handle_call({@tag, _}, _from, ps), do: {:reply, {:error, :unknown_call}, ps}

  def handle_call(request, from, ps) do
    run = Run.get()
    run.mode.call(request, from, run, ps)
  end

  defp question?(:query), do: true
  defp question?({:freeze, frozen?}), do: is_boolean(frozen?)

  defp question?({:limits, limits}) do
    is_list(limits) and limits != [] and
      Enum.all?(limits, fn limit -> match?({n, v} when is_binary(n) and is_binary(v), limit) end)
  end

  defp question?(_), do: false

  @impl GenServer
  def handle_cast(request, ps) do
    run = Run.get()
    run.mode.cast(request, run, ps)
  end

  @impl GenServer
  def handle_continue(term, ps), do: Callbacks.continue(term, Run.get(), ps)

  @impl GenServer
  def terminate(reason, ps) do
    run = Run.get()
    run.mode.terminate(reason, run, ps)
  after
    Run.erase()
  end

  # `vsn` is the module's, which is the session's to the release handler; the callback
  # module's own comes with the same upgrade.
  @impl GenServer
  def code_change(vsn, ps, extra) do
    run = Run.upgrade(Run.get())
    Run.put(run)

    case run.mode do
      Messages -> {:ok, ps}
      Callbacks -> Callbacks.code_change(vsn, run, ps, extra)
    end
  end

  # A callback since OTP 25, which Elixir knows since 1.17. Either complains about the other.
  if {:format_status, 1} in GenServer.behaviour_info(:callbacks) do
    @impl GenServer
  end

  def format_status(status) do
    status =
      case {Run.get(), status} do
        {%Run{mode: Callbacks} = run, %{state: %ProtonStream{}}} ->
          Callbacks.format_status(run, status)

        _ ->
          status
      end

    case status do
      %{state: %ProtonStream{} = ps} -> %{status | state: redacted(ps)}
      _ -> status
    end
  end

  defp redacted(ps), do: %{ps | args: Enum.map(ps.args, fn _ -> "[redacted]" end)}
end
