# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Programs do
  @moduledoc false

  # What tests do with programs over and over.

  import ExUnit.Assertions

  @deadline 30_000

  @doc "Opens a shell script. Most tests need no more than a line of one."
  def sh(script, opts \\ []) do
    {:ok, ps} = ProtonStream.open("sh", ["-c", script], opts)
    ps
  end

  @doc "A program that writes what it reads, so that the test decides when."
  def echo(opts) do
    {:ok, ps} = ProtonStream.open("cat", [], opts)
    ps
  end

  @doc "Bytes of both streams that wait in the session."
  def waiting_bytes(ps) do
    %{held: %{stdout: out, stderr: err}} = ProtonStream.info(ps)
    out + err
  end

  @doc "All that comes until the end, for an owner that traps exits."
  def collect(ps), do: collect(ps, [], [])

  defp collect(ps, out, err) do
    receive do
      {^ps, {:data, data}} -> collect(ps, [out | data], err)
      {^ps, {:error, data}} -> collect(ps, out, [err | data])
      {:EXIT, ^ps, reason} -> {IO.iodata_to_binary(out), IO.iodata_to_binary(err), reason}
    after
      @deadline -> flunk("no end: #{inspect(ProtonStream.info(ps))}")
    end
  end

  @doc "As `collect/1`, with `size/1` of both outputs: megabytes are no help in a failure."
  def collect_sizes(ps) do
    {out, err, reason} = collect(ps)
    {size(out), size(err), reason}
  end

  @doc "What two outputs have in common if they are the same."
  def size(bytes), do: {byte_size(bytes), :erlang.md5(bytes)}

  @doc "Waits until a line has been read from stdout, as from a program that says it is ready."
  def await_line(ps, line) do
    receive do
      {^ps, {:data, data}} ->
        assert data == line <> "\n"
    after
      @deadline -> flunk("#{inspect(line)} did not come: #{inspect(ProtonStream.info(ps))}")
    end
  end

  @doc "The guardian's process id."
  def guardian(ps) do
    case Port.info(:sys.get_state(ps).port, :os_pid) do
      {:os_pid, os_pid} when is_integer(os_pid) -> os_pid
      # A socket: whoever has started the program, or the first process of its namespace.
      _ -> guardian_of(ProtonStream.os_pid(ps))
    end
  end

  @doc "The process id of this VM's nursery; `nil` while there is none."
  def nursery do
    with %{port: port} when is_port(port) <- :sys.get_state(ProtonStream.Nursery),
         {:os_pid, os_pid} <- Port.info(port, :os_pid) do
      os_pid
    else
      _ -> nil
    end
  end

  defp guardian_of(os_pid) do
    parent = parent(os_pid)

    if File.read!("/proc/#{parent}/comm") =~ "proton-guardian" and inner?(os_pid),
      do: parent(parent),
      else: parent
  end

  # In a PID namespace a process has more than one number.
  defp inner?(os_pid) do
    [_, numbers] = Regex.run(~r/NSpid:\t(.*)/, File.read!("/proc/#{os_pid}/status"))
    length(String.split(numbers)) > length(String.split(own_numbers()))
  end

  defp own_numbers do
    [_, numbers] = Regex.run(~r/NSpid:\t(.*)/, File.read!("/proc/self/status"))
    numbers
  end

  @doc "The process that has started another one, or adopted it."
  def parent(os_pid) do
    stat = File.read!("/proc/#{os_pid}/stat")
    [_, parent | _] = stat |> String.split(") ") |> List.last() |> String.split(" ")
    String.to_integer(parent)
  end

  @doc "Bytes that tell where they belong, so that a lost or doubled one is found."
  def pattern(size) do
    # Eight megabytes take seconds to make, and many tests want them.
    case :persistent_term.get({__MODULE__, size}, nil) do
      nil ->
        lines = for n <- 0..div(size, 8), do: [String.pad_leading("#{n}", 7, "0"), ?\n]
        made = lines |> IO.iodata_to_binary() |> binary_part(0, size)
        :persistent_term.put({__MODULE__, size}, made)
        made

      made ->
        made
    end
  end

  @doc "What sha256sum says of a chunk that is repeated."
  def sha256(chunk, times) do
    1..times
    |> Enum.reduce(:crypto.hash_init(:sha256), fn _, hash -> :crypto.hash_update(hash, chunk) end)
    |> :crypto.hash_final()
    |> Base.encode16(case: :lower)
  end

  @doc "A file that is removed with the test."
  def temporary(name, contents, mode \\ 0o600) do
    directory =
      Path.join(
        System.tmp_dir!(),
        "proton_stream-#{System.unique_integer([:positive])}-#{System.pid()}"
      )

    File.mkdir_p!(directory)
    ExUnit.Callbacks.on_exit(fn -> File.rm_rf!(directory) end)
    path = Path.join(directory, name)
    File.write!(path, contents)
    File.chmod!(path, mode)
    path
  end
end
