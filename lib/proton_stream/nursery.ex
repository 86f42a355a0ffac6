# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Nursery do
  @moduledoc false

  # The VM's nursery: one process outside that forks a guardian for each program, which is
  # quicker than to start one, and that adopts what a guardian leaves which is killed
  # (docs/PROTOCOL.md §10).
  #
  # It is started by the first open, and again by the first one after its end; whoever opens
  # meanwhile waits for the same one. Sessions read its address from a table. Where there is
  # none, because the application doesn't run, or it could not be started, or it does not
  # answer, a session starts its guardian through a port.

  use GenServer

  alias ProtonStream.Frame, as: Guardians
  alias ProtonStream.Guardian
  alias ProtonStream.Nursery.Frame
  alias ProtonStream.Signal

  # Milliseconds that a nursery may take to be ready.
  @patience 5_000

  # For so long after one could not be started, or did not answer, there is none.
  @pause 5_000

  # For so long it is remembered how a guardian died whose session has not asked yet.
  @memory 10_000

  # Its own: programs get the VM's. What an allocator keeps at hand for each thread holds pages that
  # a guardian could give back.
  @environment [{'GLIBC_TUNABLES', 'glibc.malloc.tcache_count=0'}]

  @typedoc "Where a nursery listens. Its port stands for it: another nursery has another one."
  @type address :: %{path: binary(), secret: binary(), port: port(), executable: binary()}
  @type fate :: {:died, ProtonStream.Guardian.why() | nil, [pos_integer()]} | :unknown

  @spec start_link(term()) :: GenServer.on_start()
  def start_link(_), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc "The nursery's address, started if need be; `nil` where there is none."
  @spec address(Path.t()) :: address() | nil
  def address(executable) do
    case :ets.lookup(__MODULE__, :address) do
      [{_, %{executable: ^executable} = address}] -> address
      # Of another executable, which is nobody's who names one in PROTON_GUARDIAN.
      [{_, %{}}] -> nil
      [{_, {:none, until}}] -> if now() < until, do: nil, else: start(executable)
      [] -> start(executable)
    end
  rescue
    # The application doesn't run.
    ArgumentError -> nil
  end

  defp start(executable) do
    GenServer.call(__MODULE__, {:start, executable}, @patience + 1_000)
  catch
    :exit, _ -> nil
  end

  @doc """
  It did not answer, and is let go of: it ends when it can. The next open starts another one, and
  a run that this one has begun all the same is ended.
  """
  @spec suspect(port(), non_neg_integer()) :: :ok
  def suspect(nursery, run) do
    kill(nursery, run)
    GenServer.cast(__MODULE__, {:suspect, nursery})
  end

  @doc """
  Has the calling session told what became of its guardian, which has gone without a word:
  `{ref, fate}`, when what it has left is dead.
  """
  @spec fate(port(), non_neg_integer()) :: reference()
  def fate(nursery, run) do
    ref = make_ref()

    case GenServer.whereis(__MODULE__) do
      nil -> send(self(), {ref, :unknown})
      pid -> send(pid, {:fate, nursery, run, self(), ref})
    end

    ref
  end

  @doc "Has a run's guardian killed, with all that it holds."
  @spec kill(port(), non_neg_integer()) :: :ok
  def kill(nursery, run), do: GenServer.cast(__MODULE__, {:kill, nursery, run})

  @impl true
  def init(_) do
    Process.flag(:trap_exit, true)
    :ets.new(__MODULE__, [:named_table, :protected, read_concurrency: true])
    {:ok, %{port: nil, address: nil, timer: nil, waiting: [], asked: %{}, died: %{}}}
  end

  @impl true
  def handle_call({:start, executable}, from, state) do
    case state do
      %{port: nil} ->
        {:noreply, begin(executable, %{state | waiting: [from]})}

      %{address: %{path: path} = address} when path != nil ->
        {:reply, if(address.executable == executable, do: address), state}

      %{address: %{executable: ^executable}} ->
        {:noreply, %{state | waiting: [from | state.waiting]}}

      _ ->
        {:reply, nil, state}
    end
  end

  defp begin(executable, state) do
    secret = secret()
    options = [:binary, :exit_status, :hide, packet: 4, args: ["nursery"], env: @environment]
    port = Port.open({:spawn_executable, executable}, options)
    controller = String.to_integer(System.pid())
    tell(port, {:nurse, Guardians.package(), controller, secret})
    address = %{path: nil, secret: secret, port: port, executable: executable}
    timer = :erlang.start_timer(@patience, self(), :start)
    %{state | port: port, address: address, timer: timer}
  rescue
    _ in [ErlangError, ArgumentError, SystemLimitError] -> none(state)
  end

  defp secret do
    {:ok, file} = :file.open("/dev/urandom", [:read, :raw, :binary])
    {:ok, secret} = :file.read(file, Frame.secret_size())
    :ok = :file.close(file)
    secret
  end

  @impl true
  def handle_cast({:suspect, port}, %{port: port} = state), do: {:noreply, gone(state)}

  def handle_cast({:kill, port, run}, %{port: port} = state) do
    tell(port, {:kill, run})
    {:noreply, state}
  end

  def handle_cast(_late, state), do: {:noreply, state}

  @impl true
  def handle_info({port, {:data, frame}}, %{port: port} = state) do
    case Frame.decode(frame) do
      {:ok, {:ready, _package, path}} when state.address.path == nil ->
        :erlang.cancel_timer(state.timer)
        Guardian.Socket.prepare()
        address = %{state.address | path: path}
        :ets.insert(__MODULE__, {:address, address})
        for from <- state.waiting, do: GenServer.reply(from, address)
        {:noreply, %{state | address: address, timer: nil, waiting: []}}

      {:ok, {:died, run, ending, survivors}} ->
        {:noreply, died(run, {:died, why(ending), survivors}, state)}

      # It refuses, or isn't one.
      _ ->
        {:noreply, gone(state)}
    end
  end

  def handle_info({port, {:exit_status, _}}, %{port: port} = state), do: {:noreply, gone(state)}
  def handle_info({:EXIT, port, _}, %{port: port} = state), do: {:noreply, gone(state)}

  def handle_info({:timeout, timer, :start}, %{timer: timer} = state),
    do: {:noreply, gone(state)}

  def handle_info({:timeout, timer, {:forget, run}}, state) do
    case state.died do
      %{^run => {_, ^timer}} -> {:noreply, %{state | died: Map.delete(state.died, run)}}
      _ -> {:noreply, state}
    end
  end

  def handle_info({:fate, port, run, session, ref}, %{port: port} = state) do
    case Map.pop(state.died, run) do
      # It answers in any case, when the guardian is dead and what it has left.
      {nil, _} ->
        tell(port, {:kill, run})
        {:noreply, %{state | asked: Map.put(state.asked, run, {session, ref})}}

      {{fate, timer}, died} ->
        :erlang.cancel_timer(timer, async: true, info: false)
        send(session, {ref, fate})
        {:noreply, %{state | died: died}}
    end
  end

  # Nobody knows any more.
  def handle_info({:fate, _port, _run, session, ref}, state) do
    send(session, {ref, :unknown})
    {:noreply, state}
  end

  def handle_info(_message, state), do: {:noreply, state}

  defp died(run, fate, state) do
    case Map.pop(state.asked, run) do
      # Nobody waits for the answer to a KILL that was too late.
      {nil, _} when elem(fate, 1) == nil ->
        state

      {nil, _} ->
        timer = :erlang.start_timer(@memory, self(), {:forget, run})
        %{state | died: Map.put(state.died, run, {fate, timer})}

      {{session, ref}, asked} ->
        send(session, {ref, fate})
        %{state | asked: asked}
    end
  end

  defp why({:exited, status}), do: {:exit_status, status}
  defp why({:signalled, number}), do: {:signal, Signal.number!(number)}
  defp why(:unknown), do: nil

  # Running programs go on under their guardians. The next open starts another one, unless
  # this one has never been ready.
  defp gone(state) do
    # First: what it has waiting ends with it, and nobody should begin there meanwhile.
    :ets.delete(__MODULE__, :address)
    Guardian.let_go(state.port)
    if state.timer, do: :erlang.cancel_timer(state.timer)
    for {_, {session, ref}} <- state.asked, do: send(session, {ref, :unknown})
    ready? = state.address.path != nil
    state = %{state | asked: %{}, timer: nil}

    if ready?, do: %{state | port: nil, address: nil}, else: none(state)
  end

  defp none(state) do
    :ets.insert(__MODULE__, {:address, {:none, now() + @pause}})
    for from <- state.waiting, do: GenServer.reply(from, nil)
    %{state | port: nil, address: nil, waiting: []}
  end

  defp tell(port, frame) do
    Port.command(port, Frame.encode(frame))
  rescue
    # It is gone, of which a message tells.
    ArgumentError -> true
  end

  defp now, do: System.monotonic_time(:millisecond)
end
