# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.WindowTest do
  use ExUnit.Case, async: true

  alias ProtonStream.Window

  test "what fits is handed on, the rest is held and merged" do
    window = Window.new(4) |> Window.put("abc")
    assert {"abc", window} = Window.take(window)
    window = window |> Window.put("d") |> Window.put("ef")
    assert {"d", window} = Window.take(window)
    assert {nil, window} = Window.take(window)
    assert window.held == "ef"
    assert {"ef", _} = window |> Window.read(4, 0) |> Window.take()
  end

  test "what is still unread counts" do
    {"abcd", window} = Window.new(4) |> Window.put("abcd") |> Window.take()
    window = window |> Window.put("efgh") |> Window.read(4, 3)
    assert {"e", _} = Window.take(window)
  end

  test "a chunk does not keep the frame that it came in alive" do
    frame = :binary.copy("x", 200_000)
    {chunk, _} = Window.new(1_000) |> Window.put(frame) |> Window.take()
    assert :binary.referenced_byte_size(chunk) == 1_000
  end

  test "a whole frame is handed on without a copy" do
    <<_, frame::binary>> = whole = :binary.copy("x", 200_000)
    {chunk, _} = Window.new(200_000) |> Window.put(frame) |> Window.take()
    assert :binary.referenced_byte_size(chunk) == byte_size(whole)
  end

  test "a new owner has the whole window" do
    {"abcd", window} = Window.new(4) |> Window.put("abcd") |> Window.take()
    assert {"efgh", _} = window |> Window.moved() |> Window.put("efgh") |> Window.take()
  end
end
