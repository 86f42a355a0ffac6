# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.OtherVM do
  @moduledoc false

  # A VM of its own, for tests that kill it and for those that count what a VM has.

  import ExUnit.Assertions

  @deadline 60_000

  @doc """
  Starts a VM that runs a script, which has `tell.(term)` to talk to the test. Returns the
  port and the VM's process id. The environment is made by a shell, because `Port.open/2`
  can't pass on bytes that are no text. `prefix` is a command that runs another.
  """
  def start(script, env \\ %{}, prefix \\ [], ebin \\ nil) do
    elixir = System.find_executable("elixir")
    ebin = ebin || Application.app_dir(:proton_stream, "ebin")
    helpers = for name <- ~w(eventually programs), arg <- ["-r", name], do: helper(arg)

    script = """
    {:ok, _} = Application.ensure_all_started(:proton_stream)
    import ProtonStream.Eventually
    import ProtonStream.Programs
    # Not with IO.puts/1, where that can be had: what is said has to be out before the VM is
    # killed. Another user can't open a pipe of the test's.
    tell = fn term ->
      line = ["told ", Base.encode64(:erlang.term_to_binary(term)), "\\n"]

      case :file.open(~c"/dev/stdout", [:raw, :append]) do
        {:ok, file} ->
          :ok = :file.write(file, line)
          :file.close(file)

        {:error, :eacces} ->
          IO.binwrite(line)
      end
    end
    _ = tell
    _ = &collect/1
    _ = &await_gone/1
    #{script}
    """

    set = for {key, value} <- env, into: "", do: "#{key}=$(printf '#{octal(value)}') "

    port =
      Port.open({:spawn_executable, "/bin/sh"}, [
        :binary,
        :exit_status,
        :stderr_to_stdout,
        line: 65_536,
        args:
          ["-c", set <> "exec \"$@\"", "sh"] ++
            prefix ++ [elixir, "-pa", ebin] ++ helpers ++ ["-e", script]
      ])

    {:os_pid, os_pid} = Port.info(port, :os_pid)
    {port, os_pid}
  end

  @doc "A directory for the time of the test, with what a VM of any user needs of the package."
  def place(name) do
    directory = Path.join(System.tmp_dir!(), "proton_stream_test_#{name}_#{System.pid()}")
    File.mkdir_p!(directory)
    ExUnit.Callbacks.on_exit(fn -> File.rm_rf!(directory) end)
    File.cp_r!(Application.app_dir(:proton_stream, "ebin"), Path.join(directory, "ebin"))
    {:ok, guardian} = ProtonStream.Guardian.executable()
    File.cp!(guardian, Path.join(directory, "proton-guardian"))
    directory
  end

  @doc "Starts a VM as the user and group with that number, from such a directory."
  def start_as(id, directory, script, prefix \\ []) do
    become = ~w(setpriv --reuid #{id} --regid #{id} --clear-groups --)
    guardian = Path.join(directory, "proton-guardian")
    env = %{"PROTON_GUARDIAN" => guardian, "HOME" => directory}
    start(script, env, prefix ++ become, Path.join(directory, "ebin"))
  end

  @doc "The next term that the script tells."
  def told(port, deadline \\ @deadline) do
    receive do
      {^port, {:data, {:eol, "told " <> term}}} ->
        term |> Base.decode64!() |> :erlang.binary_to_term()

      {^port, {:data, {_, line}}} ->
        IO.puts(:stderr, line)
        told(port, deadline)

      {^port, {:exit_status, status}} ->
        flunk("the other VM ended with status #{status}")
    after
      deadline -> flunk("the other VM says nothing")
    end
  end

  @doc "Waits for the end of the VM."
  def ended(port) do
    receive do
      {^port, {:exit_status, status}} -> status
      {^port, {:data, _}} -> ended(port)
    after
      @deadline -> flunk("the other VM does not end")
    end
  end

  @doc "Sends a signal to a process that this test has started."
  def kill(os_pid, signal \\ "KILL") when is_integer(os_pid) and os_pid > 1 do
    {_, 0} = System.cmd("kill", ["-#{signal}", "#{os_pid}"])
    :ok
  end

  defp helper("-r"), do: "-r"
  defp helper(name), do: Path.join(__DIR__, name <> ".exs")

  defp octal(bytes) do
    for <<byte <- bytes>>,
      into: "",
      do: "\\" <> String.pad_leading(Integer.to_string(byte, 8), 3, "0")
  end
end
