# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.RemoteTest do
  # Nodes of their own, that find each other without epmd: one listens, the other doesn't.
  use ExUnit.Case, async: true

  import ProtonStream.OtherVM

  @moduletag timeout: 120_000

  defp free_port do
    {:ok, socket} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
    {:ok, port} = :inet.port(socket)
    :gen_tcp.close(socket)
    port
  end

  test "an owner on another node gets as many messages as it asks for, and may read" do
    script = ~S"""
    flags = ~w(-start_epmd false -dist_listen false -erl_epmd_port) ++ [System.get_env("PORT")]
    flags = Enum.map(flags, &String.to_charlist/1)
    {:ok, _, node} = :peer.start_link(%{name: :b, host: ~c"127.0.0.1", args: flags})
    :ok = :erpc.call(node, :code, :add_paths, [:code.get_path()])

    {:ok, ps} = ProtonStream.open("yes", [], active: false)
    main = self()

    owner = Node.spawn(node, fn ->
      receive do: (:go -> :ok)
      :ok = ProtonStream.set_active(ps, 3)
      collect = fn collect, sizes ->
        receive do
          {^ps, {:data, data}} -> collect.(collect, [byte_size(data) | sizes])
          {^ps, :passive} -> sizes
        end
      end
      sizes = collect.(collect, [])
      {:ok, {:stdout, data}} = ProtonStream.read(ps)
      :ok = ProtonStream.set_active(ps, :once)
      once = receive do: ({^ps, {:data, data}} -> byte_size(data))
      rest = receive do: ({^ps, _} = more -> more), after: (0 -> :none)
      ProtonStream.close(ps)
      closed = receive do: ({^ps, :closed} -> :erpc.call(node(main), Process, :alive?, [ps]))
      send(main, {self(), {sizes, byte_size(data), once, rest, closed}})
    end)

    ProtonStream.connect(ps, owner)
    receive do: ({^ps, :connected} -> :ok)
    send(owner, :go)
    receive do: ({^owner, result} -> tell.(result))
    System.halt(0)
    """

    port = free_port()

    options =
      "-name a@127.0.0.1 -start_epmd false -erl_epmd_port #{port} " <>
        "-kernel inet_dist_use_interface {127,0,0,1}"

    {vm, _} = start(script, %{"ELIXIR_ERL_OPTIONS" => options, "PORT" => "#{port}"})
    assert {sizes, read, once, :none, false} = told(vm)
    assert [_, _, _] = sizes
    assert Enum.all?([once, read | sizes], &(&1 <= 10_240))
  end
end
