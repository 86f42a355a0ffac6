# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Frame.Fields do
  @moduledoc false

  # The fields of OPEN (docs/PROTOCOL.md §3): a list in the order of the wire, because
  # "many" fields keep theirs. An absent field has the protocol's default.

  alias ProtonStream.Frame.Reader

  @type stdio :: :piped | :null | :passed | :same
  @type limit :: non_neg_integer() | :unlimited
  @type field ::
          {:program
           | :argument
           | :arg0
           | :inherited
           | :set
           | :unset
           | :directory
           | :user
           | :group
           | :cgroup_controller
           | :cgroup_base
           | :cgroup_path, binary()}
          | {:groups, [binary()]}
          | {:stdio, {stdio(), stdio(), stdio()}}
          | {:credit, {non_neg_integer(), non_neg_integer()}}
          | {:kill_delay | :drain_timeout | :umask, non_neg_integer()}
          | {:on_exit, :kill | :wait}
          | {:cgroup_set, {binary(), binary(), binary()}}
          | {:nice | :oom_score_adj, integer()}
          | {:rlimit, {binary(), limit(), limit()}}
          | {:no_new_privs | :pid_namespace, true}
          | {:limit, {binary(), binary()}}
  @type t :: [field()]

  # tag, name, how the value is written, and whether it may occur more than once
  @fields [
    {0x01, :program, :bytes, :once},
    {0x02, :argument, :bytes, :many},
    {0x03, :arg0, :bytes, :once},
    {0x04, :inherited, :bytes, :many},
    {0x05, :set, :bytes, :many},
    {0x06, :unset, :bytes, :many},
    {0x07, :directory, :bytes, :once},
    {0x08, :user, :bytes, :once},
    {0x09, :group, :bytes, :once},
    {0x0A, :groups, :names, :once},
    {0x0B, :stdio, :stdio, :once},
    {0x0C, :credit, :credit, :once},
    {0x0D, :kill_delay, :u32, :once},
    {0x0E, :drain_timeout, :u32, :once},
    {0x0F, :on_exit, :on_exit, :once},
    {0x10, :cgroup_controller, :bytes, :many},
    {0x11, :cgroup_base, :bytes, :once},
    {0x12, :cgroup_path, :bytes, :once},
    {0x13, :cgroup_set, :cgroup_set, :many},
    {0x14, :umask, :u32, :once},
    {0x15, :nice, {:i32, -20, 19}, :once},
    {0x16, :rlimit, :rlimit, :many},
    {0x17, :oom_score_adj, {:i32, -1000, 1000}, :once},
    {0x18, :no_new_privs, :empty, :once},
    {0x19, :limit, :limit, :many},
    {0x1A, :pid_namespace, :empty, :once}
  ]
  @tags for {tag, name, shape, times} <- @fields, do: {tag, {name, shape, times}}
  @names for {_, name, _, _} <- @fields, do: name
  @by_name Map.new(@fields, fn {tag, name, shape, _times} -> {name, {tag, shape}} end)

  @stdio [{0, :piped}, {1, :null}, {2, :passed}, {3, :same}]
  @on_exit [{0, :kill}, {1, :wait}]
  @greatest_limit 18_446_744_073_709_551_615

  @spec encode(t()) :: iodata()
  def encode(fields) do
    for {name, value} <- fields do
      {tag, shape} = Map.fetch!(@by_name, name)
      bytes = write(shape, value)
      [<<tag, byte_size(bytes)::32>> | bytes]
    end
  end

  @spec decode(binary()) :: t()
  def decode(body) do
    fields = decode(body, MapSet.new(), @names, [])

    if Keyword.get(fields, :program, "") == "",
      do: Reader.malformed("OPEN lacks its field `program`")

    fields
  end

  defp decode(<<>>, _seen, _allowed, fields), do: Enum.reverse(fields)

  defp decode(body, seen, allowed, fields) do
    {tag, body} = Reader.integer(body, "field", 1)
    {length, body} = Reader.integer(body, "field length", 4)
    {value, rest} = Reader.bytes(body, "field", length)

    {name, shape, times} = known(@tags, tag)
    if name not in allowed, do: unknown(tag)
    if times == :once and tag in seen, do: twice(tag)

    field = {name, read(shape, Atom.to_string(name), value)}
    decode(rest, MapSet.put(seen, tag), allowed, [field | fields])
  end

  @doc "The body of LIMITS (§9), which are fields as in OPEN, all of them limits."
  @spec decode_limits(binary()) :: [{binary(), binary()}]
  def decode_limits(body) do
    for field <- decode(body, MapSet.new(), [:limit], []), do: elem(field, 1)
  end

  @doc "What a tag stands for."
  @spec known([{byte(), value}], byte()) :: value when value: term()
  def known(table, tag) do
    case List.keyfind(table, tag, 0) do
      {_, value} -> value
      nil -> unknown(tag)
    end
  end

  defp unknown(tag), do: Reader.malformed("field #{Reader.hex(tag)} is unknown")

  @spec twice(byte()) :: no_return()
  def twice(tag), do: Reader.malformed("field #{Reader.hex(tag)} occurs twice")

  defp write(:bytes, bytes), do: bytes
  defp write(:names, names), do: for(name <- names, into: "", do: name <> <<0>>)
  defp write(:u32, value), do: <<value::32>>
  defp write({:i32, _, _}, value), do: <<value::signed-32>>
  defp write(:credit, {stdout, stderr}), do: <<stdout::32, stderr::32>>
  defp write(:on_exit, value), do: <<code(@on_exit, value)>>
  defp write(:empty, true), do: ""

  defp write(:stdio, {stdin, stdout, stderr}),
    do: <<code(@stdio, stdin), code(@stdio, stdout), code(@stdio, stderr)>>

  defp write(:cgroup_set, {controller, file, value}),
    do: Enum.join([controller, file, value], <<0>>)

  defp write(:limit, {name, value}), do: Enum.join([name, value], <<0>>)
  defp write(:rlimit, {name, soft, hard}), do: Enum.join([name, soft, hard], <<0>>)

  defp read(:bytes, _field, value), do: value

  defp read(:names, field, value) do
    case :binary.split(value, <<0>>, [:global]) do
      [""] ->
        []

      parts ->
        {names, [last]} = Enum.split(parts, -1)
        if last != "", do: Reader.malformed("`#{field}` must be names, each with NUL after it")
        names
    end
  end

  defp read(:u32, field, value), do: whole(value, field, 4)

  defp read({:i32, least, greatest}, field, value) do
    <<number::signed-32>> = <<whole(value, field, 4)::32>>

    if number in least..greatest,
      do: number,
      else: Reader.refuse(field, number, "#{least} to #{greatest}")
  end

  defp read(:credit, field, value) do
    {stdout, value} = Reader.integer(value, field, 4)
    stderr = whole(value, field, 4)
    greatest = ProtonStream.Frame.greatest_credit()

    for credit <- [stdout, stderr], credit > greatest do
      Reader.refuse(field, credit, "0 to #{greatest}")
    end

    {stdout, stderr}
  end

  defp read(:on_exit, field, value),
    do: Reader.name(@on_exit, field, whole(value, field, 1), "0 or 1")

  defp read(:stdio, field, value) do
    {stdin, value} = Reader.integer(value, field, 1)
    {stdout, value} = Reader.integer(value, field, 1)
    stderr = whole(value, field, 1)
    allowed = "0 to 2, or 3 for descriptor 2"

    for code <- [stdin, stdout], code == 3, do: Reader.refuse(field, code, allowed)

    {Reader.name(@stdio, field, stdin, allowed), Reader.name(@stdio, field, stdout, allowed),
     Reader.name(@stdio, field, stderr, allowed)}
  end

  defp read(:empty, _field, value) do
    Reader.ended(value)
    true
  end

  defp read(:cgroup_set, field, value) do
    case :binary.split(value, <<0>>, [:global]) do
      [controller, file, value] -> {controller, file, value}
      _ -> Reader.malformed("`#{field}` must be controller NUL file NUL value")
    end
  end

  defp read(:limit, field, value) do
    case :binary.split(value, <<0>>, [:global]) do
      [name, value] -> {name, value}
      _ -> Reader.malformed("`#{field}` must be name NUL value")
    end
  end

  defp read(:rlimit, field, value) do
    with [name, soft, hard] <- :binary.split(value, <<0>>, [:global]),
         {:ok, soft} <- limit(soft),
         {:ok, hard} <- limit(hard) do
      {name, soft, hard}
    else
      _ ->
        Reader.malformed(
          "`#{field}` must be name NUL soft NUL hard, the limits decimal or `unlimited`"
        )
    end
  end

  defp limit("unlimited"), do: {:ok, :unlimited}

  defp limit(digits) do
    # Integer.parse/1 would take a sign.
    with true <- digits != "" and for(<<byte <- digits>>, do: byte in ?0..?9) |> Enum.all?(),
         number when number <= @greatest_limit <- String.to_integer(digits) do
      {:ok, number}
    else
      _ -> :error
    end
  end

  defp whole(value, field, size) do
    {number, rest} = Reader.integer(value, field, size)
    Reader.ended(rest)
    number
  end

  defp code(table, name) do
    {code, ^name} = List.keyfind(table, name, 1)
    code
  end
end
