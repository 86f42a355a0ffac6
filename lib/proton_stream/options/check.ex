# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Options.Check do
  @moduledoc false

  # One value against one kind of option. Touches no process and no file.

  @type kind :: atom() | {:integer | :window, integer(), integer()} | {:one_of, [term()]}

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
      else: pairs(Enum.to_list(env), [])
  end

  def run(:name, name) when is_atom(name), do: if_so(name not in [nil, true, false], name)
  def run(:name, {:global, _} = name), do: {:ok, name}
  def run(:name, {:via, module, _} = name) when is_atom(module), do: {:ok, name}
  def run(_kind, _value), do: :error

  defp pairs([], pairs), do: {:ok, Enum.reverse(pairs)}

  defp pairs([{key, value} | rest], pairs) do
    with {:ok, key} <- key(key),
         true <- value == nil or bytes?(value) do
      pairs(rest, [{key, value} | pairs])
    else
      _ -> :error
    end
  end

  defp pairs(_other, _pairs), do: :error

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
