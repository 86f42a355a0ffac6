# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Nursery.Kept do
  @moduledoc false

  # Connections for the next run: those whose run is over, since to close one and to make another
  # takes a tenth of the time of a short program; and where programs are opened faster than others
  # end, those that are made ahead, while a guardian starts the program before.
  #
  # They are nobody's meanwhile, which a port can be that nothing is linked to, and stand in a
  # table from which sessions take them. What is not taken is closed soon, and its guardian
  # waits at the nursery's door again. Between the table and a link there is a moment in which
  # only a *claim* tells whose a connection is; with a claim it is not closed.

  use GenServer

  alias ProtonStream.Guardian
  alias ProtonStream.Guardian.Socket

  # Programs that end together are often followed by as many: so many at most, and no more than
  # this part of the files that the VM may have open; each for so many milliseconds.
  @most 1_024
  @few 16
  @part 16
  @patience 3_000

  @spec start_link(term()) :: GenServer.on_start()
  def start_link(_), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc "Keeps the calling session's connection. If it can't be kept it is still the session's."
  @spec keep(port(), port()) :: boolean()
  def keep(socket, nursery), do: keep(socket, nursery, :run)

  defp keep(socket, nursery, origin) do
    most = most()

    if full?(most) do
      false
    else
      # First: whatever becomes of the session meanwhile, that closes it. By name: whoever has it
      # then may be another process.
      timer = :erlang.start_timer(@patience, __MODULE__, socket)
      # The last one first: what it needs is in the processor's caches.
      key = {-System.monotonic_time(), socket}

      claiming(socket, fn ->
        Process.unlink(socket)
        :ets.insert(__MODULE__, {key, nursery, timer, origin})
      end)

      # Others may have come at the same time.
      not full?(most + 1) or :ets.take(__MODULE__, key) == []
    end
  rescue
    # The table's owner is gone.
    ArgumentError -> false
  end

  @doc "How many there are at most, in this VM."
  @spec most() :: pos_integer()
  def most, do: :persistent_term.get(__MODULE__)

  # Where there is no table its size is an atom, which is more than any number.
  defp full?(count), do: :ets.info(__MODULE__, :size) >= count

  @doc """
  A connection of this nursery's, which is the calling process's now, and whether it comes from a
  run or was made ahead of one.
  """
  @spec take(port()) :: {:run | :ahead, port()} | {:none, nil}
  def take(nursery) do
    case :ets.first(__MODULE__) do
      {_, socket} = key ->
        entry = claiming(socket, fn -> __MODULE__ |> :ets.take(key) |> connect(nursery) end)
        had(entry) || take(nursery)

      # Claims come after all entries.
      _ ->
        {:none, nil}
    end
  rescue
    ArgumentError -> {:none, nil}
  end

  defp connect([{{_, socket}, nursery, _, _}] = entry, nursery) do
    :erlang.port_connect(socket, self())
    entry
  rescue
    # Its guardian has gone.
    ArgumentError -> []
  end

  # Of a nursery that is gone.
  defp connect([{{_, socket}, _, _, _}], _nursery) do
    Guardian.let_go(socket)
    []
  end

  # Somebody was quicker.
  defp connect([], _nursery), do: []

  defp had([{{_, socket}, _, timer, origin}]) do
    :erlang.cancel_timer(timer, async: true, info: false)
    {origin, socket}
  end

  defp had([]), do: nil

  defp claiming(socket, fun) do
    claim = {:claim, socket, self()}
    :ets.insert(__MODULE__, {claim})
    result = fun.()
    :ets.delete(__MODULE__, claim)
    result
  end

  @doc """
  Whoever had to connect for itself, or has had what was made ahead, has another one made: if that
  was asked for not long before as well.
  """
  @spec connect_ahead(ProtonStream.Nursery.address()) :: :ok
  def connect_ahead(nursery), do: GenServer.cast(__MODULE__, {:connect_ahead, nursery})

  @impl true
  def init(_) do
    Process.flag(:trap_exit, true)
    # To read a decentralized counter, which is the default here, suspends who asks.
    options = [write_concurrency: true, decentralized_counters: false]
    :ets.new(__MODULE__, [:named_table, :public, :ordered_set | options])
    :persistent_term.put(__MODULE__, @few |> max(div(files(), @part)) |> min(@most))
    {:ok, %{began: now(), asked: nil}}
  end

  # How many the VM may have open, by its `ulimit -n`.
  defp files do
    [poll | _] = :erlang.system_info(:check_io)
    Keyword.fetch!(poll, :max_fds)
  end

  @impl true
  def handle_cast({:connect_ahead, nursery}, state) do
    now = now()
    soon? = state.asked != nil and now - state.asked <= @patience
    # Of many who come at once not each needs one.
    if soon? and not full?(most()), do: make(nursery)
    {:noreply, %{state | asked: now}}
  end

  defp make(nursery) do
    with {:ok, socket} <- Socket.connect_ahead(nursery),
         false <- keep(socket, nursery.port, :ahead),
         do: Guardian.let_go(socket)
  end

  @impl true
  def handle_info({:timeout, _timer, socket}, state) do
    if :ets.select_delete(__MODULE__, [{{{:_, socket}, :_, :_, :_}, [], [true]}]) > 0,
      do: Guardian.let_go(socket),
      else: claimed(socket, state.began)

    {:noreply, state}
  end

  def handle_info(_message, state), do: {:noreply, state}

  @impl true
  def terminate(_reason, _state) do
    for {{_, socket} = key, _, _, _} <- :ets.tab2list(__MODULE__),
        :ets.take(__MODULE__, key) != [],
        do: Guardian.let_go(socket)
  end

  # It has no entry. Who has taken that has a claim until there is a link.
  defp claimed(socket, began) do
    claimants = :ets.select(__MODULE__, [{{{:claim, socket, :"$1"}}, [], [:"$1"]}])

    cond do
      Enum.any?(claimants, &Process.alive?/1) ->
        :erlang.start_timer(@patience, self(), socket)

      # They were killed, or their table is lost with the process before this one.
      claimants != [] or now() - began <= 2 * @patience ->
        :ets.match_delete(__MODULE__, {{:claim, socket, :_}})
        if Port.info(socket, :links) == {:links, []}, do: Guardian.let_go(socket)

      true ->
        :ok
    end
  end

  defp now, do: System.monotonic_time(:millisecond)
end
