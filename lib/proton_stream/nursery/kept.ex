# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Nursery.Kept do
  @moduledoc false

  # Connections whose run is over, for the next one: to close one and to make another takes a
  # tenth of the time of a short program.
  #
  # They belong to this process meanwhile, and stand in a table from which sessions take them
  # without asking. What is not taken is closed soon, and its guardian waits at the nursery's
  # door again.

  use GenServer

  alias ProtonStream.Guardian

  # So many, or a few more where several come at the same time; each for so many milliseconds.
  @most 16
  @patience 1_000

  @spec start_link(term()) :: GenServer.on_start()
  def start_link(_), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc "Keeps the calling session's connection. If it can't be kept it is still the session's."
  @spec keep(port(), port()) :: boolean()
  def keep(socket, nursery) do
    with pid when is_pid(pid) <- Process.whereis(__MODULE__),
         true <- :ets.info(__MODULE__, :size) < @most do
      # First: if the session is killed in the middle of this, that still closes it.
      timer = :erlang.start_timer(@patience, pid, socket)
      :erlang.port_connect(socket, pid)
      Process.unlink(socket)
      # The last one first: what it needs is in the processor's caches.
      :ets.insert(__MODULE__, {{-System.monotonic_time(), socket}, nursery, timer})
    else
      _ -> false
    end
  rescue
    # It is closed.
    ArgumentError -> false
  end

  @doc "A connection of this nursery's, which is the calling process's now."
  @spec take(port()) :: port() | nil
  def take(nursery) do
    with key when key != :"$end_of_table" <- :ets.first(__MODULE__) do
      with [{{_, socket}, ^nursery, timer}] <- :ets.take(__MODULE__, key),
           true <- connect(socket) do
        :erlang.cancel_timer(timer, async: true, info: false)
        socket
      else
        # Somebody was quicker, or it is closed, or will be: of a nursery that is gone.
        _ -> take(nursery)
      end
    else
      _ -> nil
    end
  rescue
    # The table's owner is gone.
    ArgumentError -> nil
  end

  defp connect(socket) do
    :erlang.port_connect(socket, self())
    send(__MODULE__, {:taken, socket})
    true
  rescue
    ArgumentError -> false
  end

  @impl true
  def init(_) do
    Process.flag(:trap_exit, true)
    :ets.new(__MODULE__, [:named_table, :public, :ordered_set, write_concurrency: true])
    {:ok, nil}
  end

  @impl true
  def handle_info({:taken, socket}, state) do
    Process.unlink(socket)
    {:noreply, state}
  end

  def handle_info({:timeout, _timer, socket}, state) do
    forget(socket)
    # Otherwise it was taken at the last moment.
    if Port.info(socket, :connected) == {:connected, self()}, do: Guardian.let_go(socket)
    {:noreply, state}
  end

  # Its guardian has gone.
  def handle_info({:EXIT, socket, _}, state) when is_port(socket) do
    forget(socket)
    {:noreply, state}
  end

  # A guardian that nobody has asked anything has nothing to say.
  def handle_info({:tcp, socket, _}, state) do
    forget(socket)
    Guardian.let_go(socket)
    {:noreply, state}
  end

  def handle_info(_message, state), do: {:noreply, state}

  defp forget(socket), do: :ets.match_delete(__MODULE__, {{:_, socket}, :_, :_})
end
