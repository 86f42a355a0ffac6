# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.FrameTest do
  use ExUnit.Case, async: true

  alias ProtonStream.Frame
  alias ProtonStream.Nursery.Frame, as: Nursery

  @vectors Path.expand("../../fixtures/frames.txt", __DIR__)
  @external_resource @vectors

  @lines @vectors
         |> File.read!()
         |> String.split("\n")
         |> Enum.reject(&(&1 == "" or String.starts_with?(&1, "#")))
         |> Enum.map(&String.split(&1, " | "))

  for [name, hex, "malformed: " <> sentence, section] <- @lines do
    @tag hex: hex, sentence: sentence
    test "vector #{name} is malformed (§#{section})", %{hex: hex, sentence: sentence} do
      assert read(hex) == {:error, sentence}
    end
  end

  for [name, hex, meaning, section] <- @lines, not String.starts_with?(meaning, "malformed") do
    @tag hex: hex, meaning: meaning
    test "vector #{name} means what it says (§#{section})", %{hex: hex, meaning: meaning} do
      assert {:ok, frame} = read(hex)
      assert meaning(frame) == meaning
    end

    @tag hex: hex
    test "vector #{name} is encoded to the same bytes", %{hex: hex} do
      {:ok, frame} = read(hex)
      body = IO.iodata_to_binary(encode(frame))
      assert Base.encode16(<<byte_size(body)::32, body::binary>>, case: :lower) == hex
    end

    @tag hex: hex
    test "vector #{name} cut at any byte is a frame or a sentence", %{hex: hex} do
      <<_length::32, body::binary>> = Base.decode16!(hex, case: :lower)

      for size <- 0..(byte_size(body) - 1), from <- [:controller, :guardian] do
        assert {kind, _} = Frame.decode(binary_part(body, 0, size), from)
        assert kind in [:ok, :error]
      end
    end
  end

  test "any bytes are a frame or a sentence" do
    :rand.seed(:exsss, {1, 2, 3})

    for _ <- 1..20_000, from <- [:controller, :guardian] do
      type = Enum.random(Enum.concat([0x00..0x0C, 0x80..0x8E, [0xFF]]))
      bytes = <<type, :rand.bytes(:rand.uniform(64) - 1)::binary>>
      assert {kind, _} = Frame.decode(bytes, from)
      assert kind in [:ok, :error]
    end
  end

  test "what one bit of a frame turns into is a frame or a sentence" do
    for [_name, hex, _meaning, _section] <- @lines,
        <<_length::32, body::binary>> = Base.decode16!(hex, case: :lower),
        byte_size(body) < 128,
        bit <- 0..(bit_size(body) - 1),
        from <- [:controller, :guardian] do
      <<before::size(bit), one::1, rest::bitstring>> = body
      assert {kind, _} = Frame.decode(<<before::size(bit), 1 - one::1, rest::bitstring>>, from)
      assert kind in [:ok, :error]
    end
  end

  test "a frame that travels the wrong way is malformed" do
    assert {:error, "frame type 0x84 is not one that may come here"} =
             Frame.decode(<<0x84, "x">>, :controller)

    assert {:error, "frame type 0x06 is not one that may come here"} =
             Frame.decode(<<0x06>>, :guardian)
  end

  # A vector whose body is shorter than its header says stands for a header alone.
  defp read(hex) do
    <<length::32, type, body::binary>> = Base.decode16!(hex, case: :lower)

    if type in [0x20, 0x21, 0xA0, 0xA1] do
      if byte_size(body) == length - 1,
        do: Nursery.decode(<<type, body::binary>>),
        else: Nursery.check(type, length - 1)
    else
      read(length, type, body)
    end
  end

  defp read(length, type, body) do
    from = if type >= 0x80, do: :guardian, else: :controller

    if byte_size(body) == length - 1,
      do: Frame.decode(<<type, body::binary>>, from),
      else: Frame.check(from, type, length - 1)
  end

  defp encode(frame) when is_tuple(frame) and elem(frame, 0) in [:nurse, :kill, :ready, :died],
    do: Nursery.encode(frame)

  defp encode(frame), do: Frame.encode(frame)

  defp meaning({:nurse, package, controller, secret}),
    do: "nurse package=#{quoted(package)} controller=#{controller} secret=#{quoted(secret)}"

  defp meaning({:kill, run}), do: "kill run=#{run}"

  defp meaning({:ready, package, path}),
    do: "ready package=#{quoted(package)} path=#{quoted(path)}"

  defp meaning({:died, run, :unknown, []}), do: "died run=#{run} unknown survivors="

  defp meaning({:died, run, {kind, code}, survivors}),
    do: "died run=#{run} #{kind}=#{code} survivors=#{Enum.join(survivors, ",")}"

  defp meaning({:open, package, fields}), do: "open " <> opened(package, fields)
  defp meaning({:again, run, package, fields}), do: "again run=#{run} " <> opened(package, fields)

  defp meaning({:hello, package}), do: "hello package=#{quoted(package)}"

  defp meaning({:started, started}) do
    level = Enum.find_index([:tree, :cgroup, :pid_namespace], &(&1 == started.level))

    "started pid=#{started.pid} level=#{level} stdin_credit=#{started.stdin_credit} " <>
      "cgroup=#{quoted(started.cgroup)}"
  end

  defp meaning({:start_error, step, errno, detail}) do
    steps = ~w(specification exec directory user group groups cgroup fork stdio process cancelled
         namespace)a

    step = 1 + Enum.find_index(steps, &(&1 == step))
    "start_error step=#{step} errno=#{errno} detail=#{quoted(detail)}"
  end

  defp meaning({stream, bytes}) when stream in [:stdin, :stdout, :stderr],
    do: "#{stream} #{quoted(bytes)}"

  defp meaning({:credit, stream, count}), do: "credit stream=#{stream(stream)} bytes=#{count}"
  defp meaning({:stdin_credit, count}), do: "stdin_credit bytes=#{count}"
  defp meaning({:end_of_output, stream}), do: "end_of_output stream=#{stream(stream)}"

  defp meaning(name) when name in [:eof, :close, :sync, :query, :done, :reaped, :stdin_gone],
    do: to_string(name)

  defp meaning({:limits, limits}),
    do: Enum.join(["limits" | Enum.map(limits, &field({:limit, &1}))], " ")

  defp meaning({:freeze, frozen?}), do: "freeze #{if frozen?, do: 1, else: 0}"
  defp meaning({:output_gone, stream}), do: "output_gone stream=#{stream(stream)}"

  defp meaning({:stats, gauges}),
    do: Enum.join(["stats" | for({gauge, value} <- gauges, do: "#{gauge}=#{value}")], " ")

  defp meaning({:refused, errno, detail}),
    do: "refused errno=#{errno} detail=#{quoted(detail)}"

  defp meaning({:signal, number, scope}),
    do: "signal number=#{number} scope=#{if scope == :tree, do: 1, else: 0}"

  defp meaning({:error, code, sentence}) do
    code = 1 + Enum.find_index([:version, :malformed, :short_frame, :internal], &(&1 == code))
    "error code=#{code} message=#{quoted(sentence)}"
  end

  defp meaning({:exit, report}) do
    ending =
      case report.ending do
        {:exited, status} -> "exited=#{status}"
        {:signalled, signal} -> "signalled=#{signal}"
        :unknown -> "unknown"
      end

    cause =
      case report.cause do
        {:signal, number} -> "signal-#{number}"
        cause -> cause
      end

    "exit #{ending} core=#{report.core_dumped} oom=#{report.oom_killed} cause=#{cause} " <>
      "user=#{report.user_time} system=#{report.system_time} rss=#{report.max_rss} " <>
      "survivors=#{Enum.join(report.survivors, ",")}"
  end

  defp opened(package, fields),
    do: Enum.join(["package=#{quoted(package)}" | Enum.map(fields, &field/1)], " ")

  defp field({:groups, names}), do: "groups=#{quoted(Enum.map_join(names, &(&1 <> <<0>>)))}"
  defp field({:stdio, stdio}), do: "stdio=#{stdio |> Tuple.to_list() |> Enum.join(",")}"
  defp field({:credit, {stdout, stderr}}), do: "credit=#{stdout},#{stderr}"
  defp field({:on_exit, on_exit}), do: "on_exit=#{if on_exit == :wait, do: 1, else: 0}"

  defp field({:cgroup_set, set}),
    do: "cgroup_set=#{set |> Tuple.to_list() |> Enum.map_join(",", &quoted/1)}"

  defp field({:rlimit, {name, soft, hard}}), do: "rlimit=#{quoted(name)},#{soft},#{hard}"
  defp field({:limit, {name, value}}), do: "limit=#{quoted(name)},#{quoted(value)}"
  defp field({flag, true}), do: "#{flag}"
  defp field({name, value}) when is_binary(value), do: "#{name}=#{quoted(value)}"
  defp field({name, value}), do: "#{name}=#{value}"

  defp stream(:stdout), do: 1
  defp stream(:stderr), do: 2

  defp quoted(bytes) do
    inner =
      for <<byte <- bytes>>, into: "" do
        if byte in 0x20..0x7E and byte not in ~c("\\|),
          do: <<byte>>,
          else: "\\x" <> Base.encode16(<<byte>>, case: :lower)
      end

    "\"" <> inner <> "\""
  end
end
