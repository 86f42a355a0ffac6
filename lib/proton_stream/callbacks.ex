# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Callbacks do
  @moduledoc false

  # Delivery to a callback module, which is a GenServer in all but name: the session calls
  # it as `:gen_server` would. Three things need care, because the session shares a process
  # with it. The session traps exits, which the module may not have asked for. Messages of
  # the library must not end a timeout that the module has set, so timeouts are timers here.
  # And what merely looks like a request of the library is the module's.

  @behaviour ProtonStream.Delivery

  alias ProtonStream.Buffer
  alias ProtonStream.Callbacks.Calls
  alias ProtonStream.Callbacks.Flow
  alias ProtonStream.Herald
  alias ProtonStream.Options
  alias ProtonStream.Run
  alias ProtonStream.Signal
  alias ProtonStream.Transport

  @enforce_keys [:module, :traps?, :stdout, :stderr]
  defstruct [:module, :traps?, :timer, :stdout, :stderr, :last, more?: false]

  @type start ::
          (state :: term(), traps? :: boolean() -> {:ok, ProtonStream.t()} | {:stop, term()})

  @doc "Runs the module's `init/1`, and where it wants a process, `start` for the program."
  @spec init(module(), term(), start()) :: tuple() | :ignore
  def init(module, init_arg, start) do
    case Calls.caught(module, :init, [init_arg]) do
      {:ok, state} ->
        started(state, nil, start)

      {:ok, state, extra} = other ->
        if Calls.extra?(extra), do: started(state, extra, start), else: bad(other)

      :ignore ->
        :ignore

      {:stop, reason} ->
        {:stop, reason}

      # Since OTP 26; before, the VM calls it a bad return value itself.
      {:error, reason} ->
        {:error, reason}

      other ->
        bad(other)
    end
  end

  defp started(state, extra, start) do
    traps? = Process.flag(:trap_exit, true)

    with {:ok, ps} <- start.(state, traps?) do
      case Calls.arm(extra) do
        nil -> {:ok, ps}
        extra -> {:ok, ps, extra}
      end
    end
  end

  defp bad(value), do: {:stop, {:bad_return_value, value}}

  @spec new(module(), boolean(), Options.t()) :: struct()
  def new(module, traps?, options) do
    buffer = fn stream -> Buffer.new(Transport.cut(options, stream)) end

    %__MODULE__{
      module: module,
      traps?: traps?,
      stdout: buffer.(:stdout),
      stderr: buffer.(:stderr)
    }
  end

  @doc "The process that started this one."
  @spec parent() :: pid() | nil
  def parent do
    case Process.get(:"$ancestors") do
      [pid | _] when is_pid(pid) -> pid
      [name | _] when is_atom(name) -> Process.whereis(name)
      _ -> nil
    end
  end

  @impl true
  defdelegate output(stream, bytes, run, ps), to: Flow

  @impl true
  defdelegate end_of_output(stream, run, ps), to: Flow

  @impl true
  defdelegate ended(run, ps), to: Flow

  @impl true
  def message({pid, {:command, data}} = message, run, ps) when is_pid(pid) do
    if Run.iodata?(data) do
      case Run.push(run, data) do
        {:ok, run} -> Run.stored(run, ps)
        {:error, {_, _} = reason} -> run |> Flow.close(reason) |> Run.stored(ps)
        {:error, _} -> {:noreply, ps}
      end
    else
      Calls.info(message, run, ps)
    end
  end

  def message({pid, :eof}, run, ps) when is_pid(pid), do: Run.stored(Run.eof(run), ps)

  def message({pid, {:signal, signal}} = message, run, ps) when is_pid(pid),
    do: signal(signal, :program, message, run, ps)

  def message({pid, {:signal, signal, :tree}} = message, run, ps) when is_pid(pid),
    do: signal(signal, :tree, message, run, ps)

  def message({pid, :close}, run, ps) when is_pid(pid),
    do: run |> Herald.closed(pid) |> Flow.close(:normal) |> Run.stored(ps)

  def message({:"$proton_stream", :close, pid, witness}, run, ps)
      when is_pid(pid) and is_pid(witness) do
    Herald.seen(witness)
    message({pid, :close}, run, ps)
  end

  def message({:"$proton_stream", :more}, %{delivery: %{more?: true}} = run, ps),
    do: Flow.more(run, ps)

  # One that nobody waits for any more was on its way already.
  def message({:timeout, timer, {:"$proton_stream", _}}, run, ps),
    do: if(timer == run.delivery.timer, do: Calls.info(:timeout, run, ps), else: {:noreply, ps})

  def message({:EXIT, _pid, reason} = message, run, ps) do
    cond do
      run.delivery.traps? -> Calls.info(message, run, ps)
      reason == :normal -> {:noreply, ps}
      true -> die(reason, run)
    end
  end

  def message(message, run, ps), do: Calls.info(message, run, ps)

  defp signal(signal, scope, message, run, ps) do
    case Signal.number(signal) do
      {:ok, number} ->
        Run.signal(run, number, scope)
        {:noreply, ps}

      :error ->
        Calls.info(message, run, ps)
    end
  end

  @impl true
  def call(request, from, run, ps) do
    callback = Calls.exported(:handle_call, run, 3) || Calls.missing("call", :handle_call, 3, run)

    case Calls.invoke(run, callback, [request, from, ps.state]) do
      {:reply, reply, state} ->
        {:reply, reply, %{ps | state: state}}

      {:reply, reply, state, extra} = other ->
        case Calls.extra(extra, other, %{ps | state: state}) do
          {:noreply, ps} -> {:reply, reply, ps}
          {:noreply, ps, extra} -> {:reply, reply, ps, extra}
          stop -> stop
        end

      {:stop, reason, reply, state} ->
        {:stop, reason, reply, %{ps | state: state}}

      other ->
        Calls.reply(other, ps)
    end
  end

  @impl true
  def cast(request, run, ps) do
    callback = Calls.exported(:handle_cast, run, 2) || Calls.missing("cast", :handle_cast, 2, run)
    run |> Calls.invoke(callback, [request, ps.state]) |> Calls.reply(ps)
  end

  @doc "The module's `handle_continue/2`."
  @spec continue(term(), Run.t(), ProtonStream.t()) :: ProtonStream.Delivery.reply()
  def continue(term, run, ps),
    do: run |> Calls.invoke(:handle_continue, [term, ps.state]) |> Calls.reply(ps)

  # Callbacks get all there is, when they are done with what they have.
  @impl true
  def active(_mode, _from, _run, ps), do: {:reply, {:error, :not_owner}, ps}

  @impl true
  def read(_timeout, _from, _run, ps), do: {:reply, {:error, :not_owner}, ps}

  @impl true
  def writer?(_pid, _ps), do: true

  @impl true
  def held(run), do: %{stdout: run.delivery.stdout.bytes, stderr: run.delivery.stderr.bytes}

  @impl true
  def terminate(reason, run, ps) do
    if callback = Calls.exported(:terminate, run, 2),
      do: apply(run.delivery.module, callback, [reason, ps.state])
  after
    late_closes(Run.shut(Run.get(), reason))
  end

  @spec code_change(term(), Run.t(), ProtonStream.t(), term()) :: {:ok, ProtonStream.t()} | term()
  def code_change(vsn, run, ps, extra) do
    case Calls.exported(:code_change, run, 3) do
      nil ->
        {:ok, ps}

      callback ->
        with {:ok, state} <- apply(run.delivery.module, callback, [vsn, ps.state, extra]),
             do: {:ok, %{ps | state: state}}
    end
  end

  @doc "Lets the module format its own state inside of a `:gen_server` status."
  @spec format_status(Run.t(), map()) :: map()
  def format_status(run, %{state: ps} = status) do
    module = run.delivery.module

    cond do
      function_exported?(module, :format_status, 1) ->
        formatted = module.format_status(%{status | state: ps.state})
        %{formatted | state: %{ps | state: formatted.state}}

      function_exported?(module, :format_status, 2) ->
        # Only the end of a process has a reason.
        option = if Map.has_key?(status, :reason), do: :terminate, else: :normal
        %{status | state: %{ps | state: module.format_status(option, [[], ps.state])}}

      true ->
        status
    end
  end

  # As a process that does not trap exits ends: without terminate/2 and without a report.
  # But not before the program is dead.
  @spec die(term(), Run.t()) :: no_return()
  defp die(reason, run) do
    late_closes(Run.shut(run, reason))
    Run.erase()
    Process.flag(:trap_exit, false)
    Process.exit(self(), reason)
    exit(reason)
  end

  defp late_closes(run) do
    receive do
      {pid, :close} when is_pid(pid) ->
        late_closes(Herald.closed(run, pid))

      {:"$proton_stream", :close, pid, witness} when is_pid(pid) and is_pid(witness) ->
        Herald.seen(witness)
        late_closes(Herald.closed(run, pid))
    after
      0 -> :ok
    end
  end
end
