# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Orphans do
  @moduledoc false

  # After the death of a guardian: who lives on is ended before anybody is told.
  #
  # What a nursery has forked the nursery adopts; it tells when it is done, and how the
  # guardian died. Without one the program has died with its guardian, but if it had a cgroup
  # somebody may still be in it: another guardian is started for no more than to kill and
  # remove that.

  alias ProtonStream.Guardian
  alias ProtonStream.Nursery

  # Killing is given up after two seconds, and a guardian has to start, too.
  @patience 10_000

  @timeout {:"$proton_stream", :orphans}

  @enforce_keys [:timer, :cgroup]
  defstruct [:timer, :cgroup, :ref, :port, said: ""]

  @type t :: %__MODULE__{}
  @type outcome :: {:done, Guardian.why() | nil, [non_neg_integer()]}

  @doc "Begins; `nil` where there is nothing to be done, or nobody who could."
  @spec start(Guardian.t(), cgroup :: binary() | nil) :: t() | nil
  def start(%Guardian{nursery: nil}, nil), do: nil

  def start(guardian, cgroup) do
    orphans = %__MODULE__{
      timer: :erlang.start_timer(@patience, self(), @timeout),
      cgroup: cgroup
    }

    if guardian.nursery,
      do: %{orphans | ref: Nursery.fate(guardian.nursery, guardian.run)},
      else: sweep(orphans)
  end

  # Where that can't be done either, the next start does it.
  defp sweep(%__MODULE__{cgroup: path} = orphans) do
    with true <- path != nil,
         {:ok, guardian} <- Guardian.executable() do
      options = [:binary, :exit_status, :hide, args: ["sweep", path]]
      %{orphans | ref: nil, port: Port.open({:spawn_executable, guardian}, options)}
    else
      _ -> stop(orphans)
    end
  rescue
    _ in [ErlangError, ArgumentError, SystemLimitError] -> stop(orphans)
  end

  @doc """
  What a message means for it: go on, or the end, with how the guardian died, if that is known
  now, and the pids of those who live on; `nil` when it means nothing.
  """
  @spec event(t(), term()) :: {:going, t()} | outcome() | nil
  def event(%__MODULE__{ref: ref} = orphans, {ref, {:died, why, pids}}) when is_reference(ref),
    do: done(orphans, why, pids)

  def event(%__MODULE__{ref: ref} = orphans, {ref, :unknown}) when is_reference(ref) do
    case sweep(orphans) do
      nil -> {:done, nil, []}
      orphans -> {:going, orphans}
    end
  end

  def event(%__MODULE__{port: port} = orphans, {port, {:data, said}}) when is_port(port),
    do: {:going, %{orphans | said: orphans.said <> said}}

  def event(%__MODULE__{port: port} = orphans, {port, {:exit_status, _}}) when is_port(port),
    do: swept(orphans)

  def event(%__MODULE__{port: port} = orphans, {:EXIT, port, _}) when is_port(port),
    do: swept(orphans)

  def event(%__MODULE__{timer: timer} = orphans, {:timeout, timer, @timeout}), do: swept(orphans)
  def event(_orphans, _message), do: nil

  defp swept(orphans) do
    pids = for pid <- String.split(orphans.said), do: String.to_integer(pid)
    done(orphans, nil, pids)
  end

  defp done(orphans, why, pids) do
    stop(orphans)
    {:done, why, pids}
  end

  @doc "Waits for the end."
  @spec await(t()) :: outcome()
  def await(%__MODULE__{ref: ref, port: port, timer: timer} = orphans) do
    receive do
      {^ref, _} = message -> await(orphans, message)
      {^port, _} = message -> await(orphans, message)
      {:EXIT, ^port, _} = message -> await(orphans, message)
      {:timeout, ^timer, @timeout} = message -> await(orphans, message)
    end
  end

  defp await(orphans, message) do
    case event(orphans, message) do
      {:going, orphans} -> await(orphans)
      {:done, _, _} = done -> done
    end
  end

  @doc "Lets go of it, whether it is done or not."
  @spec stop(t()) :: nil
  def stop(%__MODULE__{} = orphans) do
    :erlang.cancel_timer(orphans.timer, async: true, info: false)
    if orphans.port, do: Guardian.let_go(orphans.port)
    nil
  end
end
