# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Options.Check do
  @moduledoc false

  # One value against one kind of option. Touches no process and no file.

  @type kind :: atom() | {:integer | :window, integer(), integer()} | {:one_of, [term()]}

  @rlimits ~w(as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime
              sigpending stack)a
  @greatest_rlimit 18_446_744_073_709_551_614

  @amounts ~w(memory memory_high swap pids)a
  @weights ~w(cpu_weight io_weight)a
  @lists ~w(cpus mems)a

  # The last uid and gid, 4294967295, is -1: it means "leave as it is" to the kernel.
  @greatest_id 4_294_967_294

  @doc "What a kind allows, to end a sentence."
  @spec allowed(kind()) :: String.t()
  def allowed({:integer, least, greatest}), do: "an integer from #{least} to #{greatest}"

  def allowed({:window, least, greatest}) do
    "an integer from #{least} to #{greatest}, or a keyword list of :stdout and :stderr with " <>
      "such integers"
  end

  def allowed({:one_of, values}), do: "one of " <> Enum.map_join(values, ", ", &inspect/1)
  def allowed(:active), do: "true, false, :once or an integer from 1 to 32767"
  def allowed(:boolean), do: "true or false"
  def allowed(:string), do: "a binary that is not empty and has no NUL"
  def allowed(:path), do: "a path as a binary that is not empty and has no NUL"
  def allowed(:timeout), do: "an integer from 1 to 4294967295, or :infinity"
  def allowed(:controllers), do: "a list of controllers' names as binaries"
  def allowed(:name), do: "an atom, {:global, term} or {:via, module, term}"

  def allowed(:env) do
    "an enumerable of {key, value} with a binary (or charlist) as key, not empty, without " <>
      "`=` and NUL, and a binary without NUL, or nil, as value"
  end

  def allowed(:id), do: "a name as a binary, or a number from 0 to #{@greatest_id}"

  def allowed(:ids), do: "a list of names as binaries, or numbers from 0 to #{@greatest_id}"

  def allowed(:rlimits) do
    "a keyword list of #{Enum.map_join(@rlimits, ", ", &inspect/1)} with a number from 0, " <>
      ":infinity, or a {soft, hard} of these"
  end

  def allowed(:limits) do
    "a keyword list, not empty, of :memory, :memory_high, :swap (bytes as an integer or as " <>
      "\"256M\"), :pids (a number from 1), :cpu (CPUs as a number from 0.01), each of them also " <>
      ":infinity, :cpu_weight, :io_weight (1 to 10000), :cpus and :mems (\"0-3,7\")"
  end

  def allowed(:group) do
    "a relative path as a binary, without NUL and without `..` or `.` between its slashes"
  end

  def allowed(:settings) do
    "a list of {controller, file, value}, all binaries without NUL, the file without `/`"
  end

  @doc "The value as it is passed on, or an error."
  @spec run(kind(), term()) :: {:ok, term()} | :error | {:error, term()}
  def run({:integer, least, greatest}, value)
      when is_integer(value) and value >= least and value <= greatest,
      do: {:ok, value}

  def run({:window, least, greatest}, value) do
    kind = {:integer, least, greatest}

    if_so(
      run(kind, value) != :error or
        (Keyword.keyword?(value) and value != [] and
           Enum.all?(value, fn {stream, window} ->
             stream in [:stdout, :stderr] and run(kind, window) != :error
           end)),
      value
    )
  end

  def run({:one_of, values}, value), do: if_so(value in values, value)
  def run(:active, value) when value in [true, false, :once], do: {:ok, value}
  def run(:active, value), do: run({:integer, 1, 32_767}, value)
  def run(:boolean, value) when is_boolean(value), do: {:ok, value}
  def run(:timeout, :infinity), do: {:ok, :infinity}
  def run(:timeout, value) when value in 1..4_294_967_295, do: {:ok, value}
  def run(kind, value) when kind in [:string, :path], do: if_so(string?(value), value)
  def run(:id, value) when is_integer(value), do: if_so(value in 0..@greatest_id, value)
  def run(:id, value), do: if_so(string?(value), value)

  def run(:ids, value) do
    if proper?(value) and Enum.all?(value, &(run(:id, &1) != :error)),
      do: {:ok, Enum.map(value, &to_string/1)},
      else: :error
  end

  def run(:rlimits, value), do: pairs(value, &rlimit/2)
  def run(:limits, value) when value != [], do: pairs(value, &limit/2)
  def run(:controllers, value), do: if_so(proper?(value) and Enum.all?(value, &file?/1), value)

  def run(:args, args) do
    if proper?(args) do
      case Enum.find(args, :none, &(not bytes?(&1))) do
        :none -> {:ok, args}
        arg -> {:error, arg}
      end
    else
      :error
    end
  end

  def run(:group, value) do
    if_so(
      string?(value) and not String.starts_with?(value, "/") and
        not Enum.any?(:binary.split(value, "/", [:global]), &(&1 in [".", ".."])),
      value
    )
  end

  def run(:settings, value) do
    if_so(
      proper?(value) and
        Enum.all?(value, fn
          {controller, file, value} -> file?(controller) and file?(file) and bytes?(value)
          _ -> false
        end),
      value
    )
  end

  def run(:env, env) do
    # Every function has an implementation, but only those of two arguments enumerate.
    if Enumerable.impl_for(env) == nil or (is_function(env) and not is_function(env, 2)),
      do: :error,
      else: pairs(Enum.to_list(env), &variable/2)
  end

  def run(:name, name) when is_atom(name), do: if_so(name not in [nil, true, false], name)
  def run(:name, {:global, _} = name), do: {:ok, name}
  def run(:name, {:via, module, _} = name) when is_atom(module), do: {:ok, name}
  def run(_kind, _value), do: :error

  defp variable(key, value) do
    with {:ok, key} <- key(key),
         do: if_so(value == nil or bytes?(value), {key, value})
  end

  defp rlimit(name, {soft, hard}) when name in @rlimits do
    with {:ok, soft} <- rlimit(soft),
         {:ok, hard} <- rlimit(hard),
         do: {:ok, {Atom.to_string(name), soft, hard}}
  end

  defp rlimit(name, both), do: if(is_tuple(both), do: :error, else: rlimit(name, {both, both}))

  defp rlimit(:infinity), do: {:ok, :unlimited}
  defp rlimit(number) when number in 0..@greatest_rlimit, do: {:ok, number}
  defp rlimit(_), do: :error

  # As the protocol has them (§3).
  defp limit(name, value) do
    with {:ok, text} <- limit_text(name, value), do: {:ok, {Atom.to_string(name), text}}
  end

  defp limit_text(name, :infinity) when name in [:cpu | @amounts], do: {:ok, "max"}
  defp limit_text(:pids, value) when is_binary(value) or value == 0, do: :error

  defp limit_text(name, value) when name in @amounts and is_integer(value) and value >= 0,
    do: {:ok, Integer.to_string(value)}

  defp limit_text(name, value) when name in @amounts and is_binary(value),
    do: if_so(value =~ ~r/\A\d{1,15}[kKmMgGtT]?\z/, value)

  defp limit_text(:cpu, value) when is_number(value) and value >= 0.01 and value <= 100_000 do
    # A number that has more places is no exact wish.
    {:ok, (value / 1) |> :erlang.float_to_binary([{:decimals, 6}, :compact])}
  end

  defp limit_text(name, value) when name in @weights and value in 1..10_000,
    do: {:ok, Integer.to_string(value)}

  defp limit_text(name, value) when name in @lists and is_binary(value),
    do: if_so(value =~ ~r/\A\d+(-\d+)?(,\d+(-\d+)?)*\z/, value)

  defp limit_text(_name, _value), do: :error

  # A list of pairs, each of them checked, in order.
  defp pairs(pairs, check) do
    if proper?(pairs), do: checked(pairs, check, []), else: :error
  end

  defp checked([], _check, pairs), do: {:ok, Enum.reverse(pairs)}

  defp checked([{key, value} | rest], check, pairs) do
    with {:ok, pair} <- check.(key, value), do: checked(rest, check, [pair | pairs])
  end

  defp checked(_other, _check, _pairs), do: :error

  defp key(key) when is_list(key) do
    key(List.to_string(key))
  rescue
    _ -> :error
  end

  defp key(key), do: if_so(string?(key) and not String.contains?(key, "="), key)

  defp string?(value), do: bytes?(value) and value != ""
  defp bytes?(value), do: is_binary(value) and :binary.match(value, <<0>>) == :nomatch
  defp file?(value), do: string?(value) and :binary.match(value, "/") == :nomatch
  defp proper?(value), do: is_list(value) and List.improper?(value) == false

  defp if_so(true, value), do: {:ok, value}
  defp if_so(false, _value), do: :error
end
