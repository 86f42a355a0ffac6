# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Frame.Body do
  @moduledoc false

  # The bodies of frames, read; and the numbers that stand for names in them.

  import Bitwise

  alias ProtonStream.Frame
  alias ProtonStream.Frame.Fields
  alias ProtonStream.Frame.Reader

  @protocol 1
  @package Mix.Project.config()[:version]
  @greatest_credit 2_147_483_647

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
    {11, :cancelled},
    {12, :namespace}
  ]
  @levels [{0, :tree}, {1, :cgroup}, {2, :pid_namespace}]
  @streams [{1, :stdout}, {2, :stderr}]
  @scopes [{0, :program}, {1, :tree}]
  @gauges Enum.with_index(
            ~w(memory memory_peak memory_limit cpu cpu_user cpu_system cpu_throttled pids
               pids_limit oom_kills cpu_some memory_some memory_full io_some io_full)a,
            &{&2 + 1, &1}
          )
  @codes [{1, :version}, {2, :malformed}, {3, :short_frame}, {4, :internal}]

  @doc "The version of this package."
  @spec package() :: binary()
  def package, do: @package

  @doc "The most that may be outstanding of a stream's credit."
  @spec greatest_credit() :: pos_integer()
  def greatest_credit, do: @greatest_credit

  @doc false
  @spec steps() :: [{byte(), atom()}]
  def steps, do: @steps

  @doc false
  @spec levels() :: [{byte(), atom()}]
  def levels, do: @levels

  @doc false
  @spec streams() :: [{byte(), atom()}]
  def streams, do: @streams

  @doc false
  @spec scopes() :: [{byte(), atom()}]
  def scopes, do: @scopes

  @doc false
  @spec codes() :: [{byte(), atom()}]
  def codes, do: @codes

  @doc false
  @spec gauges() :: [{byte(), atom()}]
  def gauges, do: @gauges

  # The two that carry a program's output come first: they are nearly all of what comes.
  @doc "The frame of this type and body. Throws what `Reader` does."
  @spec decode(byte(), binary()) :: Frame.t()
  def decode(0x84, bytes), do: {:stdout, bytes}
  def decode(0x85, bytes), do: {:stderr, bytes}
  def decode(0x86, <<0::32>>), do: Reader.refuse("count", 0, "at least 1")
  def decode(0x86, <<count::32>>), do: {:stdin_credit, count}
  def decode(0x02, bytes), do: {:stdin, bytes}

  def decode(0x03, <<stream, count::32>>) do
    stream = Reader.name(@streams, "stream", stream, "1 or 2")

    if count in 1..@greatest_credit,
      do: {:credit, stream, count},
      else: Reader.refuse("count", count, "1 to #{@greatest_credit}")
  end

  def decode(0x04, <<>>), do: :eof
  def decode(0x06, <<>>), do: :close
  def decode(0x07, <<>>), do: :sync
  def decode(0x08, <<>>), do: :query
  def decode(0x09, body), do: {:limits, Fields.decode_limits(body)}
  def decode(0x0A, <<frozen>>), do: {:freeze, Reader.bit("freeze", frozen)}

  def decode(0x0B, <<stream>>),
    do: {:output_gone, Reader.name(@streams, "stream", stream, "1 or 2")}

  def decode(0x0C, <<run::64, body::binary>>) do
    {:open, package, fields} = decode(0x01, body)
    {:again, run, package, fields}
  end

  def decode(0x87, <<>>), do: :stdin_gone
  def decode(0x8D, <<>>), do: :reaped

  def decode(0x05, <<number, scope>>) do
    unless number in 1..64, do: Reader.refuse("number", number, "1 to 64")
    {:signal, number, Reader.name(@scopes, "scope", scope, "0 or 1")}
  end

  def decode(0x88, <<stream>>),
    do: {:end_of_output, Reader.name(@streams, "stream", stream, "1 or 2")}

  def decode(0x01, body) do
    {package, rest} = handshake(body)
    {:open, package, Fields.decode(rest)}
  end

  def decode(0x81, body) do
    {package, rest} = handshake(body)
    Reader.ended(rest)
    {:hello, package}
  end

  def decode(0x82, body) do
    {pid, body} = Reader.integer(body, "pid", 4)
    {level, body} = Reader.integer(body, "level", 1)
    {credit, cgroup} = Reader.integer(body, "stdin credit", 4)
    level = Reader.name(@levels, "level", level, "0 to 2")
    {:started, %{pid: pid, level: level, stdin_credit: credit, cgroup: cgroup}}
  end

  def decode(0x83, body) do
    {step, body} = Reader.integer(body, "step", 1)
    {errno, detail} = Reader.integer(body, "errno", 4)
    {:start_error, Reader.name(@steps, "step", step, "1 to 12"), errno, detail}
  end

  def decode(0x89, body) do
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

  def decode(0x8A, body) do
    {code, sentence} = Reader.integer(body, "code", 1)
    {:error, Reader.name(@codes, "code", code, "1 to 4"), sentence}
  end

  def decode(0x8B, body), do: {:stats, gauges(body, [])}

  def decode(0x8C, body) do
    {refused, body} = Reader.integer(body, "refused", 1)

    if Reader.bit("refused", refused) do
      {errno, detail} = Reader.integer(body, "errno", 4)
      {:refused, errno, detail}
    else
      Reader.ended(body)
      :done
    end
  end

  defp gauges(<<>>, read), do: Enum.reverse(read)

  defp gauges(<<tag, body::binary>>, read) do
    gauge = Fields.known(@gauges, tag)
    if List.keymember?(read, gauge, 0), do: Fields.twice(tag)
    {value, rest} = Reader.integer(body, "value", 8)
    gauges(rest, [{gauge, value} | read])
  end

  @doc "What both first frames begin with (§2)."
  @spec head(binary()) :: binary()
  def head(package), do: <<@protocol::16, byte_size(package), package::binary>>

  # Other versions share only this head, so what follows it is not looked at.
  @doc "Reads it: the other side's package version, and what follows."
  @spec handshake(binary()) :: {binary(), binary()}
  def handshake(body) do
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

  @doc "How a process ended."
  @spec ending(byte(), byte()) :: ProtonStream.Frame.ending()
  def ending(0, status), do: {:exited, status}
  def ending(1, signal) when signal in 1..64, do: {:signalled, signal}
  def ending(1, code), do: Reader.refuse("code", code, "1 to 64 for a signal")
  def ending(2, 0), do: :unknown
  def ending(2, code), do: Reader.refuse("code", code, "0 where the end is unknown")
  def ending(kind, _code), do: Reader.refuse("kind", kind, "0 to 2")

  defp cause(2, signal) when signal in 1..64, do: {:signal, signal}
  defp cause(2, signal), do: Reader.refuse("cause signal", signal, "1 to 64")
  defp cause(cause, _signal) when cause > 2, do: Reader.refuse("cause", cause, "0 to 2")
  defp cause(0, 0), do: :program
  defp cause(1, 0), do: :close
  defp cause(_cause, signal), do: Reader.refuse("cause signal", signal, "0 without a signal")

  @doc "Reads pids."
  @spec survivors(binary(), non_neg_integer(), [non_neg_integer()]) ::
          {[non_neg_integer()], binary()}
  def survivors(rest, 0, pids), do: {Enum.reverse(pids), rest}

  def survivors(body, count, pids) do
    {pid, rest} = Reader.integer(body, "survivor", 4)
    survivors(rest, count - 1, [pid | pids])
  end
end
