# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Signal do
  @moduledoc false

  # Linux's numbers on x86, ARM and RISC-V (`man 7 signal`).

  @numbers [
    hup: 1,
    int: 2,
    quit: 3,
    ill: 4,
    trap: 5,
    abrt: 6,
    bus: 7,
    fpe: 8,
    kill: 9,
    usr1: 10,
    segv: 11,
    usr2: 12,
    pipe: 13,
    alrm: 14,
    term: 15,
    stkflt: 16,
    chld: 17,
    cont: 18,
    stop: 19,
    tstp: 20,
    ttin: 21,
    ttou: 22,
    urg: 23,
    xcpu: 24,
    xfsz: 25,
    vtalrm: 26,
    prof: 27,
    winch: 28,
    io: 29,
    pwr: 30,
    sys: 31
  ]
  @names for {name, _} <- @numbers, do: :"sig#{name}"

  @doc "The names that are known, in the order of their numbers."
  @spec names() :: [atom()]
  def names, do: @names

  @doc "The number of a signal: `:sigterm`, `:term` or 15."
  @spec number(term()) :: {:ok, 1..64} | :error
  def number(number) when number in 1..64, do: {:ok, number}

  for {name, number} <- @numbers do
    def number(unquote(name)), do: {:ok, unquote(number)}
    def number(unquote(:"sig#{name}")), do: {:ok, unquote(number)}
  end

  def number(_), do: :error

  @doc "As `number/1`, raising `ArgumentError` for what is no signal."
  @spec number!(term()) :: 1..64
  def number!(signal) do
    case number(signal) do
      {:ok, number} ->
        number

      :error ->
        raise ArgumentError,
              "#{inspect(signal)} is not a signal: allowed are the numbers 1 to 64 and " <>
                Enum.map_join(@names, ", ", &inspect/1) <> " (with or without `sig`)"
    end
  end
end
