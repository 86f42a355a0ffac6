# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.BufferTest do
  use ExUnit.Case, async: true

  alias ProtonStream.Buffer

  defp all(buffer, most, taken \\ []) do
    case Buffer.take(buffer, most) do
      {:ok, payload, _, buffer} -> all(buffer, most, [payload | taken])
      {:none, buffer} -> {Enum.reverse(taken), buffer}
    end
  end

  # What comes of pieces of any size, taken as they come and at the end.
  defp cut(cut, pieces) do
    {taken, buffer} =
      Enum.reduce(pieces, {[], Buffer.new(cut)}, fn piece, {taken, buffer} ->
        {now, buffer} = buffer |> Buffer.put(piece) |> all(1_000_000)
        {taken ++ now, buffer}
      end)

    {last, buffer} = buffer |> Buffer.finish() |> all(1_000_000)
    assert Buffer.done?(buffer)
    taken ++ last
  end

  # The model is the VM's own driver.
  defp port(bytes, max) do
    path = ProtonStream.Programs.temporary("lines", bytes)

    port = Port.open({:spawn_executable, "/bin/cat"}, [:binary, :eof, line: max, args: [path]])

    port_lines(port, [])
  end

  defp port_lines(port, lines) do
    receive do
      {^port, {:data, line}} -> port_lines(port, [line | lines])
      {^port, :eof} -> Enum.reverse(lines)
    end
  end

  test "lines are those that a Port gives, in pieces of any size" do
    for bytes <- [
          "a\nbc\n\nd",
          "abc\nabcd\nabcde\n",
          "abcd",
          "\n",
          "abcdabcd\n",
          "",
          "a\r\nb",
          "ab\r\nc\r\r\n\r",
          "\r\n\r"
        ],
        max <- [1, 2, 3, 4, 100] do
      expected = port(bytes, max)
      assert {bytes, max, cut({:line, max}, [bytes])} == {bytes, max, expected}
      single = for <<byte <- bytes>>, do: <<byte>>
      assert {bytes, max, cut({:line, max}, single)} == {bytes, max, expected}
    end
  end

  test "a long line that comes byte by byte is looked at once" do
    buffer =
      Enum.reduce(1..200_000, Buffer.new({:line, 1_000_000}), fn _, buffer ->
        assert {:none, buffer} = buffer |> Buffer.put("x") |> Buffer.take(1)
        buffer
      end)

    assert {:ok, {:eol, line}, 200_001, _} = buffer |> Buffer.put("\n") |> Buffer.take(1)
    assert byte_size(line) == 200_000
  end

  test "packets come whole, whatever the pieces" do
    for header <- [1, 2, 4] do
      packets = ["", "a", :binary.copy("b", 200), "c"]
      bytes = for p <- packets, into: "", do: <<byte_size(p)::unit(8)-size(header), p::binary>>
      single = for <<byte <- bytes>>, do: <<byte>>
      assert cut({:packet, header, 200}, [bytes]) == packets
      assert cut({:packet, header, 200}, single) == packets
    end
  end

  test "a packet that is too large is found by its header, one that is cut short is lost" do
    buffer = Buffer.new({:packet, 2, 10})
    assert {:too_large, 11} = buffer |> Buffer.put(<<11::16>>) |> Buffer.take(1)
    assert cut({:packet, 2, 10}, [<<3::16, "abc", 3::16, "ab">>]) == ["abc"]
  end

  test "raw bytes come back in order, in pieces of at most so many, small ones merged" do
    pieces = for n <- 1..3_000, do: :binary.copy(<<rem(n, 256)>>, rem(n * 37, 9_000))
    buffer = Enum.reduce(pieces, Buffer.new(:raw), &Buffer.put(&2, &1))
    {taken, _} = all(buffer, 10_240)
    assert Enum.all?(Enum.drop(taken, -1), &(byte_size(&1) == 10_240))
    assert :erlang.md5(taken) == :erlang.md5(pieces)
  end
end
