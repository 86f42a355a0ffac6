# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Group do
  @moduledoc false

  # What is asked of the guardian about its program's cgroup (docs/PROTOCOL.md §9): pure
  # data, no process. One question is on its way at a time; the others wait here.

  alias ProtonStream.Errno
  alias ProtonStream.Frame

  @type question :: :query | {:limits, [{binary(), binary()}]} | {:freeze, boolean()}
  @type t :: :queue.queue({question(), GenServer.from()})

  @gauges ~w(memory memory_peak memory_limit cpu cpu_user cpu_system cpu_throttled pids
             pids_limit oom_kills)a
  @pressure [cpu: [:some], memory: [:some, :full], io: [:some, :full]]

  @spec new() :: t()
  def new, do: :queue.new()

  @doc "Adds a question, and says which is to be sent now."
  @spec ask(t(), question(), GenServer.from()) :: {question() | nil, t()}
  def ask(waiting, question, from) do
    first? = :queue.is_empty(waiting)
    {if(first?, do: question), :queue.in({question, from}, waiting)}
  end

  @doc "Who gets this answer, and which question is to be sent next."
  @spec answered(t(), Frame.from_guardian()) ::
          {:ok, GenServer.from(), term(), question() | nil, t()} | :error
  def answered(waiting, frame) do
    case :queue.out(waiting) do
      {{:value, {_, from}}, waiting} ->
        next = with {:value, {question, _}} <- :queue.peek(waiting), do: question
        {:ok, from, answer(frame), if(next == :empty, do: nil, else: next), waiting}

      {:empty, _} ->
        :error
    end
  end

  @doc "Those who wait."
  @spec waiting(t()) :: [GenServer.from()]
  def waiting(waiting), do: for({_, from} <- :queue.to_list(waiting), do: from)

  @doc "Whether a frame is the answer to a question."
  @spec answer?(Frame.t()) :: boolean()
  def answer?(:done), do: true
  def answer?(frame), do: is_tuple(frame) and elem(frame, 0) in [:stats, :refused]

  @doc "What a caller is answered."
  @spec answer(Frame.from_guardian()) :: map() | :ok | {:error, term()}
  def answer(:done), do: :ok
  def answer({:refused, 0, what}), do: {:error, {:cgroup, what, :refused}}
  def answer({:refused, errno, what}), do: {:error, {:cgroup, what, Errno.name(errno)}}

  def answer({:stats, gauges}) do
    known = Map.new(gauges)

    pressure =
      for {what, kinds} <- @pressure,
          of = Map.new(kinds, &{&1, known[:"#{what}_#{&1}"]}),
          Enum.any?(Map.values(of)),
          into: %{},
          do: {what, of}

    @gauges |> Map.new(&{&1, known[&1]}) |> Map.put(:pressure, pressure)
  end
end
