# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Nursery.Kept do
  @moduledoc false

  # Connections whose run is over, for the next one: to close one and to make another takes a
  # tenth of the time of a short program.
  #
  # They are nobody's meanwhile, which a port can be that nothing is linked to, and stand in a
  # table from which sessions take them. What is not taken is closed soon, and its guardian
  # waits at the nursery's door again.

  use GenServer

  alias ProtonStream.Guardian

  # So many at most, each for so many milliseconds.
  @most 16
  @patience 1_000

  @spec start_link(term()) :: GenServer.on_start()
  def start_link(_), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc "Keeps the calling session's connection. If it can't be kept it is still the session's."
  @spec keep(port(), port()) :: boolean()
  def keep(socket, nursery) do
    if full?(@most) do
      false
    else
      # First: whatever becomes of the session meanwhile, that closes it. By name: whoever has it
      # then may be another process.
      timer = :erlang.start_timer(@patience, __MODULE__, socket)
      Process.unlink(socket)
      # The last one first: what it needs is in the processor's caches.
      key = {-System.monotonic_time(), socket}
      :ets.insert(__MODULE__, {key, nursery, timer})
      # Others may have come at the same time.
      not full?(@most + 1) or :ets.take(__MODULE__, key) == []
    end
  rescue
    # The table's owner is gone.
    ArgumentError -> false
  end

  # Where there is no table its size is an atom, which is more than any number.
  defp full?(count), do: :ets.info(__MODULE__, :size) >= count

  @doc "A connection of this nursery's, which is the calling process's now."
  @spec take(port()) :: port() | nil
  def take(nursery) do
    case :ets.first(__MODULE__) do
      :"$end_of_table" -> nil
      key -> __MODULE__ |> :ets.take(key) |> have(nursery) || take(nursery)
    end
  rescue
    ArgumentError -> nil
  end

  defp have([{{_, socket}, nursery, timer}], nursery) do
    :erlang.port_connect(socket, self())
    :erlang.cancel_timer(timer, async: true, info: false)
    socket
  rescue
    # Its guardian has gone.
    ArgumentError -> nil
  end

  # Of a nursery that is gone.
  defp have([{{_, socket}, _, _}], _nursery) do
    Guardian.let_go(socket)
    nil
  end

  # Somebody was quicker.
  defp have([], _nursery), do: nil

  @impl true
  def init(_) do
    Process.flag(:trap_exit, true)
    :ets.new(__MODULE__, [:named_table, :public, :ordered_set, write_concurrency: true])
    {:ok, nil}
  end

  @impl true
  def handle_info({:timeout, timer, socket}, state) do
    # Its entry is gone if somebody has it, or if nobody ever made it.
    if :ets.select_delete(__MODULE__, [{{:_, :_, timer}, [], [true]}]) == 1 or nobodys?(socket),
      do: Guardian.let_go(socket)

    {:noreply, state}
  end

  def handle_info(_message, state), do: {:noreply, state}

  @impl true
  def terminate(_reason, _state) do
    for {{_, socket} = key, _, _} <- :ets.tab2list(__MODULE__),
        :ets.take(__MODULE__, key) != [],
        do: Guardian.let_go(socket)
  end

  # Whoever has it is linked to it.
  defp nobodys?(socket), do: Port.info(socket, :links) == {:links, []}
end
