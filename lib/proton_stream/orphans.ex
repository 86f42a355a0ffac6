# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Sweep do
  @moduledoc false

  # After the death of a guardian its program's cgroup is still there, and perhaps somebody
  # in it. Another guardian is started for no more than to kill and remove it.

  alias ProtonStream.Guardian

  # A guardian kills for two seconds before it names survivors; it has to start, too.
  @patience 10_000

  @enforce_keys [:port, :timer]
  defstruct [:port, :timer, said: ""]

  @type t :: %__MODULE__{port: port(), timer: reference(), said: binary()}

  @doc "Begins; `nil` where nothing is to be swept, or nobody can."
  @spec start(path :: binary() | nil) :: t() | nil
  def start(nil), do: nil

  def start(path) do
    with {:ok, guardian} <- Guardian.executable() do
      options = [:binary, :exit_status, :hide, args: ["sweep", path]]
      port = Port.open({:spawn_executable, guardian}, options)
      %__MODULE__{port: port, timer: :erlang.start_timer(@patience, self(), :sweep)}
    else
      {:error, _} -> nil
    end
  rescue
    _ in [ErlangError, ArgumentError, SystemLimitError] -> nil
  end

  @doc "What a message means for it: go on, the pids that are left at the end, or nothing."
  @spec event(t(), term()) :: {:going, t()} | {:done, [non_neg_integer()]} | nil
  def event(%__MODULE__{port: port} = sweep, {port, {:data, said}}),
    do: {:going, %{sweep | said: sweep.said <> said}}

  def event(%__MODULE__{port: port} = sweep, {port, {:exit_status, _}}), do: done(sweep)
  def event(%__MODULE__{port: port} = sweep, {:EXIT, port, _}), do: done(sweep)
  def event(%__MODULE__{timer: timer} = sweep, {:timeout, timer, :sweep}), do: done(sweep)
  def event(_sweep, _message), do: nil

  @doc "Waits for the end."
  @spec await(t() | nil) :: [non_neg_integer()]
  def await(nil), do: []

  def await(%__MODULE__{port: port, timer: timer} = sweep) do
    receive do
      {^port, _} = message -> await(sweep, message)
      {:EXIT, ^port, _} = message -> await(sweep, message)
      {:timeout, ^timer, :sweep} = message -> await(sweep, message)
    end
  end

  defp await(sweep, message) do
    case event(sweep, message) do
      {:going, sweep} -> await(sweep)
      {:done, left} -> left
    end
  end

  @doc "Lets go of it, whether it is done or not."
  @spec stop(t()) :: :ok
  def stop(%__MODULE__{} = sweep) do
    :erlang.cancel_timer(sweep.timer, async: true, info: false)
    Guardian.let_go(sweep.port)
  end

  defp done(%__MODULE__{} = sweep) do
    stop(sweep)
    {:done, for(pid <- String.split(sweep.said), do: String.to_integer(pid))}
  end
end
