# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule Bench.Count do
  @moduledoc false

  # What `System.cmd/3` puts its output into, when only the size is wanted.

  defstruct bytes: 0

  defimpl Collectable do
    def into(count) do
      {count,
       fn
         count, {:cont, data} -> %{count | bytes: count.bytes + byte_size(data)}
         count, :done -> count
         _count, :halt -> :ok
       end}
    end
  end
end
