# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Callbacks.Calls do
  @moduledoc false

  # Calls a callback module as `:gen_server` would, and takes what it returns for the same.
  # Timeouts are timers here, because messages of the library must not end one.

  require Logger

  alias ProtonStream.Run

  @doc "Calls the module. A callback ends the timeout that the one before it set."
  @spec invoke(Run.t(), atom(), [term()]) :: term()
  def invoke(%Run{delivery: delivery} = run, callback, args) do
    if delivery.timer, do: :erlang.cancel_timer(delivery.timer, async: true, info: false)
    Run.put(%{run | delivery: %{delivery | timer: nil}})
    caught(delivery.module, callback, args)
  end

  @doc "`:gen_server` takes what a callback throws for its return value."
  @spec caught(module(), atom(), [term()]) :: term()
  def caught(module, callback, args) do
    apply(module, callback, args)
  catch
    value -> value
  end

  @doc "What `:gen_server` is told of what a callback has returned."
  @spec reply(term(), ProtonStream.t()) :: ProtonStream.Delivery.reply()
  def reply({:noreply, state}, ps), do: {:noreply, %{ps | state: state}}

  def reply({:noreply, state, extra} = other, ps),
    do: extra(extra, other, %{ps | state: state})

  def reply({:stop, reason, state}, ps), do: {:stop, reason, %{ps | state: state}}
  def reply(other, ps), do: {:stop, {:bad_return_value, other}, ps}

  @doc "The last element of what a callback has returned."
  @spec extra(term(), term(), ProtonStream.t()) :: ProtonStream.Delivery.reply()
  def extra(extra, other, ps) do
    if extra?(extra) do
      case arm(extra) do
        nil -> {:noreply, ps}
        extra -> {:noreply, ps, extra}
      end
    else
      {:stop, {:bad_return_value, other}, ps}
    end
  end

  @spec extra?(term()) :: boolean()
  def extra?(extra) when extra in [:infinity, :hibernate], do: true
  def extra?({:continue, _}), do: true
  def extra?(extra), do: is_integer(extra) and extra >= 0

  @doc "What is left for `:gen_server` to do."
  @spec arm(term()) :: term()
  def arm(timeout) when is_integer(timeout) do
    run = Run.get()
    timer = :erlang.start_timer(timeout, self(), {:"$proton_stream", :timeout})
    Run.put(%{run | delivery: %{run.delivery | timer: timer}})
    nil
  end

  def arm(:infinity), do: nil
  def arm(extra), do: extra

  @spec exported(atom(), Run.t(), arity()) :: atom() | nil
  def exported(callback, run, arity) do
    if function_exported?(run.delivery.module, callback, arity), do: callback
  end

  @spec missing(String.t(), atom(), arity(), Run.t()) :: no_return()
  def missing(kind, callback, arity, run) do
    raise "attempted to #{kind} #{inspect(run.delivery.module)} #{inspect(self())} but it has " <>
            "no #{callback}/#{arity}"
  end

  @doc "The module's `handle_info/2`."
  @spec info(term(), Run.t(), ProtonStream.t()) :: ProtonStream.Delivery.reply()
  def info(message, run, ps) do
    case exported(:handle_info, run, 2) do
      nil ->
        Logger.error(
          "#{inspect(run.delivery.module)} #{inspect(self())} received unexpected message: " <>
            inspect(message)
        )

        {:noreply, ps}

      callback ->
        run |> invoke(callback, [message, ps.state]) |> reply(ps)
    end
  end
end
