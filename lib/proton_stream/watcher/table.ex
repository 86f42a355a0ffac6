# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Watcher.Table do
  @moduledoc false

  # Which watcher an owner has. The table is made when it is first needed, and its keeper does
  # nothing else. Nothing depends on either: a session monitors its watcher and looks for
  # another when that ends, and a table that is gone is made again; the watchers that were in
  # it go on with the sessions they have.

  @table ProtonStream.Watcher

  @spec lookup(pid()) :: pid() | nil
  def lookup(owner) do
    case :ets.lookup(@table, owner) do
      [{_, watcher}] -> watcher
      [] -> nil
    end
  rescue
    ArgumentError -> nil
  end

  @doc "Whether this watcher is the owner's from now on: another one may have been first."
  @spec insert(pid(), pid()) :: boolean()
  def insert(owner, watcher) do
    :ets.insert_new(@table, {owner, watcher})
  rescue
    ArgumentError ->
      make()
      insert(owner, watcher)
  end

  @spec delete(pid(), pid()) :: :ok
  def delete(owner, watcher) do
    :ets.delete_object(@table, {owner, watcher})
    :ok
  rescue
    ArgumentError -> :ok
  end

  defp make do
    ref = make_ref()
    {_, monitor} = spawn_monitor(__MODULE__, :keep, [self(), ref])

    receive do
      {^ref, :kept} -> Process.demonitor(monitor, [:flush])
      # Another one was first.
      {:DOWN, ^monitor, _, _, _} -> :ok
    end
  end

  @doc false
  def keep(starter, ref) do
    # Not the group leader of whoever came first: it would end with that application.
    Process.group_leader(self(), Process.whereis(:init))
    :ets.new(@table, [:named_table, :public, read_concurrency: true])
    send(starter, {ref, :kept})
    :erlang.hibernate(__MODULE__, :kept, [])
  rescue
    ArgumentError -> :ok
  end

  @doc false
  def kept do
    receive do
      _ -> :erlang.hibernate(__MODULE__, :kept, [])
    end
  end
end
