# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.GridTest do
  # Every cell of `ProtonStream.Grid` is a test. Not async: a VM that is killed, bombs and
  # chains want the machine for themselves.
  use ExUnit.Case, async: false

  alias ProtonStream.Grid

  @moduletag :root
  @moduletag :cgroup
  @moduletag :grid
  @moduletag timeout: 600_000

  @document Path.expand("../../docs/GUARANTEES.md", __DIR__)

  setup_all do
    results = Map.merge(Grid.run(:root), Grid.run(:nobody))
    {time, results} = Enum.split_with(results, &match?({{:milliseconds, _}, _}, &1))
    seconds = time |> Enum.map(&elem(&1, 1)) |> Enum.sum() |> div(1000)
    IO.puts("\ngrid: #{length(Grid.cells())} cells and 400 chains and bombs in #{seconds} s")
    {:ok, results: Map.new(results)}
  end

  for cell <- Grid.cells() do
    @tag cell: cell
    test "nothing is left: #{Grid.title(cell)}", %{cell: cell, results: results} do
      assert results[cell] == :ok
    end
  end

  for user <- [:root, :nobody], behaviour <- [:chain, :bomb] do
    @tag key: {:hundred, behaviour, user}
    test "a hundred times a #{behaviour} as #{user} leaves nobody", %{key: key, results: results} do
      assert results[key] == :ok
    end
  end

  for user <- [:root, :nobody], who <- [:guardian, :nursery] do
    @tag key: {:random, who, user}
    test "a #{who} that is killed at 300 moments of a start leaves nobody, as #{user}", context do
      assert context.results[context.key] == :ok
    end
  end

  test "the documents have this table" do
    assert File.read!(@document) =~ Grid.markdown()
  end
end
