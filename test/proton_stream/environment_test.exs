# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.EnvironmentTest do
  use ExUnit.Case, async: true

  alias ProtonStream.Environment

  defp bytes(chars, at_start \\ []), do: Environment.to_bytes([chars], :utf8, fn -> at_start end)

  test "ASCII is itself" do
    assert bytes(~c"A=b") == ["A=b"]
  end

  test "decoded text is encoded again" do
    assert bytes([?A, ?=, 0x20AC]) == ["A=€"]
    assert bytes([?A, ?=, 0xE9], ["A=é"]) == ["A=é"]
  end

  test "bytes that were not UTF-8 stay bytes" do
    raw = <<"A=a", 0xFF, "b">>
    assert bytes([?A, ?=, ?a, 0xFF, ?b], ["B=1", raw]) == [raw]
  end

  test "code points whose bytes are UTF-8 were text, or they would have been decoded" do
    # As bytes these are é; as text they are two letters.
    assert bytes([?A, ?=, 0xC3, 0xA9], [<<"A=", 0xC3, 0xA9>>]) == ["A=Ã©"]
  end

  test "a Latin-1 VM hands over bytes" do
    assert Environment.to_bytes([[?A, ?=, 0xE9]], :latin1, fn -> [] end) == [<<"A=", 0xE9>>]
  end

  test "what was set in this VM is there, and what is not any more isn't" do
    name = "PROTON_STREAM_ENVIRONMENT_TEST"
    variables = fn -> :binary.split(Environment.inherited(), <<0>>, [:global]) end

    # Some of them are what it was the last time, which is remembered.
    for value <- ["é", "e", "e", "é", "other", "other"] do
      System.put_env(name, value)
      assert "#{name}=#{value}" in variables.()
    end

    System.delete_env(name)
    refute Enum.any?(variables.(), &String.starts_with?(&1, name))
  after
    System.delete_env("PROTON_STREAM_ENVIRONMENT_TEST")
  end

  test "what is remembered is replaced once a minute at most" do
    remember = fn age ->
      since = System.monotonic_time(:millisecond) - age
      :persistent_term.put(Environment, {[], "nothing", since})
      assert Environment.inherited() =~ "PATH="
      elem(:persistent_term.get(Environment), 1)
    end

    assert remember.(0) == "nothing"
    assert remember.(60_000) =~ "PATH="
  end
end
