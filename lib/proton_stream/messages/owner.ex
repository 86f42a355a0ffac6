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
end
