# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.OwnerTest do
  # Owners that take their time, and what they and their sessions hold meanwhile. In VMs of
  # their own. Not async: it is the machine's time that these need.
  use ExUnit.Case, async: false

  import ProtonStream.OtherVM

  @moduletag timeout: 300_000

  @held ~S"""
  defmodule Held do
    # For two windows of the default size.
    @owner 2 * 10_240 + 65_536
    # Two streams, each at most twice its credit: binaries that grow are made with room.
    @session 4 * 262_144 + 65_536

    def full?(ps, streams \\ [:stdout, :stderr]),
      do: Enum.all?(streams, &(ProtonStream.info(ps).held[&1] > 200_000))

    # What the mailbox holds of each program, with all that is kept alive by it.
    def owner_within? do
      {:messages, messages} = Process.info(self(), :messages)

      held =
        for {ps, {kind, data}} <- messages, kind in [:data, :error], reduce: %{} do
          held -> Map.update(held, ps, cost(data), &(&1 + cost(data)))
        end

      held |> Map.values() |> Enum.all?(&(&1 <= @owner))
    end

    defp cost(data), do: :binary.referenced_byte_size(data) + 64

    # How many pieces there are depends on how quick its guardian is.
    def session_within?(ps) do
      # What it no longer holds is not counted.
      :erlang.garbage_collect(ps)
      {:binary, binaries} = Process.info(ps, :binary)
      sizes = for {_, size, _} <- Enum.uniq_by(binaries, &elem(&1, 0)), do: size
      {:messages, messages} = Process.info(ps, :messages)
      Enum.sum(sizes) + :erlang.external_size(messages) <= @session
    end

    def read(_ps, left) when left <= 0, do: true

    def read(ps, left) do
      receive do
        {^ps, {_, data}} -> read(ps, left - byte_size(data))
      after
        30_000 -> false
      end
    end

    # CPU time of a process, in ticks.
    def ticks(os_pid) do
      [_, rest] = String.split(File.read!("/proc/#{os_pid}/stat"), ") ", parts: 2)
      [user, system] = rest |> String.split(" ") |> Enum.slice(11, 2)
      String.to_integer(user) + String.to_integer(system)
    end

    def state(os_pid),
      do: Regex.run(~r/\) (.) /, File.read!("/proc/#{os_pid}/stat")) |> List.last()
  end
  """

  # row: 15
  for {title, script} <- [
        {"yes", "exec yes"},
        {"yes on stderr", "exec yes >&2"},
        {"a program that writes byte by byte", "while :; do printf x; done"}
      ] do
    @tag script: script
    test "while its owner sleeps #{title} is blocked in its write, and uses no time", context do
      script =
        @held <>
          """
          {:ok, ps} = ProtonStream.open("sh", ["-c", #{inspect(context.script)}])
          stream = if #{context.script =~ ">&2"}, do: :stderr, else: :stdout
          eventually("the session is full", fn -> Held.full?(ps, [stream]) end)
          all = [ProtonStream.os_pid(ps), guardian(ps)]

          eventually("nothing moves", fn ->
            before = Enum.map(all, &Held.ticks/1)
            receive do: (:never -> :ok), after: (1_000 -> before == Enum.map(all, &Held.ticks/1))
          end)

          states = Enum.map(all, &Held.state/1)
          tell.({states, Held.owner_within?(), Held.session_within?(ps), Held.read(ps, 600_000)})
          System.halt(0)
          """

      {port, _} = start(script)
      assert told(port) == {["S", "S"], true, true, true}
    end
  end

  test "one owner of a hundred programs holds each one's bound, and gets all of each" do
    script =
      @held <>
        ~S"""
        Process.flag(:trap_exit, true)

        all =
          for _ <- 1..100 do
            {:ok, ps} = ProtonStream.open("sh", ["-c", "yes & exec yes >&2"])
            ps
          end

        eventually("all are full", fn -> Enum.all?(all, &Held.full?/1) end)
        asleep = {Held.owner_within?(), Enum.all?(all, &Held.session_within?/1)}
        flows = Enum.all?(all, &Held.read(&1, 100_000))
        for ps <- all, do: ProtonStream.close(ps)
        for ps <- all, do: collect(ps)

        data = pattern(300_000)
        path = Path.join(System.tmp_dir!(), "proton_stream_test_#{System.pid()}")
        File.write!(path, data)
        all = for n <- 1..100, do: sh("cat '#{path}'; exit #{n}")
        whole = for ps <- all, do: collect_sizes(ps)
        File.rm!(path)
        expected = for n <- 1..100, do: {size(data), size(""), {:exit_status, n}}
        tell.({asleep, flows, whole == expected})
        System.halt(0)
        """

    {port, _} = start(script)
    assert told(port) == {{true, true}, true, true}
  end

  test "a callback that takes its time leaves the session with its transport's credit" do
    script =
      @held <>
        ~S"""
        defmodule Slow do
          use GenServer
          @behaviour ProtonStream
          @impl GenServer
          def init(to), do: {:ok, to}
          @impl ProtonStream
          def handle_stdout(data, to), do: take(data, to)
          @impl ProtonStream
          def handle_stderr(data, to), do: take(data, to)

          defp take(data, to) do
            send(to, {:got, byte_size(data)})
            receive(do: (:on -> {:noreply, to}))
          end
        end

        {:ok, ps} = ProtonStream.start_link(Slow, "sh", ["-c", "yes & exec yes >&2"], self())
        # The session is inside of the callback and answers nothing.
        receive do: ({:got, first} -> first)
        moves = fn -> {Process.info(ps, :message_queue_len), Process.info(ps, :memory)} end

        eventually("nothing moves", fn ->
          before = moves.()
          receive do: (:never -> :ok), after: (500 -> before == moves.())
        end)

        within = Held.session_within?(ps)

        sizes =
          for _ <- 1..100 do
            send(ps, :on)
            receive do: ({:got, size} -> size)
          end

        tell.({within, Enum.max(sizes) <= 10_240})
        System.halt(0)
        """

    {port, _} = start(script)
    assert told(port) == {true, true}
  end

  test "an owner inside of a long native function is closed, and its death seen" do
    script =
      @held <>
        ~S"""
        defmodule Inside do
          # A native function that takes a minute or so, on a scheduler of its own kind.
          def owner(to) do
            {:ok, ps} = ProtonStream.open("yes", [])
            send(to, {self(), ps, ProtonStream.os_pid(ps)})
            :crypto.generate_key(:rsa, {16_384, 65_537})
            send(to, {self(), :outside})
          end

          def enter do
            main = self()
            owner = spawn(fn -> owner(main) end)
            receive(do: ({^owner, ps, os_pid} -> {owner, ps, os_pid}))
          end
        end

        # By others on its behalf, as a message is all that a session needs.
        {owner, ps, os_pid} = Inside.enter()
        eventually("the session is full", fn -> Held.full?(ps, [:stdout]) end)
        answers? = is_map(ProtonStream.info(ps))
        send(ps, {owner, :close})
        await_gone(os_pid)
        # The session itself has yet to ask whether its owner traps exits.
        inside? = receive(do: ({^owner, :outside} -> false), after: (0 -> Process.alive?(owner)))

        {owner, ps, os_pid} = Inside.enter()
        eventually("the session is full", fn -> Held.full?(ps, [:stdout]) end)
        Process.exit(owner, :kill)
        await_gone(os_pid)
        tell.({answers?, inside?, runs?(os_pid)})
        receive do: (:never -> :ok)
        """

    {port, vm} = start(script)

    try do
      assert told(port) == {true, true, false}
    after
      # It would wait for its native functions.
      kill(vm)
    end
  end
end
