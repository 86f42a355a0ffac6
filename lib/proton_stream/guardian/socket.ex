# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Guardian.Socket do
  @moduledoc false

  # The way to a guardian that the nursery forks: a local socket, which is a port of the VM,
  # too.

  alias ProtonStream.Guardian
  alias ProtonStream.Nursery
  alias ProtonStream.Nursery.Frame

  # The VM must neither suspend nor refuse whoever writes: stdin's credit bounds what is
  # queued, as for a port.
  @never_busy 67_108_864

  # What is on its way in either direction in the kernel.
  @room 1_048_576

  @options [
    :local,
    :binary,
    packet: :raw,
    active: false,
    high_watermark: @never_busy,
    high_msgq_watermark: @never_busy,
    sndbuf: @room,
    recbuf: @room,
    show_econnreset: true
  ]

  # Milliseconds between two tries when too many connect at once.
  @again 1

  @doc "Connects, and sends what begins a connection with the first frame."
  @spec connect(Nursery.address(), non_neg_integer(), iodata(), integer() | :infinity) ::
          {:ok, port()} | {:error, term()}
  def connect(address, run, first, deadline) do
    case :gen_tcp.connect({:local, address.path}, 0, @options, Guardian.left(deadline)) do
      {:ok, socket} ->
        begin(socket, address, run, first)

      # The backlog is full.
      {:error, :eagain} ->
        Process.sleep(@again)

        if Guardian.left(deadline) == 0,
          do: {:error, :timeout},
          else: connect(address, run, first, deadline)

      error ->
        error
    end
  end

  defp begin(socket, address, run, first) do
    length = :erlang.iolist_size(first)
    bytes = [Frame.preamble(address.secret, run), <<length::32>> | first]

    with :ok <- :gen_tcp.send(socket, bytes),
         :ok <- :inet.setopts(socket, packet: 4, active: true) do
      {:ok, socket}
    else
      error ->
        Guardian.let_go(socket)
        error
    end
  end
end
