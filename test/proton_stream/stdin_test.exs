# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.StdinTest do
  use ExUnit.Case, async: true

  alias ProtonStream.Stdin

  defp pushed(stdin, data) do
    {:ok, stdin} = Stdin.push(stdin, data)
    stdin
  end

  defp taken(stdin, frames \\ []) do
    case Stdin.take(stdin) do
      {nil, stdin} -> {Enum.reverse(frames), stdin}
      {{:stdin, bytes}, stdin} -> taken(stdin, [IO.iodata_to_binary(bytes) | frames])
      {frame, stdin} when is_atom(frame) -> taken(stdin, [frame | frames])
    end
  end

  test "no more than the credit is taken" do
    {frames, stdin} = Stdin.new(3) |> pushed("hello") |> taken()
    assert frames == ["hel"]
    assert stdin.queued == 2
    {[], stdin} = Stdin.credit(stdin, 1)
    assert {["l"], _} = taken(stdin)
  end

  test "small pieces go in one frame" do
    assert {["abc"], _} = Stdin.new(10) |> pushed("a") |> pushed(["b", [?c]]) |> taken()
  end

  test "a large piece goes in frames of 64 KiB" do
    data = ProtonStream.Programs.pattern(200_000)
    {frames, _} = Stdin.new(1_000_000) |> pushed(data) |> taken()
    assert Enum.map(frames, &byte_size/1) == [65_536, 65_536, 65_536, 3_392]
    assert IO.iodata_to_binary(frames) == data
  end

  test "the end of file comes after all bytes, and needs no credit" do
    {frames, stdin} = Stdin.new(2) |> pushed("abc") |> Stdin.eof() |> taken()
    assert frames == ["ab"]
    {[], stdin} = Stdin.credit(stdin, 1)
    assert {["c", :eof], stdin} = taken(stdin)
    assert {[], _} = taken(Stdin.eof(stdin))
  end

  test "nothing is taken over after the end of file" do
    assert {:error, :eof} = Stdin.new(1) |> Stdin.eof() |> Stdin.push("a")
  end

  test "nothing is taken over when the program has closed its stdin" do
    {[], stdin} = Stdin.gone(Stdin.new(1))
    assert {:error, :epipe} = Stdin.push(stdin, "a")
  end

  test "a writer waits until the credit for its last byte is back" do
    stdin = Stdin.new(10) |> pushed("abc")
    {:waiting, stdin} = Stdin.wait(stdin, :one)
    {:waiting, stdin} = stdin |> pushed("d") |> Stdin.wait(:two)
    {_, stdin} = taken(stdin)
    assert {[], stdin} = Stdin.credit(stdin, 2)
    assert {[:one, :two], _} = Stdin.credit(stdin, 2)
  end

  test "credit is asked for once behind the bytes that somebody waits for" do
    {:waiting, stdin} = Stdin.new(4) |> pushed("abc") |> Stdin.wait(:one)
    {frames, stdin} = stdin |> pushed("de") |> taken()
    assert frames == ["abcd", :sync]
    {:waiting, stdin} = Stdin.wait(stdin, :two)
    assert {[], stdin} = taken(stdin)
    {[:one], stdin} = Stdin.credit(stdin, 4)
    assert {["e", :sync], _} = taken(stdin)
  end

  test "a writer of nothing does not wait when nothing is on its way" do
    assert {:written, _} = Stdin.new(0) |> pushed("") |> Stdin.wait(:one)
  end

  test "those who wait are returned when stdin is gone" do
    {:waiting, stdin} = Stdin.new(0) |> pushed("a") |> Stdin.wait(:one)
    assert {[:one], %{queued: 0}} = Stdin.gone(stdin)
  end
end
