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

  # What is on its way to the guardian in the kernel: stdin's whole credit, and more.
  @room 1_048_576

  # What is read at once: each message keeps that much alive, and a processor's caches hold it.
  # Who reads in large pieces has them whole with more.
  @read 65_536
  @greatest_read 1_048_576

  @options [
    :local,
    :binary,
    packet: :raw,
    active: false,
    high_watermark: @never_busy,
    high_msgq_watermark: @never_busy,
    sndbuf: @room,
    buffer: @read,
    show_econnreset: true
  ]

  # What tells whether a port of this kind takes a command as it is.
  @probe <<0, 0, "probe">>
  @answer 1_000

  # What stands where a run's number is to come later.
  @no_run 0

  # Milliseconds between two tries when too many connect at once.
  @again 1

  @doc """
  Sends a frame, whose header the socket adds. Never waits; what goes wrong comes as a message.

  `:gen_tcp.send/2` of OTP 25 and before looks for its answer in the whole mailbox, which takes
  a session with 100,000 messages 280 µs each time. There the port is sent a command, as
  `:gen_tcp` itself does, and the answer is a message like others.
  """
  @spec send(port(), iodata()) :: :ok
  def send(socket, frame) do
    if :persistent_term.get(__MODULE__) do
      :erlang.port_command(socket, frame, [:nosuspend])
    else
      :gen_tcp.send(socket, frame)
    end

    :ok
  rescue
    # It is closed.
    ArgumentError -> :ok
  end

  @doc "Finds out how frames are sent; once for each VM, before the first connection."
  @spec prepare() :: :ok
  def prepare do
    if :persistent_term.get(__MODULE__, nil) == nil,
      do: :persistent_term.put(__MODULE__, release() < 26 and takes_commands?())

    :ok
  end

  defp release, do: :otp_release |> :erlang.system_info() |> List.to_integer()

  # The command's format is between a port and its module, so it is tried, not assumed.
  defp takes_commands? do
    options = [:local, :binary, packet: :raw, active: false]
    name = {:local, <<0, "proton_stream-", System.pid()::binary>>}

    with {:ok, listener} <- :gen_tcp.listen(0, [ifaddr: name] ++ options),
         {:ok, one} <- :gen_tcp.connect(name, 0, options, @answer),
         {:ok, other} <- :gen_tcp.accept(listener, @answer) do
      true = :erlang.port_command(one, @probe)
      answer = :gen_tcp.recv(other, byte_size(@probe), @answer)
      Enum.each([one, other, listener], &:gen_tcp.close/1)

      receive do
        {:inet_reply, ^one, :ok} -> answer == {:ok, @probe}
      after
        0 -> false
      end
    else
      _ -> false
    end
  end

  @doc "Connects, and sends what begins a connection with the first frame."
  @spec connect(Nursery.address(), non_neg_integer(), iodata(), integer() | :infinity) ::
          {:ok, port()} | {:error, term()}
  def connect(address, run, first, deadline) do
    case connect(address, Guardian.left(deadline)) do
      {:ok, socket} ->
        length = :erlang.iolist_size(first)
        begin(socket, [Frame.preamble(address.secret, run), <<length::32>> | first])

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

  @doc "Connects for a run that is still to come, which begins as one on a kept connection does."
  @spec connect_ahead(Nursery.address()) :: {:ok, port()} | {:error, term()}
  def connect_ahead(address) do
    with {:ok, socket} <- connect(address, @answer),
         do: begin(socket, Frame.preamble(address.secret, @no_run))
  end

  defp connect(address, timeout),
    do: :gen_tcp.connect({:local, address.path}, 0, @options, timeout)

  @doc "Reads up to so much at once, or as much as at first."
  @spec read_at_once(port(), pos_integer() | :default) :: :ok
  def read_at_once(socket, bytes) do
    bytes = if bytes == :default, do: @read, else: min(bytes, @greatest_read)
    # It may be closed.
    _ = :inet.setopts(socket, buffer: bytes)
    :ok
  end

  defp begin(socket, bytes) do
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
