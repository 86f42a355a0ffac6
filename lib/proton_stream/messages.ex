# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Messages do
  @moduledoc false

  # Delivery as messages to an owner, who is linked and monitored: the link is what the
  # owner sees, the monitor is what holds when the owner unlinks. What the owner asks for is
  # here; how output reaches it is `Flow`, the last words are `Ending`.

  @behaviour ProtonStream.Delivery

  alias ProtonStream.Herald
  alias ProtonStream.Messages.Ending
  alias ProtonStream.Messages.Flow
  alias ProtonStream.Messages.Owner
  alias ProtonStream.Options
  alias ProtonStream.Run
  alias ProtonStream.Transport
  alias ProtonStream.Window

  @enforce_keys [:monitor, :stdout, :stderr]
  defstruct [
    :monitor,
    :stdout,
    :stderr,
    :watcher,
    :watching,
    :asking,
    :reader,
    :last,
    active: true,
    crowd?: false,
    eof?: false,
    exit_status: false,
    exit_report: false,
    silent: false
  ]

  @spec new(Options.t(), reference()) :: struct()
  def new(options, monitor) do
    credit = Transport.credit(options)

    window = fn stream ->
      overflow = if options[:overflow] == :drop, do: {:drop, credit[stream]}, else: :block
      Window.new(Transport.window(options, stream), Transport.cut(options, stream), overflow)
    end

    %__MODULE__{
      monitor: monitor,
      stdout: window.(:stdout),
      stderr: window.(:stderr),
      active: Map.get(options, :active, true),
      exit_status: Map.get(options, :exit_status, false),
      exit_report: Map.get(options, :exit_report, false)
    }
  end

  @impl true
  def output(stream, bytes, run, ps),
    do: run |> Flow.put(stream, bytes) |> Flow.flush(stream, ps) |> Ending.tell(ps)

  @impl true
  def end_of_output(stream, run, ps),
    do: run |> Flow.finish(stream) |> Flow.flush(stream, ps) |> Ending.tell(ps)

  @impl true
  def ended(run, ps) do
    run |> Flow.finish(:stdout) |> Flow.finish(:stderr) |> Flow.flush(ps) |> Ending.tell(ps)
  end

  @impl true
  def message({owner, {:command, data}}, run, %{owner: owner} = ps) do
    case Run.iodata?(data) && Run.push(run, data) do
      {:ok, run} -> Run.stored(run, ps)
      {:error, {_, _} = reason} -> run |> Ending.close(reason) |> Ending.tell(ps)
      _ -> {:noreply, ps}
    end
  end

  def message({owner, :eof}, run, %{owner: owner} = ps), do: Run.stored(Run.eof(run), ps)

  def message({owner, {:signal, signal}}, run, %{owner: owner} = ps) do
    Run.signal(run, signal, :program)
    {:noreply, ps}
  end

  def message({owner, {:signal, signal, :tree}}, run, %{owner: owner} = ps) do
    Run.signal(run, signal, :tree)
    {:noreply, ps}
  end

  def message({owner, {:active, mode}}, run, %{owner: owner} = ps) do
    if mode in [true, false, :once] or is_integer(mode),
      do: run |> Flow.activate(mode, ps) |> Flow.flush(ps) |> Ending.tell(ps),
      else: {:noreply, ps}
  end

  def message({owner, :close}, run, %{owner: owner} = ps),
    do: run |> Herald.closed(owner) |> Ending.close(:normal) |> Ending.tell(ps)

  def message({:"$proton_stream", :close, pid, witness}, run, ps)
      when is_pid(pid) and is_pid(witness) do
    Herald.seen(witness)
    if pid == ps.owner, do: message({pid, :close}, run, ps), else: {:noreply, ps}
  end

  # Once the last words are being said, they are said to one owner: this comes too late.
  def message({owner, {:connect, _}}, %{delivery: %{asking: asking}}, %{owner: owner} = ps)
      when asking != nil,
      do: {:noreply, ps}

  def message({owner, {:connect, pid}}, run, %{owner: owner} = ps)
      when is_pid(pid) and pid != self() do
    Owner.say(run, ps, {self(), :connected})
    if pid == owner, do: {:noreply, ps}, else: connect(pid, run, ps)
  end

  # From here on nobody but this session can have made the references.
  def message({ref, marks, unread, crowd?}, %{delivery: %{watching: ref}} = run, ps)
      when is_reference(ref),
      do: run |> Flow.seen(marks, unread, crowd?) |> Flow.flush(ps) |> Ending.tell(ps)

  def message({:timeout, timer, :read}, %{delivery: %{reader: {_, timer}}} = run, ps)
      when is_reference(timer),
      do: run |> Flow.answer({:error, :timeout}) |> Run.stored(ps)

  def message({ref, traps?}, %{delivery: %{asking: ref}} = run, ps) when is_reference(ref),
    do: Ending.asked(traps?, run, ps)

  def message({:DOWN, monitor, _, _, reason}, %{delivery: %{monitor: monitor}} = run, ps) do
    run = %{run | delivery: %{run.delivery | silent: true}}
    run |> Ending.close(reason) |> Ending.tell(ps)
  end

  def message({:DOWN, monitor, _, _, _}, %{delivery: %{watcher: {_, monitor}}} = run, ps),
    do: run |> Flow.unwatched(ps) |> Ending.tell(ps)

  # The owner's own end is what the monitor tells; this may be its `Process.exit/2`.
  def message({:EXIT, _pid, :normal}, _run, ps), do: {:noreply, ps}
  def message({:EXIT, _pid, reason}, run, ps), do: run |> Ending.close(reason) |> Ending.tell(ps)
  def message(_message, _run, ps), do: {:noreply, ps}

  @impl true
  def active(mode, {pid, _}, run, %{owner: pid} = ps) do
    case message({pid, {:active, mode}}, run, ps) do
      {:noreply, ps} -> {:reply, :ok, ps}
      {:stop, reason, ps} -> {:stop, reason, :ok, ps}
    end
  end

  def active(_mode, _from, _run, ps), do: {:reply, {:error, :not_owner}, ps}

  @impl true
  def read(timeout, {pid, _} = from, run, %{owner: pid} = ps),
    do: run |> Flow.read(from, timeout, ps) |> Ending.tell(ps)

  def read(_timeout, _from, _run, ps), do: {:reply, {:error, :not_owner}, ps}

  @impl true
  def call(_request, _from, _run, ps), do: {:reply, {:error, :unknown_call}, ps}

  @impl true
  def cast(_request, _run, ps), do: {:noreply, ps}

  @impl true
  def writer?(pid, ps), do: pid == ps.owner

  @impl true
  def held(run),
    do: %{stdout: Window.held(run.delivery.stdout), stderr: Window.held(run.delivery.stderr)}

  @impl true
  def terminate(reason, run, ps), do: Ending.terminate(reason, run, ps)

  defp connect(pid, run, ps) do
    Process.unlink(ps.owner)
    Process.demonitor(run.delivery.monitor, [:flush])
    run = Flow.moved(run, ps)

    # A new owner that is dead already is one that dies right away: the program ends.
    Process.link(pid)
    delivery = %{run.delivery | monitor: Process.monitor(pid)}
    ps = %{ps | owner: pid}
    %{run | delivery: delivery} |> Owner.of(pid) |> Flow.flush(ps) |> Ending.tell(ps)
  end
end
