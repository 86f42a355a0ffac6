# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

# What ./demo runs: the main job, step by step. Each step says what it does,
# compares it with what the program really did, and ends all with status 1 where
# the two differ.

defmodule Demo do
  @patience 10_000

  def run(steps) do
    Process.flag(:trap_exit, true)

    for {{title, step}, number} <- Enum.with_index(steps, 1) do
      IO.puts("\n#{number}. #{title}")

      try do
        step.()
      catch
        kind, reason ->
          IO.puts("   ✗ #{explain(kind, reason, __STACKTRACE__)}")
          IO.puts("\ndemo: step #{number} isn't as told: #{title}")
          System.halt(1)
      else
        result -> IO.puts("   ✓ #{result}")
      end

      flush()
    end

    IO.puts("\ndemo: all #{length(steps)} steps were as told")
  end

  ## The steps. Each returns what to say beside its ✓.

  def conversation do
    {:ok, bc} = ProtonStream.open("bc", ["-q"])

    for {sum, result} <- [{"2 + 2", "4\n"}, {"10 * 10", "100\n"}] do
      send(bc, {self(), {:command, sum <> "\n"}})
      say("we: #{sum}")
      answer = line(bc)
      say("bc: #{String.trim(answer)}")
      expect("bc's answer to #{sum}", answer, result)
    end

    send(bc, {self(), :close})
    expect("the reply to :close", receive_until_closed(bc), :closed)
    expect("the session", Process.alive?(bc), false)
    "both answers are right, and bc is closed"
  end

  def filter do
    {:ok, sort} = ProtonStream.open("sort", [])

    for word <- ~w(pear apple fig) do
      ProtonStream.command(sort, word <> "\n")
      say("we:   #{word}")
    end

    ProtonStream.eof(sort)
    {out, "", reason} = until_exit(sort)
    say("sort: #{inspect(out)}")
    expect("what sort wrote", out, "apple\nfig\npear\n")
    expect("how sort ended", reason, :normal)
    "all of it came before the exit, which was #{inspect(reason)}"
  end

  def two_streams do
    script = "echo this is the result; echo this is a warning >&2; exit 3"
    {:ok, sh} = ProtonStream.open("sh", ["-c", script])
    {out, err, reason} = until_exit(sh)
    say("{ps, {:data,  #{inspect(out)}}}")
    say("{ps, {:error, #{inspect(err)}}}")
    say("{:EXIT, ps, #{inspect(reason)}}")
    expect("stdout", out, "this is the result\n")
    expect("stderr", err, "this is a warning\n")
    expect("the exit", reason, {:exit_status, 3})
    "each stream by itself, and the exit status as it was"
  end

  def dead_owner do
    demo = self()

    owner =
      spawn(fn ->
        {:ok, ping} = ProtonStream.open("ping", ["localhost"])
        send(demo, {:pinging, ProtonStream.os_pid(ping), line(ping)})
        Process.sleep(:infinity)
      end)

    {:pinging, os_pid, first} = receive_one()
    say(first |> String.split("\n") |> hd())
    before = ps(os_pid)
    say("ps before: #{before}")
    expect("ps shows ping", before =~ "ping localhost", true)

    Process.exit(owner, :kill)
    say("Process.exit(owner, :kill)")
    expect("ping ended", gone?(os_pid), true)
    say("ps after:  nothing")
    "ping, which never looks at its stdin, went with its owner"
  end

  def supervised do
    {:ok, supervisor} = Supervisor.start_link([{Demo.Worker, self()}], strategy: :one_for_one)

    {:ready, first} = receive_one()
    say("the worker's program is #{first}; we kill it")
    {_, 0} = System.cmd("kill", ["-KILL", "#{first}"])
    expect("what the worker was told", receive_one(), {:program_ended, first, {:signal, 9}})
    {:ready, second} = receive_one()
    say("the worker's program is #{second}")
    expect("it is another one", first != second, true)
    expect("the first one ended", gone?(first), true)
    expect("the second one runs", ps(second) != "", true)

    Supervisor.stop(supervisor)
    expect("it ended with its supervisor", gone?(second), true)
    "the Supervisor restarted it, and stopped it"
  end

  def stubborn do
    script = "trap '' TERM; echo armed; while :; do sleep 0.1; done"
    {:ok, sh} = ProtonStream.open("sh", ["-c", script], delay_to_sigkill: 300)
    "armed\n" = line(sh)
    os_pid = ProtonStream.os_pid(sh)
    say("#{os_pid} ignores SIGTERM; it gets 300 ms")
    start = System.monotonic_time(:millisecond)
    ProtonStream.close(sh)
    expect("the reply to close/1", receive_until_closed(sh), :closed)
    took = System.monotonic_time(:millisecond) - start
    expect(":closed didn't come before the 300 ms were over (#{took} ms)", took >= 300, true)
    expect("the program is dead at :closed", ps(os_pid), "")
    "closed and dead after #{took} ms"
  end

  ## Helpers

  defp say(text), do: IO.puts("   #{text}")

  defp expect(_, same, same), do: :ok

  defp expect(what, really, told),
    do: throw({:differs, "#{what}: told #{inspect(told)}, really #{inspect(really)}"})

  defp explain(:throw, {:differs, sentence}, _), do: sentence
  defp explain(kind, reason, stack), do: Exception.format(kind, reason, stack)

  defp receive_one do
    receive do
      # We trap exits, so the end of System.cmd's own port is a message to us too.
      {:EXIT, port, :normal} when is_port(port) -> receive_one()
      message -> message
    after
      @patience -> throw({:differs, "nothing came for #{div(@patience, 1000)} s"})
    end
  end

  defp receive_until_closed(ps) do
    case receive_one() do
      {^ps, :closed} -> :closed
      _ -> receive_until_closed(ps)
    end
  end

  defp line(ps, so_far \\ "") do
    {^ps, {:data, data}} = receive_one()
    if String.ends_with?(data, "\n"), do: so_far <> data, else: line(ps, so_far <> data)
  end

  defp until_exit(ps, out \\ "", err \\ "") do
    case receive_one() do
      {^ps, {:data, data}} -> until_exit(ps, out <> data, err)
      {^ps, {:error, data}} -> until_exit(ps, out, err <> data)
      {:EXIT, ^ps, reason} -> {out, err, reason}
    end
  end

  defp ps(os_pid) do
    {line, _} = System.cmd("ps", ["-o", "pid=,args=", "-p", "#{os_pid}"])
    String.trim(line)
  end

  defp gone?(os_pid, tries \\ 500) do
    cond do
      ps(os_pid) == "" -> true
      tries == 0 -> false
      true -> Process.sleep(10) && gone?(os_pid, tries - 1)
    end
  end

  defp flush do
    receive do
      _ -> flush()
    after
      0 -> :ok
    end
  end
end

defmodule Demo.Worker do
  use GenServer
  @behaviour ProtonStream

  def start_link(demo) do
    script = "echo ready; exec sleep 1000"
    ProtonStream.start_link(__MODULE__, "sh", ["-c", script], demo)
  end

  @impl GenServer
  def init(demo), do: {:ok, %{demo: demo, os_pid: nil}}

  @impl ProtonStream
  def handle_stdout("ready\n", state) do
    os_pid = ProtonStream.os_pid(self())
    send(state.demo, {:ready, os_pid})
    {:noreply, %{state | os_pid: os_pid}}
  end

  # {:shutdown, _} is OTP's way to say: restart me, but don't log it as a crash.
  @impl ProtonStream
  def handle_exit(reason, state) do
    send(state.demo, {:program_ended, state.os_pid, reason})
    {:stop, {:shutdown, reason}, state}
  end
end

Demo.run([
  {"A conversation with bc", &Demo.conversation/0},
  {"sort, which answers only once its stdin has ended", &Demo.filter/0},
  {"stdout and stderr apart, and the exit status", &Demo.two_streams/0},
  {"ping, under a process that is killed", &Demo.dead_owner/0},
  {"A worker that a Supervisor restarts", &Demo.supervised/0},
  {"A program that ignores SIGTERM", &Demo.stubborn/0}
])
