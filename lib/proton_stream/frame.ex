# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Frame do
  @moduledoc false

  # The codec of docs/PROTOCOL.md, whose section numbers stand beside the clauses.
  # A frame here is type and body; the length before them belongs to the transport
  # (`packet: 4` on a port or a local socket).
  #
  # Both directions are encoded and decoded, so that the vectors in fixtures/ can be
  # tested whole and a scripted guardian can be written in Elixir.

  import Bitwise

  alias ProtonStream.Frame.Fields
  alias ProtonStream.Frame.Reader

  @protocol 1
  @package Mix.Project.config()[:version]

  @mib 1_048_576
  @greatest_credit 2_147_483_647

  @type stream :: :stdout | :stderr
  @type ending :: {:exited, 0..255} | {:signalled, 1..64} | :unknown
  @type exit_report :: %{
          ending: ending(),
          core_dumped: boolean(),
          oom_killed: boolean(),
          cause: :program | :close | {:signal, 1..64},
          user_time: non_neg_integer(),
          system_time: non_neg_integer(),
          max_rss: non_neg_integer(),
          survivors: [non_neg_integer()]
        }
  @type step ::
          :specification
          | :exec
          | :directory
          | :user
          | :group
          | :groups
          | :cgroup
          | :fork
          | :stdio
          | :process
          | :cancelled
  @type level :: :tree | :cgroup | :pid_namespace

  @type to_guardian ::
          {:open, package :: binary(), Fields.t()}
          | {:stdin, iodata()}
          | {:credit, stream(), pos_integer()}
          | :eof
          | {:signal, 1..64, :program | :tree}
          | :close
  @type from_guardian ::
          {:hello, package :: binary()}
          | {:started,
             %{
               pid: non_neg_integer(),
               level: level(),
               stdin_credit: non_neg_integer(),
               cgroup: binary()
             }}
          | {:start_error, step(), errno :: non_neg_integer(), detail :: binary()}
          | {:stdout, iodata()}
          | {:stderr, iodata()}
          | {:stdin_credit, pos_integer()}
          | :stdin_gone
          | {:end_of_output, stream()}
          | {:exit, exit_report()}
          | {:error, code :: atom(), sentence :: binary()}
  @type t :: to_guardian() | from_guardian()

  @steps [
    {1, :specification},
    {2, :exec},
    {3, :directory},
    {4, :user},
    {5, :group},
    {6, :groups},
    {7, :cgroup},
    {8, :fork},
    {9, :stdio},
    {10, :process},
    {11, :cancelled}
  ]
  @levels [{0, :tree}, {1, :cgroup}, {2, :pid_namespace}]
  @streams [{1, :stdout}, {2, :stderr}]
  @scopes [{0, :program}, {1, :tree}]
  @codes [{1, :version}, {2, :malformed}, {3, :short_frame}, {4, :internal}]

  # Least and greatest length of a body by type (§1).
  @bounds %{
    0x01 => {0, 16 * @mib},
    0x02 => {0, @mib},
    0x03 => {5, 5},
    0x04 => {0, 0},
    0x05 => {2, 2},
    0x06 => {0, 0},
    0x81 => {0, 65_536},
    0x82 => {0, 65_536},
    0x83 => {0, 65_536},
    0x84 => {1, @mib},
    0x85 => {1, @mib},
    0x86 => {4, 4},
    0x87 => {0, 0},
    0x88 => {1, 1},
    0x89 => {0, 65_536},
    0x8A => {0, 65_536}
  }

  @doc "The version of this package, as the handshake carries it."
  @spec package() :: binary()
  def package, do: @package

  @doc "The most that may be outstanding of a stream's credit."
  @spec greatest_credit() :: pos_integer()
  def greatest_credit, do: @greatest_credit

  @doc "Type and body of a frame."
  @spec encode(t()) :: iodata()
  def encode({:stdin, bytes}), do: [0x02 | bytes]
  def encode({:credit, stream, count}), do: <<0x03, code(@streams, stream), count::32>>
  def encode(:eof), do: <<0x04>>
  def encode({:signal, number, scope}), do: <<0x05, number, code(@scopes, scope)>>
  def encode(:close), do: <<0x06>>
  def encode({:open, package, fields}), do: [0x01, head(package) | Fields.encode(fields)]
  def encode({:hello, package}), do: [0x81 | head(package)]

  def encode({:started, started}) do
    %{pid: pid, level: level, stdin_credit: credit, cgroup: cgroup} = started
    [<<0x82, pid::32, code(@levels, level), credit::32>> | cgroup]
  end

  def encode({:start_error, step, errno, detail}),
    do: [<<0x83, code(@steps, step), errno::32>> | detail]

  def encode({:stdout, bytes}), do: [0x84 | bytes]
  def encode({:stderr, bytes}), do: [0x85 | bytes]
  def encode({:stdin_credit, count}), do: <<0x86, count::32>>
  def encode(:stdin_gone), do: <<0x87>>
  def encode({:end_of_output, stream}), do: <<0x88, code(@streams, stream)>>
  def encode({:error, code, sentence}), do: [0x8A, code(@codes, code) | sentence]

  def encode({:exit, report}) do
    {kind, code} =
      case report.ending do
        {:exited, status} -> {0, status}
        {:signalled, signal} -> {1, signal}
        :unknown -> {2, 0}
      end

    {cause, cause_signal} =
      case report.cause do
        :program -> {0, 0}
        :close -> {1, 0}
        {:signal, signal} -> {2, signal}
      end

    flags = flag(report.core_dumped, 1) ||| flag(report.oom_killed, 2)

    [
      <<0x89, kind, code, flags, cause, cause_signal, report.user_time::64,
        report.system_time::64, report.max_rss::64, length(report.survivors)::16>>
      | for(pid <- report.survivors, do: <<pid::32>>)
    ]
  end

  @doc """
  Judges a header: is this a type that may come from there, with a body of this length?
  """
  @spec check(:controller | :guardian, byte(), integer()) :: :ok | {:error, String.t()}
  def check(from, type, length) do
    case @bounds do
      %{^type => {least, greatest}} when type >= 0x80 == (from == :guardian) ->
        cond do
          length < least -> {:error, bound(type, length, least)}
          length > greatest -> {:error, bound(type, length, greatest)}
          true -> :ok
        end

      _ ->
        {:error, "frame type #{hex(type)} is not one that may come here"}
    end
  end

  @doc """
  Reads type and body of a frame that came from `from`. Never raises: what is wrong
  is said in a sentence.
  """
  @spec decode(binary(), :controller | :guardian) :: {:ok, t()} | {:error, String.t()}
  def decode(<<type, body::binary>>, from) do
    with :ok <- check(from, type, byte_size(body)) do
      {:ok, body(type, body)}
    end
  catch
    {:malformed, sentence} -> {:error, sentence}
  end

  def decode(<<>>, _from), do: {:error, "a frame has neither type nor body"}

  # The two that carry a program's output come first: they are nearly all of what comes.
  defp body(0x84, bytes), do: {:stdout, bytes}
  defp body(0x85, bytes), do: {:stderr, bytes}
  defp body(0x86, <<0::32>>), do: Reader.refuse("count", 0, "at least 1")
  defp body(0x86, <<count::32>>), do: {:stdin_credit, count}
  defp body(0x02, bytes), do: {:stdin, bytes}

  defp body(0x03, <<stream, count::32>>) do
    stream = Reader.name(@streams, "stream", stream, "1 or 2")

    if count in 1..@greatest_credit,
      do: {:credit, stream, count},
      else: Reader.refuse("count", count, "1 to #{@greatest_credit}")
  end

  defp body(0x04, <<>>), do: :eof
  defp body(0x06, <<>>), do: :close
  defp body(0x87, <<>>), do: :stdin_gone

  defp body(0x05, <<number, scope>>) do
    unless number in 1..64, do: Reader.refuse("number", number, "1 to 64")
    {:signal, number, Reader.name(@scopes, "scope", scope, "0 or 1")}
  end

  defp body(0x88, <<stream>>),
    do: {:end_of_output, Reader.name(@streams, "stream", stream, "1 or 2")}

  defp body(0x01, body) do
    {package, rest} = handshake(body)
    {:open, package, Fields.decode(rest)}
  end

  defp body(0x81, body) do
    {package, rest} = handshake(body)
    Reader.ended(rest)
    {:hello, package}
  end

  defp body(0x82, body) do
    {pid, body} = Reader.integer(body, "pid", 4)
    {level, body} = Reader.integer(body, "level", 1)
    {credit, cgroup} = Reader.integer(body, "stdin credit", 4)
    level = Reader.name(@levels, "level", level, "0 to 2")
    {:started, %{pid: pid, level: level, stdin_credit: credit, cgroup: cgroup}}
  end

  defp body(0x83, body) do
    {step, body} = Reader.integer(body, "step", 1)
    {errno, detail} = Reader.integer(body, "errno", 4)
    {:start_error, Reader.name(@steps, "step", step, "1 to 11"), errno, detail}
  end

  defp body(0x89, body) do
    {kind, body} = Reader.integer(body, "kind", 1)
    {code, body} = Reader.integer(body, "code", 1)
    {flags, body} = Reader.integer(body, "flags", 1)
    {cause, body} = Reader.integer(body, "cause", 1)
    {cause_signal, body} = Reader.integer(body, "cause signal", 1)
    {user_time, body} = Reader.integer(body, "user time", 8)
    {system_time, body} = Reader.integer(body, "system time", 8)
    {max_rss, body} = Reader.integer(body, "max rss", 8)
    {count, body} = Reader.integer(body, "survivors", 2)
    {survivors, rest} = survivors(body, count, [])
    Reader.ended(rest)
    ending = ending(kind, code)

    if flags > 3, do: Reader.refuse("flags", flags, "0 to 3")

    if (flags &&& 1) == 1 and kind != 1,
      do: Reader.refuse("flags", flags, "a core only for a signal")

    {:exit,
     %{
       ending: ending,
       core_dumped: (flags &&& 1) == 1,
       oom_killed: (flags &&& 2) == 2,
       cause: cause(cause, cause_signal),
       user_time: user_time,
       system_time: system_time,
       max_rss: max_rss,
       survivors: survivors
     }}
  end

  defp body(0x8A, body) do
    {code, sentence} = Reader.integer(body, "code", 1)
    {:error, Reader.name(@codes, "code", code, "1 to 4"), sentence}
  end

  # §2. Other versions share only this head, so what follows it is not looked at.
  defp handshake(body) do
    {version, body} = Reader.integer(body, "version", 2)
    {length, body} = Reader.integer(body, "package version", 1)
    {package, rest} = Reader.bytes(body, "package version", length)

    if version != @protocol do
      Reader.malformed(
        "the other side speaks protocol #{version} (proton_stream #{Reader.printable(package)}), " <>
          "this one #{@protocol} (proton_stream #{@package})"
      )
    end

    {package, rest}
  end

  defp head(package), do: <<@protocol::16, byte_size(package), package::binary>>

  defp ending(0, status), do: {:exited, status}
  defp ending(1, signal) when signal in 1..64, do: {:signalled, signal}
  defp ending(1, code), do: Reader.refuse("code", code, "1 to 64 for a signal")
  defp ending(2, 0), do: :unknown
  defp ending(2, code), do: Reader.refuse("code", code, "0 where the end is unknown")
  defp ending(kind, _code), do: Reader.refuse("kind", kind, "0 to 2")

  defp cause(2, signal) when signal in 1..64, do: {:signal, signal}
  defp cause(2, signal), do: Reader.refuse("cause signal", signal, "1 to 64")
  defp cause(cause, _signal) when cause > 2, do: Reader.refuse("cause", cause, "0 to 2")
  defp cause(0, 0), do: :program
  defp cause(1, 0), do: :close
  defp cause(_cause, signal), do: Reader.refuse("cause signal", signal, "0 without a signal")

  defp survivors(rest, 0, pids), do: {Enum.reverse(pids), rest}

  defp survivors(body, count, pids) do
    {pid, rest} = Reader.integer(body, "survivor", 4)
    survivors(rest, count - 1, [pid | pids])
  end

  defp code(table, name) do
    {code, ^name} = List.keyfind(table, name, 1)
    code
  end

  defp flag(true, bit), do: bit
  defp flag(false, _bit), do: 0

  defp bound(type, length, allowed),
    do:
      "a frame of type #{hex(type)} has a body of #{max(length, 0)} bytes, allowed are #{allowed}"

  defp hex(byte), do: Reader.hex(byte)
end
