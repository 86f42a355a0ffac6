# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.SignalTest do
  use ExUnit.Case, async: true

  alias ProtonStream.Signal

  test "a signal is named with and without sig, or a number" do
    for signal <- [:sigterm, :term, 15], do: assert(Signal.number(signal) == {:ok, 15})
    assert Signal.number(64) == {:ok, 64}
  end

  test "the names are the system's" do
    for name <- Signal.names(), {:ok, number} = Signal.number(name) do
      "sig" <> short = Atom.to_string(name)
      assert {out, 0} = System.cmd("bash", ["-c", "kill -l #{number}"])

      assert out |> String.trim() |> String.downcase() |> String.replace_prefix("sig", "") ==
               short
    end
  end

  test "what is no signal raises and lists the names" do
    for signal <- [0, 65, -1, :sigfoo, "TERM", nil] do
      assert_raise ArgumentError, ~r/:sigterm/, fn -> Signal.number!(signal) end
    end
  end
end
