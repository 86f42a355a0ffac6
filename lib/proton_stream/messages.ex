# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Messages do
  @moduledoc false

  # Delivery as messages to an owner, who is linked and monitored: the link is what the
  # owner sees, the monitor is what holds when the owner unlinks.

  @behaviour ProtonStream.Delivery

  alias ProtonStream.Herald
  alias ProtonStream.Options
  alias ProtonStream.Run
  alias ProtonStream.Watcher
  alias ProtonStream.Window

  @window 10_240

  # Between guardian and session more may be on its way than an owner may hold: a window
  # that had to go all the way to the guardian and back would be slow where it is small.
  @credit 262_144

  @enforce_keys [:monitor, :stdout, :stderr]
  defstruct [
    :monitor,
    :stdout,
    :stderr,
    :watcher,
    :watching,
    :asking,
    exit_status: false,
    exit_report: false,
    silent: false
  ]

  @spec window(Options.t()) :: pos_integer()
  def window(options), do: Map.get(options, :stdio_window, @window)

  @spec credit(pos_integer()) :: pos_integer()
  def credit(window), do: max(window, @credit)

  @spec new(Options.t(), reference()) :: struct()
  def new(options, monitor) do
    %__MODULE__{
      monitor: monitor,
      stdout: Window.new(window(options)),
      stderr: Window.new(window(options)),
      exit_status: Map.get(options, :exit_status, false),
      exit_report: Map.get(options, :exit_report, false)
    }
  end

  @doc "An owner on another node hears all through a herald."
  @spec owned(Run.t(), pid()) :: Run.t()
  def owned(run, owner), do: if(node(owner) == node(), do: run, else: herald(run))

  @impl true
  def output(stream, bytes, run, ps) do
    %{^stream => window} = run.delivery

    %{run | delivery: %{run.delivery | stream => Window.put(window, bytes)}}
    |> deliver(stream, ps)
    |> watch(ps)
    |> stored(ps)
  end

  @impl true
  def ended(run, ps), do: run |> flush(ps) |> tell(ps)

  @impl true
  def message({owner, {:command, data}}, run, %{owner: owner} = ps) do
    # Without this what is not iodata would be found where it ends the session.
    case iodata?(data) && Run.push(run, data) do
      {:ok, run} -> stored(run, ps)
      _ -> {:noreply, ps}
    end
  end

  def message({owner, :eof}, run, %{owner: owner} = ps), do: stored(Run.eof(run), ps)

  def message({owner, {:signal, signal}}, run, %{owner: owner} = ps) do
    Run.signal(run, signal, :program)
    {:noreply, ps}
  end

  def message({owner, {:signal, signal, :tree}}, run, %{owner: owner} = ps) do
    Run.signal(run, signal, :tree)
    {:noreply, ps}
  end

  def message({owner, :close}, run, %{owner: owner} = ps) do
    run |> herald() |> closed(owner) |> close(:normal) |> tell(ps)
  end

  def message({:"$proton_stream", :close, pid, witness}, run, ps) do
    Herald.seen(witness)
    if pid == ps.owner, do: message({pid, :close}, run, ps), else: {:noreply, ps}
  end

  def message({owner, {:connect, pid}}, run, %{owner: owner} = ps)
      when is_pid(pid) and pid != self() do
    say(run, ps, {self(), :connected})
    if pid == owner, do: {:noreply, ps}, else: connect(pid, run, ps)
  end

  # From here on nobody but this session can have made the references.
  def message({ref, marks, unread}, %{delivery: %{watching: ref}} = run, ps)
      when is_reference(ref) do
    {out, err} = marks
    {out_unread, err_unread} = unread
    delivery = run.delivery
    stdout = Window.read(delivery.stdout, out, out_unread)
    stderr = Window.read(delivery.stderr, err, err_unread)

    run = %{run | delivery: %{delivery | stdout: stdout, stderr: stderr, watching: nil}}
    run |> flush(ps) |> tell(ps)
  end

  def message({ref, traps?}, %{delivery: %{asking: ref}} = run, ps) when is_reference(ref) do
    if traps?, do: say(run, ps, {:EXIT, self(), run.reason})
    Run.put(%{run | phase: :told})
    {:stop, stop_reason(run.reason), ps}
  end

  def message({:DOWN, monitor, _, _, reason}, %{delivery: %{monitor: monitor}} = run, ps),
    do: orphaned(reason, run, ps)

  # The owner's own end is what the monitor tells; this may be its `Process.exit/2`.
  def message({:EXIT, _pid, :normal}, _run, ps), do: {:noreply, ps}
  def message({:EXIT, _pid, reason}, run, ps), do: run |> close(reason) |> tell(ps)
  def message(_message, _run, ps), do: {:noreply, ps}

  @impl true
  def call(_request, _from, _run, ps), do: {:reply, {:error, :unknown_call}, ps}

  @impl true
  def cast(_request, _run, ps), do: {:noreply, ps}

  @impl true
  def writer?(pid, ps), do: pid == ps.owner

  @impl true
  def held(run) do
    %{
      stdout: byte_size(run.delivery.stdout.held),
      stderr: byte_size(run.delivery.stderr.held)
    }
  end

  # Either all was told (`phase: :told`), or somebody stopped the session: then there is
  # nothing left to do but to wait, first for the program's death and then for the answer.
  @impl true
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
        (not run.delivery.silent and unlink(ps.owner) && Herald.ask(ps.owner))

    if ref, do: goodbye(ref, plain(reason), run, ps)
    late_closes(run, ps)
  end

  defp goodbye(ref, reason, run, ps) do
    receive do
      {^ref, true} -> say(run, ps, {:EXIT, self(), reason})
      {^ref, false} -> :ok
    end
  end

  # Requests that are in the mailbox when the session ends get their answer too.
  defp late_closes(run, %{owner: owner} = ps) do
    receive do
      {^owner, :close} ->
        run |> herald() |> closed(owner) |> late_closes(ps)

      {:"$proton_stream", :close, pid, witness} ->
        Herald.seen(witness)
        run = if pid == owner, do: run |> herald() |> closed(owner), else: run
        late_closes(run, ps)
    after
      0 -> :ok
    end
  end

  defp connect(pid, run, ps) do
    Process.unlink(ps.owner)
    Process.demonitor(run.delivery.monitor, [:flush])
    if run.delivery.watcher, do: Watcher.stop(run.delivery.watcher)

    # A new owner that is dead already is one that dies right away: the program ends.
    Process.link(pid)
    delivery = run.delivery

    delivery = %{
      delivery
      | monitor: Process.monitor(pid),
        watcher: nil,
        watching: nil,
        asking: nil,
        stdout: Window.moved(delivery.stdout),
        stderr: Window.moved(delivery.stderr)
    }

    ps = %{ps | owner: pid}
    %{run | delivery: delivery} |> owned(pid) |> flush(ps) |> tell(ps)
  end

  defp orphaned(reason, run, ps) do
    run = %{run | delivery: %{run.delivery | silent: true}}
    run |> close(reason) |> tell(ps)
  end

  # Undelivered output is thrown away, also that of a program that has ended.
  defp close(run, reason) do
    delivery = run.delivery
    stdout = Window.drop(delivery.stdout)
    delivery = %{delivery | stdout: stdout, stderr: Window.drop(delivery.stderr)}
    run = %{run | delivery: delivery}

    case run do
      %{phase: :running} -> Run.close(run, reason)
      %{phase: :ended} -> %{run | closed?: true, reason: overruled(run.reason, reason)}
      _ -> run
    end
  end

  # A close that comes when the program has ended makes of any status a close, but not of
  # what went wrong.
  defp overruled({:survivors, _, pids}, reason), do: {:survivors, reason, pids}
  defp overruled({:guardian, why}, _reason), do: {:guardian, why}
  defp overruled(_, reason), do: reason

  # The last words, when the program is dead and nothing waits to be read.
  defp tell(%Run{phase: :ended, delivery: %{asking: nil} = delivery} = run, ps) do
    cond do
      delivery.stdout.held != <<>> or delivery.stderr.held != <<>> ->
        run |> watch(ps) |> stored(ps)

      delivery.silent ->
        Run.put(%{run | phase: :told})
        {:stop, stop_reason(run.reason), ps}

      true ->
        report(run, ps)

        if unlink(ps.owner) do
          stored(%{run | delivery: %{delivery | asking: Herald.ask(ps.owner)}}, ps)
        else
          Run.put(%{run | phase: :told})
          {:stop, stop_reason(run.reason), ps}
        end
    end
  end

  defp tell(run, ps), do: run |> watch(ps) |> stored(ps)

  defp report(run, ps) do
    status = run.delivery.exit_status && not run.closed? && status(run.reason)
    if status, do: say(run, ps, {self(), {:exit_status, status}})

    if run.delivery.exit_report,
      do: say(run, ps, {self(), {:exit_report, Run.exit_report(run)}})
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

  defp flush(run, ps), do: run |> deliver(:stdout, ps) |> deliver(:stderr, ps)

  defp deliver(run, stream, ps) do
    %{^stream => window} = run.delivery

    case Window.take(window) do
      {nil, _window} ->
        run

      {chunk, window} ->
        say(run, ps, {self(), {tag(stream), chunk}})
        window = if node(ps.owner) == node(), do: window, else: Window.moved(window)

        %{run | delivery: %{run.delivery | stream => window}}
        |> Run.handed_on(stream, byte_size(chunk))
        |> deliver(stream, ps)
    end
  end

  # Something could not be handed on: have a look at whether the owner reads.
  defp watch(%Run{delivery: %{watching: nil} = delivery} = run, ps) do
    %{stdout: stdout, stderr: stderr} = delivery

    if stdout.held == <<>> and stderr.held == <<>> do
      run
    else
      watcher = delivery.watcher || Watcher.start(ps.owner)
      outstanding = {stdout.sent - stdout.read, stderr.sent - stderr.read}
      ref = Watcher.watch(watcher, {stdout.sent, stderr.sent}, outstanding)
      %{run | delivery: %{delivery | watcher: watcher, watching: ref}}
    end
  end

  defp watch(run, _ps), do: run

  defp tag(:stdout), do: :data
  defp tag(:stderr), do: :error

  # See Herald for why another node hears from somebody else.
  defp say(_run, %{owner: owner}, message) when node(owner) == node() do
    send(owner, message)
    :ok
  end

  defp say(run, %{owner: owner}, message), do: Herald.say(run.herald, owner, message)

  defp herald(%Run{herald: nil} = run), do: %{run | herald: Herald.start()}
  defp herald(run), do: run

  defp closed(run, pid) do
    Herald.closed(run.herald, pid)
    run
  end

  defp iodata?(data) do
    IO.iodata_length(data) >= 0
  rescue
    ArgumentError -> false
  end

  defp stored(run, ps) do
    Run.put(run)
    {:noreply, ps}
  end
end
