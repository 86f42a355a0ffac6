# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.WindowTest do
  use ExUnit.Case, async: true

  alias ProtonStream.Watcher.Mailbox
  alias ProtonStream.Window

  defp put(window, bytes) do
    assert {0, window} = Window.put(window, bytes)
    window
  end

  test "an owner that holds nothing gets a whole window, and what follows waits, merged" do
    window = Window.new(4) |> put("abc") |> put("def")
    assert {:ok, "abcd", 4, window} = Window.take(window, :room)
    window = window |> put("g") |> put("h")
    assert {:none, window} = Window.take(window, :room)
    assert Window.limit(window) == 0
    assert Window.held(window) == 4
    window = Window.read(window, window.sent, 0)
    assert {:ok, "efgh", 4, window} = Window.take(window, :room)
    assert Window.limit(window) == -1
  end

  test "raw bytes are spent when a piece has gone, but not before a gap, nor where all is read" do
    window = Window.new(4) |> put("abcdef")
    refute Window.spent?(window)
    assert {:ok, "abcd", 4, window} = Window.take(window, :room)
    assert Window.spent?(window)
    assert {:none, ^window} = Window.take(window, :room)
    refute Window.spent?(Window.moved(window))
    assert {2, window} = Window.put(Window.new(9, :raw, {:drop, 6}), "abcdefgh")
    assert {:ok, "abcdef", 6, window} = Window.take(window, :room)
    refute Window.spent?(window)
    assert {:dropped, 2, window} = Window.take(window, :room)
    assert Window.spent?(window)
    lines = Window.new(999, {:line, 8})
    assert {:ok, {:eol, ""}, 1, window} = lines |> put("\n\n") |> Window.take(:room)
    refute Window.spent?(window)
  end

  test "less than half a window is not split off from what waits" do
    window = Window.new(10_000) |> put(:binary.copy("a", 30_000))
    assert {:ok, chunk, 10_000, window} = Window.take(window, :room)
    assert byte_size(chunk) == 10_000
    window = Window.read(window, window.sent, 6_000)
    assert {:none, window} = Window.take(window, :room)
    window = Window.read(window, window.sent, Window.limit(window))
    assert {:ok, _, 5_000, _} = Window.take(window, :room)
  end

  test "an owner that holds nothing gets what is extra in one piece, and then no more" do
    window = %{Window.new(10_000) | extra: 5_000} |> put(:binary.copy("a", 40_000))
    assert {:ok, _, 15_000, window} = Window.take(window, :room)
    assert Window.beyond(window) == 5_000 + Mailbox.overhead()
    assert {:none, window} = Window.take(window, :room)
    # With all but a little read it is a window again.
    window = Window.read(window, window.sent, 1_000)
    assert Window.beyond(window) == 0
    assert {:ok, _, count, window} = Window.take(window, :room)
    assert count == 9_000 - Mailbox.overhead()
    window = Window.read(%{window | extra: 0}, window.sent, 0)
    assert {:ok, _, 10_000, _} = Window.take(window, :room)
  end

  test "what goes beyond a window, or a small one, keeps little else alive" do
    frame = :binary.copy("x", 200_000)
    take = fn window -> window |> put(frame) |> Window.take(:room) end
    assert {:ok, chunk, 120_000, _} = take.(%{Window.new(60_000) | extra: 60_000})
    assert :binary.referenced_byte_size(chunk) <= 121_088
    frame = :binary.copy("x", 15_000)
    assert {:ok, chunk, 10_240, _} = Window.new(10_240) |> put(frame) |> Window.take(:room)
    assert :binary.referenced_byte_size(chunk) <= 11_328
  end

  # What an owner gets that reads all of it now and then.
  defp handed_on(window, take, got \\ []) do
    case take.(window) do
      {[], 0, window} ->
        case Window.take(window, :room) do
          {:ok, payload, _, window} ->
            handed_on(window, take, [payload | got])

          {:none, window} ->
            if Window.held(window) == 0,
              do: {Enum.reverse(got), window.sent},
              else: window |> Window.read(window.sent, 0) |> handed_on(take, got)
        end

      {payloads, _, window} ->
        handed_on(window, take, Enum.reverse(payloads) ++ got)
    end
  end

  test "many lines or packets at once are those that come one after the other" do
    lines = for n <- 1..2_000, into: "", do: :binary.copy("l", rem(n * 37, 230)) <> "\r\n"

    packets =
      for n <- 1..2_000,
          size = rem(n * 37, 230),
          into: "",
          do: <<size::16, :binary.copy("p", size)::binary>>

    for {cut, bytes} <- [{{:line, 100}, lines}, {{:packet, 2, 230}, packets}],
        piece <- [1, 101, 102, 103, 4_000, 5_000, 70_000],
        size <- [1, 300, 10_240, 1_048_576] do
      pieces = for <<part::binary-size(piece) <- bytes>>, do: part
      rest = binary_part(bytes, length(pieces) * piece, rem(byte_size(bytes), piece))
      window = Enum.reduce(pieces ++ [rest], Window.new(size, cut), &put(&2, &1))
      window = Window.finish(window)

      one = handed_on(window, &{[], 0, &1})
      assert handed_on(window, &Window.take_many(&1, 1_000_000)) == one
      assert handed_on(window, &Window.take_many(&1, 3)) == one
      assert one |> elem(0) |> length() >= 2_000
    end
  end

  test "many at once are no more than was asked for, and leave the window its bound" do
    window = Window.new(10_240, {:line, 100}) |> put(:binary.copy("0123456789\n", 1_000))
    assert {payloads, 55, _} = Window.take_many(window, 5)
    assert payloads == List.duplicate({:eol, "0123456789"}, 5)
    {payloads, _, window} = Window.take_many(window, 1_000)
    assert length(payloads) in 30..80
    assert window.sent <= 10_240
    assert {[], 0, _} = Window.take_many(window, 1_000)
    assert {[], 0, _} = Window.new(10_240) |> put("raw") |> Window.take_many(1_000)
  end

  test "a message counts for more than its bytes" do
    window =
      Enum.reduce_while(1..10_240, Window.new(10_240), fn n, window ->
        case window |> put("x") |> Window.take(:room) do
          {:ok, "x", 1, window} -> {:cont, window}
          {:none, _} -> {:halt, {n, window}}
        end
      end)

    assert {n, _} = window
    assert n in 40..(div(10_240, Mailbox.overhead()) + 1)
  end

  test "a chunk does not keep the frame that it came in alive" do
    frame = :binary.copy("x", 200_000)
    {:ok, chunk, 1_000, _} = Window.new(1_000) |> put(frame) |> Window.take(:room)
    assert :binary.referenced_byte_size(chunk) < 3_000
  end

  test "a whole frame is handed on without a copy" do
    frame = binary_part(:binary.copy("x", 200_000), 1, 199_999)
    {:ok, chunk, _, _} = Window.new(200_000) |> put(frame) |> Window.take(:room)
    assert :binary.referenced_byte_size(chunk) == 200_000
  end

  test "a new owner has the whole window" do
    {:ok, "abcd", 4, window} = Window.new(4) |> put("abcd") |> Window.take(:room)
    assert {:ok, "e", 1, _} = window |> Window.moved() |> put("e") |> Window.take(:room)
  end

  test "what does not fit is dropped and counted, and told where it is missing" do
    window = Window.new(4, :raw, {:drop, 4})
    assert {0, window} = Window.put(window, "ab")
    assert {3, window} = Window.put(window, "cdEFG")
    assert {1, window} = Window.put(window, "H")
    assert {:ok, "abcd", 4, window} = Window.take(window, :room)
    assert {:dropped, 4, window} = Window.take(window, :room)
    assert {0, window} = Window.put(window, "i")
    window = Window.read(window, window.sent, 0)
    assert {:ok, "i", 1, window} = Window.take(window, :room)
    assert {:none, _} = Window.take(window, :room)
  end
end
