# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Guardian do
  @moduledoc false

  # One guardian, and the way to it: a socket, whose other end the nursery has given to a
  # guardian that it forked, or a port program of its own. The session knows only what is
  # here: frames go in, `event/2` tells which of its messages are frames or the end.

  alias ProtonStream.Frame
  alias ProtonStream.Guardian.Socket
  alias ProtonStream.Nursery
  alias ProtonStream.Nursery.Kept

  @enforce_keys [:port]
  defstruct [:port, :nursery, :run, kept?: false, wide?: false]

  @typedoc """
  `port` is a socket where there is a nursery, known by its port, and a run's number. One that
  is kept was connected before. A wide one reads more at once than others.
  """
  @type t :: %__MODULE__{
          port: port(),
          nursery: port() | nil,
          run: non_neg_integer() | nil,
          kept?: boolean(),
          wide?: boolean()
        }
  @type why ::
          {:signal, pos_integer()} | {:exit_status, non_neg_integer()} | :epipe | atom()
  @type event :: {:frame, binary()} | {:closed, why()} | :sent
  @type watch :: {:monitor, reference()} | {:parent, pid() | nil} | nil

  # Without these a port that has 8 KB queued suspends the process that writes to it, or
  # refuses, and says nothing when it has room again. What may be queued is bounded by
  # stdin's credit, and the guardian reads in every state, so there is nothing to limit.
  @never_busy [busy_limits_port: :disabled, busy_limits_msgq: :disabled]

  @doc "How a guardian is reached."
  @spec transport(t()) :: :nursery | :port
  def transport(%__MODULE__{nursery: nil}), do: :port
  def transport(%__MODULE__{}), do: :nursery

  @doc """
  A guardian that the nursery has forked, and which is sent an OPEN frame: on a connection that
  is there, or on a new one.
  """
  @spec fork(iodata(), integer() | :infinity, :any | :new) :: {:ok, t()} | {:error, term()}
  def fork(open, deadline, connection) do
    with {:ok, path} <- executable(),
         %{} = nursery <- Nursery.address(path) do
      run = System.unique_integer([:positive])
      {origin, socket} = if connection == :any, do: Kept.take(nursery.port), else: {:new, nil}
      guardian = %__MODULE__{port: socket, nursery: nursery.port, run: run}

      with {:ok, _} = forked <- begin(guardian, nursery, open, deadline) do
        # While the guardian is at work.
        if origin in [:none, :ahead], do: Kept.connect_ahead(nursery)
        forked
      end
    else
      nil -> {:error, :no_nursery}
      error -> error
    end
  end

  defp begin(%__MODULE__{port: nil} = guardian, nursery, open, deadline) do
    with {:ok, socket} <- Socket.connect(nursery, guardian.run, open, deadline),
         do: {:ok, %{guardian | port: socket}}
  end

  defp begin(%__MODULE__{} = guardian, _nursery, open, _deadline) do
    __MODULE__.send(guardian, Frame.again(open, guardian.run))
    {:ok, %{guardian | kept?: true}}
  end

  @doc "Starts a guardian as a port program, and sends it a first frame."
  @spec open(iodata(), keyword()) :: {:ok, t()} | {:error, term()}
  def open(first, options \\ []) do
    with {:ok, path} <- executable() do
      try do
        parallelism = [parallelism: Keyword.get(options, :parallelism, false)]
        options = [:binary, :exit_status, :hide, packet: 4, args: ["session"]] ++ parallelism
        port = Port.open({:spawn_executable, path}, options ++ @never_busy)
        guardian = %__MODULE__{port: port}
        __MODULE__.send(guardian, first)
        {:ok, guardian}
      rescue
        error in ErlangError -> {:error, error.original}
        ArgumentError -> {:error, :einval}
        SystemLimitError -> {:error, :system_limit}
      end
    end
  end

  @doc "Sends type and body of a frame. Never waits; a guardian that is gone is an event."
  @spec send(t(), iodata()) :: :ok
  def send(%__MODULE__{port: port, nursery: nursery}, frame) when nursery != nil,
    do: Socket.send(port, frame)

  def send(%__MODULE__{port: port}, frame) do
    :erlang.port_command(port, frame, [:nosuspend])
    :ok
  rescue
    ArgumentError -> :ok
  end

  @doc "Reads up to so much at once from now on, where there is a choice."
  @spec widen(t(), pos_integer()) :: t()
  def widen(%__MODULE__{nursery: nil} = guardian, _bytes), do: guardian

  def widen(%__MODULE__{} = guardian, bytes) do
    Socket.read_at_once(guardian.port, bytes)
    %{guardian | wide?: true}
  end

  @doc "What a message means, or nil when it is not from this guardian."
  @spec event(t(), term()) :: event() | nil
  def event(%__MODULE__{port: port}, message), do: meaning(message, port)

  defp meaning({:tcp, port, frame}, port), do: {:frame, frame}
  defp meaning({port, {:data, frame}}, port), do: {:frame, frame}
  defp meaning({:inet_reply, port, _}, port), do: :sent
  defp meaning({:tcp_closed, port}, port), do: {:closed, :closed}
  defp meaning({:tcp_error, port, reason}, port), do: {:closed, reason}
  defp meaning({port, {:exit_status, n}}, port), do: {:closed, why(n)}
  defp meaning({:EXIT, port, reason}, port), do: {:closed, reason}
  defp meaning(_message, _port), do: nil

  @doc """
  Waits for the next event until a deadline (`deadline/1`), or until the process that is
  watched, by a monitor or as the parent of a process that traps exits, has ended.
  """
  @spec await(t(), integer() | :infinity, watch()) :: event() | :timeout | {:ended, term()}
  def await(%__MODULE__{port: port}, deadline, watch \\ nil) do
    {monitor, parent} =
      case watch do
        {:monitor, monitor} -> {monitor, nil}
        {:parent, parent} -> {nil, parent}
        nil -> {nil, nil}
      end

    receive do
      {:tcp, ^port, frame} -> {:frame, frame}
      {^port, {:data, frame}} -> {:frame, frame}
      {:tcp_closed, ^port} -> {:closed, :closed}
      {:tcp_error, ^port, reason} -> {:closed, reason}
      {^port, {:exit_status, status}} -> {:closed, why(status)}
      {:EXIT, ^port, reason} -> {:closed, reason}
      {:DOWN, ^monitor, _, _, reason} -> {:ended, reason}
      {:EXIT, ^parent, reason} -> {:ended, reason}
    after
      left(deadline) -> :timeout
    end
  end

  @doc """
  Says nothing more to a guardian that was forked. What it still says is heard, and whatever it
  runs it ends.
  """
  @spec hang_up(t()) :: :ok
  def hang_up(%__MODULE__{port: socket}) do
    # What is queued can only be a part of the first frame, of which nothing comes. Shutting down
    # would wait for it.
    with {:ok, [send_pend: 0]} <- :inet.getstat(socket, [:send_pend]),
         do: :gen_tcp.shutdown(socket, :write)

    :ok
  end

  @doc """
  Lets go of the guardian, which ends whatever still runs. No event follows.

  The port is killed, not closed: closing would wait until a guardian that was stopped
  has read what is queued for it.
  """
  @spec close(t()) :: :ok
  def close(%__MODULE__{port: port}), do: let_go(port)

  @doc "Lets go of a guardian whose run is over and has left nothing: it may have another one."
  @spec keep(t()) :: :ok
  def keep(%__MODULE__{nursery: nursery, port: socket} = guardian) do
    if guardian.wide?, do: Socket.read_at_once(socket, :default)
    if nursery == nil or not Kept.keep(socket, nursery), do: close(guardian), else: :ok
  end

  @doc "Lets go of a port of whatever kind, as `close/1` does."
  @spec let_go(port()) :: :ok
  def let_go(port) do
    # First of all, or the port's end is the session's where a callback has changed its flag.
    Process.unlink(port)
    Process.exit(port, :kill)
    # An exit is only sent; what asks the port comes back when it is carried out.
    Port.info(port, :id)
    flush(port)
  end

  @doc """
  Waits for the answer to the one question (docs/PROTOCOL.md §9) that is on its way, with all
  other messages left where they are. `nil` when there will be none.
  """
  @spec answer(t(), timeout()) :: binary() | nil
  def answer(%__MODULE__{port: port}, timeout) do
    receive do
      {:tcp, ^port, <<type, _::binary>> = frame} when type in [0x8B, 0x8C] ->
        frame

      {^port, {:data, <<type, _::binary>> = frame}} when type in [0x8B, 0x8C] ->
        frame

      # The guardian's last words: they are still to be heard by somebody else.
      {:tcp, ^port, <<type, _::binary>>} = last when type in [0x89, 0x8A] ->
        again(port, [last])

      {:tcp_closed, ^port} = last ->
        again(port, [last])

      {:tcp_error, ^port, _} = last ->
        again(port, [last])

      {^port, {:data, <<type, _::binary>>}} = last when type in [0x89, 0x8A] ->
        again(port, [last])

      {^port, {:exit_status, _}} = last ->
        again(port, [last])

      {:EXIT, ^port, _} = last ->
        again(port, [last])
    after
      timeout -> nil
    end
  end

  # Back into the mailbox, with what follows it.
  defp again(port, messages) do
    receive do
      {:tcp_closed, ^port} = next -> again(port, [next | messages])
      {^port, {:exit_status, _}} = next -> again(port, [next | messages])
      {:EXIT, ^port, _} = next -> again(port, [next | messages])
    after
      0 ->
        for message <- Enum.reverse(messages), do: Kernel.send(self(), message)
        nil
    end
  end

  @spec deadline(timeout()) :: integer() | :infinity
  def deadline(:infinity), do: :infinity
  def deadline(timeout), do: System.monotonic_time(:millisecond) + timeout

  @spec sooner(integer() | :infinity, integer() | :infinity) :: integer() | :infinity
  # A number is less than an atom.
  def sooner(one, other), do: min(one, other)

  @spec left(integer() | :infinity) :: timeout()
  def left(:infinity), do: :infinity
  def left(deadline), do: max(deadline - System.monotonic_time(:millisecond), 0)

  defp flush(port) do
    receive do
      {:tcp, ^port, _} -> flush(port)
      {:inet_reply, ^port, _} -> flush(port)
      {:tcp_closed, ^port} -> flush(port)
      {:tcp_error, ^port, _} -> flush(port)
      {^port, _} -> flush(port)
      {:EXIT, ^port, _} -> flush(port)
    after
      0 -> :ok
    end
  end

  # A port has no other way to tell of a signal than as a shell does; a guardian itself
  # never exits with more than 128.
  defp why(status) when status > 128, do: {:signal, status - 128}
  defp why(status), do: {:exit_status, status}

  # The code server is asked once: it is one process for the whole VM.
  @doc "The guardian's path."
  @spec executable() :: {:ok, Path.t()} | {:error, :enoent | String.t()}
  def executable do
    case System.get_env("PROTON_GUARDIAN", "") do
      "" ->
        case :persistent_term.get(__MODULE__, nil) do
          nil -> installed()
          path -> {:ok, path}
        end

      path ->
        {:ok, path}
    end
  end

  defp installed do
    case :code.priv_dir(:proton_stream) do
      {:error, :bad_name} ->
        {:error,
         "proton_stream is not in the code path, so its guardian can't be found: an escript " <>
           "can't carry an executable file; use a release, or name a guardian in " <>
           "PROTON_GUARDIAN"}

      priv ->
        with {:ok, path} <- find(List.to_string(priv)) do
          :persistent_term.put(__MODULE__, path)
          {:ok, path}
        end
    end
  end

  @doc false
  @spec find(Path.t()) :: {:ok, Path.t()} | {:error, :enoent | String.t()}
  def find(priv) do
    path = Path.join(priv, "proton-guardian")

    cond do
      File.regular?(path) ->
        {:ok, path}

      in_archive?(path) ->
        {:error,
         "proton_stream runs from an escript, which can't carry an executable file; " <>
           "use a release, or name a guardian in PROTON_GUARDIAN"}

      true ->
        {:error, :enoent}
    end
  end

  # Inside of an escript a path goes on below a regular file.
  defp in_archive?(path) do
    parent = Path.dirname(path)

    cond do
      parent == path -> false
      File.regular?(parent) -> true
      true -> in_archive?(parent)
    end
  end
end
