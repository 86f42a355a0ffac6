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

  alias ProtonStream.Frame.Body
  alias ProtonStream.Frame.Fields
  alias ProtonStream.Frame.Reader

  @package Body.package()

  @mib 1_048_576
  @greatest_credit Body.greatest_credit()

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
          | :namespace
  @type gauge :: atom()
  @type level :: :tree | :cgroup | :pid_namespace

  @type to_guardian ::
          {:open, package :: binary(), Fields.t()}
          | {:stdin, iodata()}
          | {:credit, stream(), pos_integer()}
          | :eof
          | {:signal, 1..64, :program | :tree}
          | :close
          | :sync
          | :query
          | {:limits, [{binary(), binary()}]}
          | {:freeze, boolean()}
          | {:output_gone, stream()}
          | {:again, run :: non_neg_integer(), package :: binary(), Fields.t()}
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
          | :reaped
          | {:end_of_output, stream()}
          | {:exit, exit_report()}
          | {:error, code :: atom(), sentence :: binary()}
          | {:stats, [{gauge(), non_neg_integer()}]}
          | :done
          | {:refused, errno :: non_neg_integer(), detail :: binary()}
  @type t :: to_guardian() | from_guardian()

  @steps Body.steps()
  @levels Body.levels()
  @streams Body.streams()
  @scopes Body.scopes()
  @codes Body.codes()
  @gauges Body.gauges()

  # Least and greatest length of a body by type (§1).
  @bounds %{
    0x01 => {0, 16 * @mib},
    0x02 => {0, @mib},
    0x03 => {5, 5},
    0x04 => {0, 0},
    0x05 => {2, 2},
    0x06 => {0, 0},
    0x07 => {0, 0},
    0x08 => {0, 0},
    0x09 => {1, 65_536},
    0x0A => {1, 1},
    0x0B => {1, 1},
    0x0C => {8, 8 + 16 * @mib},
    0x81 => {0, 65_536},
    0x82 => {0, 65_536},
    0x83 => {0, 65_536},
    0x84 => {1, @mib},
    0x85 => {1, @mib},
    0x86 => {4, 4},
    0x87 => {0, 0},
    0x88 => {1, 1},
    0x89 => {0, 65_536},
    0x8A => {0, 65_536},
    0x8B => {0, 65_536},
    0x8C => {0, 65_536},
    0x8D => {0, 0}
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
  def encode(:sync), do: <<0x07>>
  def encode(:query), do: <<0x08>>

  def encode({:limits, limits}),
    do: [0x09 | Fields.encode(for limit <- limits, do: {:limit, limit})]

  def encode({:freeze, frozen?}), do: <<0x0A, flag(frozen?, 1)>>
  def encode({:output_gone, stream}), do: <<0x0B, code(@streams, stream)>>
  def encode({:open, package, fields}), do: [0x01, Body.head(package) | Fields.encode(fields)]

  def encode({:again, run, package, fields}),
    do: {:open, package, fields} |> encode() |> again(run)

  def encode({:hello, package}), do: [0x81 | Body.head(package)]

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
  def encode(:reaped), do: <<0x8D>>
  def encode({:end_of_output, stream}), do: <<0x88, code(@streams, stream)>>
  def encode({:error, code, sentence}), do: [0x8A, code(@codes, code) | sentence]
  def encode(:done), do: <<0x8C, 0>>
  def encode({:refused, errno, detail}), do: [<<0x8C, 1, errno::32>> | detail]

  def encode({:stats, gauges}),
    do: [0x8B | for({gauge, value} <- gauges, do: <<code(@gauges, gauge), value::64>>)]

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

  @doc "An encoded OPEN as AGAIN, for a connection whose last run is over."
  @spec again(iodata(), non_neg_integer()) :: iodata()
  def again([0x01 | body], run), do: [<<0x0C, run::64>> | body]

  @doc """
  Judges a header: is this a type that may come from there, with a body of this length?
  """
  @spec check(:controller | :guardian, byte(), integer()) :: :ok | {:error, String.t()}
  def check(from, type, length) do
    if type >= 0x80 == (from == :guardian),
      do: within(@bounds, type, length),
      else: {:error, stray(type)}
  end

  @doc "The same, by a table of the least and the greatest length of a body."
  @spec within(%{byte() => {integer(), integer()}}, byte(), integer()) ::
          :ok | {:error, String.t()}
  def within(bounds, type, length) do
    case bounds do
      %{^type => {least, _}} when length < least -> {:error, bound(type, length, least)}
      %{^type => {_, greatest}} when length > greatest -> {:error, bound(type, length, greatest)}
      %{^type => _} -> :ok
      _ -> {:error, stray(type)}
    end
  end

  @doc """
  Reads type and body of a frame that came from `from`. Never raises: what is wrong
  is said in a sentence.
  """
  @spec decode(binary(), :controller | :guardian) :: {:ok, t()} | {:error, String.t()}
  def decode(<<type, body::binary>>, from) do
    with :ok <- check(from, type, byte_size(body)) do
      {:ok, Body.decode(type, body)}
    end
  catch
    {:malformed, sentence} -> {:error, sentence}
  end

  def decode(<<>>, _from), do: {:error, "a frame has neither type nor body"}

  defp code(table, name) do
    {code, ^name} = List.keyfind(table, name, 1)
    code
  end

  defp flag(true, bit), do: bit
  defp flag(false, _bit), do: 0

  defp stray(type), do: "frame type #{hex(type)} is not one that may come here"

  defp bound(type, length, allowed),
    do:
      "a frame of type #{hex(type)} has a body of #{max(length, 0)} bytes, allowed are #{allowed}"

  defp hex(byte), do: Reader.hex(byte)
end
