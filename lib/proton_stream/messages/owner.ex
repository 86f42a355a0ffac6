# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Messages.Owner do
  @moduledoc false

  # The way to an owner. One on another node hears all through a herald, which says why.

  alias ProtonStream.Herald
  alias ProtonStream.Run

  @doc "A run whose owner can be told."
  @spec of(Run.t(), pid()) :: Run.t()
  def of(run, owner), do: if(node(owner) == node(), do: run, else: Herald.of(run))

  @spec say(Run.t(), ProtonStream.t(), term()) :: :ok
  def say(_run, %{owner: owner}, message) when node(owner) == node() do
    send(owner, message)
    :ok
  end

  def say(run, %{owner: owner}, message), do: Herald.say(run.herald, owner, message)

  @doc "Several of a kind, in order."
  @spec say_each(Run.t(), ProtonStream.t(), atom(), [term()]) :: :ok
  def say_each(_run, %{owner: owner}, kind, all) when node(owner) == node() do
    me = self()
    Enum.each(all, &send(owner, {me, {kind, &1}}))
  end

  def say_each(run, %{owner: owner}, kind, all),
    do: Enum.each(all, &Herald.say(run.herald, owner, {self(), {kind, &1}}))
end
