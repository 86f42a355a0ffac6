# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.ThousandTest do
  # A thousand programs that stream at once to one VM, as root and as somebody whose pipes are
  # counted: the kernel counts a pipe for the user who makes it, which is the guardian, so it is
  # the whole VM that runs as that user. Not async: it is the machine's time that these need.
  use ExUnit.Case, async: false

  import ProtonStream.OtherVM

  @moduletag :root
  @moduletag timeout: 300_000

  @owners ~S"""
  defmodule Thousand do
    def run(count, path, options) do
      parent = self()
      owners = for _ <- 1..count, do: spawn_link(fn -> owner(parent, path, options) end)
      for owner <- owners, do: receive(do: ({:ready, ^owner} -> :ok))
      size = pipe_size(options)
      for owner <- owners, do: send(owner, :go)
      digests = for owner <- owners, do: receive(do: ({:done, ^owner, digest} -> digest))
      {size, Enum.frequencies(digests)}
    end

    # All have started before the first one writes.
    defp owner(parent, path, options) do
      Process.flag(:trap_exit, true)
      script = "read go; exec cat '#{path}'"
      {:ok, ps} = ProtonStream.open("sh", ["-c", script], options)
      send(parent, {:ready, self()})
      receive(do: (:go -> ProtonStream.command(ps, "\n")))
      send(parent, {:done, self(), digest(ps, :crypto.hash_init(:sha256))})
    end

    defp digest(ps, hash) do
      receive do
        {^ps, {:data, data}} -> digest(ps, :crypto.hash_update(hash, data))
        {:EXIT, ^ps, :normal} -> :crypto.hash_final(hash)
        {:EXIT, ^ps, reason} -> reason
      after
        120_000 -> {:stands, ProtonStream.info(ps)}
      end
    end

    # What a program that is started now has for a stdout, in bytes.
    defp pipe_size(options) do
      script = "import fcntl; print(fcntl.fcntl(1, 1032))"
      {:ok, ps} = ProtonStream.open("python3", ["-c", script], options)
      receive(do: ({^ps, {:data, size}} -> size |> String.trim() |> String.to_integer()))
    end

    def memory do
      for pid <- Process.list(), do: :erlang.garbage_collect(pid)
      :erlang.memory(:total)
    end

    def counts, do: {:erlang.system_info(:process_count), length(File.ls!("/proc/self/fd"))}
  end
  """

  # A thousand programs are some thousands of descriptors.
  @limit ["/bin/sh", "-c", "ulimit -Sn $(ulimit -Hn) && exec \"$@\"", "sh"]

  for {user, whose} <- [root: "root", nobody: "uid 65534, past its quota of pipes"] do
    @tag user: user
    test "a thousand programs of 1 MiB each come whole, and leave nothing, as #{whose}",
         %{user: user} do
      directory = place("thousand-#{user}")
      path = Path.join(directory, "pattern")
      File.write!(path, ProtonStream.Programs.pattern(1_048_576))
      tag = "#{System.unique_integer()}-#{System.pid()}"
      entry = "PROTON_STREAM_TEST=#{tag}"

      script =
        @owners <>
          """
          options = [start_timeout: 60_000, env: %{"PROTON_STREAM_TEST" => #{inspect(tag)}}]
          {size, _} = Thousand.run(20, #{inspect(path)}, options)
          before = {Thousand.memory(), Thousand.counts()}
          {full_size, digests} = Thousand.run(1_000, #{inspect(path)}, options)
          {memory, {processes, descriptors}} = before

          # Of 1,000 MiB: what the VM's allocators keep for the next process is in it.
          left =
            eventually("all is as before", fn ->
              {now_processes, now_descriptors} = Thousand.counts()
              now = Thousand.memory()

              if now_processes <= processes and now_descriptors <= descriptors and
                   now - memory < 4_000_000,
                 do: tagged(#{inspect(entry)})
            end)

          tell.({size, full_size, digests, left})
          System.halt(0)
          """

      id = if user == :nobody, do: 65_534, else: 0
      {port, _} = start_as(id, directory, script, @limit)
      assert {65_536, full_size, digests, []} = told(port, 240_000)
      assert digests == %{:crypto.hash(:sha256, File.read!(path)) => 1_000}
      # This is how the kernel says that the quota is used up.
      if user == :nobody, do: assert(full_size < 65_536), else: assert(full_size == 65_536)
    end
  end
end
