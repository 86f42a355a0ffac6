# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Watcher.Mailbox do
  @moduledoc false

  # What is in an owner's mailbox, of which this makes a copy, and what that means.

  alias ProtonStream.Watcher

  # What a message costs its owner beside its bytes: without this a program that writes
  # byte by byte would cost a hundred times its window.
  @overhead 128

  @typedoc "What sessions wait for: a reference, their marks, and how much may be unread."
  @type pending :: %{pid() => {reference(), Watcher.marks(), Watcher.limits()}}

  @typedoc "What of each session is in the mailbox; one that isn't there has nothing in it."
  @type unread :: %{pid() => Watcher.marks()}

  @doc "Bytes that a message in a mailbox is taken to cost beside its payload."
  @spec overhead() :: pos_integer()
  def overhead, do: @overhead

  @doc "What a message with this payload costs its owner."
  @spec cost(binary() | {atom(), binary()}) :: non_neg_integer()
  def cost({_, bytes}), do: byte_size(bytes) + @overhead
  def cost(bytes), do: byte_size(bytes) + @overhead

  @doc "The sessions that get their answer: of one stream no more than its limit is unread."
  @spec read(pending(), unread()) :: [pid()]
  def read(pending, unread) do
    for {session, {_, _, {out_limit, err_limit}}} <- pending,
        {out, err} = Map.get(unread, session, {0, 0}),
        out <= out_limit or err <= err_limit,
        do: session
  end

  @doc """
  How many messages there are, how many of them are strangers', and what is ours; `nil` of
  an owner that has ended. Waits for one that is inside of a long native function.
  """
  @spec count(pid(), pending()) :: {non_neg_integer(), non_neg_integer(), unread()} | nil
  def count(owner, pending) do
    with {:messages, messages} <- Process.info(owner, :messages),
         do: count(messages, pending, 0, 0, %{})
  end

  defp count([], _pending, length, strangers, unread), do: {length, strangers, unread}

  defp count([{session, {tag, payload}} | rest], pending, length, strangers, unread)
       when is_map_key(pending, session) and tag in [:data, :error] do
    {out, err} = Map.get(unread, session, {0, 0})
    cost = cost(payload)
    sum = if tag == :data, do: {out + cost, err}, else: {out, err + cost}
    count(rest, pending, length + 1, strangers, Map.put(unread, session, sum))
  end

  defp count([_ | rest], pending, length, strangers, unread),
    do: count(rest, pending, length + 1, strangers + 1, unread)
end
