# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Callbacks.EndTest do
  # Not async: what is logged meanwhile is looked at.
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog
  import ProtonStream.Eventually
  import ProtonStream.Workers

  alias ProtonStream.Workers.Scripted

  setup do
    Process.flag(:trap_exit, true)
    :ok
  end

  describe "the end" do
    test "terminate/2 runs while the program lives, and GenServer.stop/1 returns when it is dead" do
      test = self()

      terminate = fn _reason, _state ->
        os_pid = ProtonStream.os_pid(self())
        send(test, {:terminate, os_pid, runs?(os_pid)})
      end

      pid = worker!("sleep 1000", %{terminate: terminate})
      assert GenServer.stop(pid) == :ok
      assert_received {:terminate, os_pid, true}
      refute runs?(os_pid)
    end

    test "a terminate/2 that raises ends the program all the same" do
      pid = worker!("sleep 1000", %{terminate: fn _, _ -> raise "no" end})
      os_pid = ProtonStream.os_pid(pid)
      quietly(fn -> catch_exit(GenServer.stop(pid)) end)
      refute runs?(os_pid)
    end

    test "a parent that ends takes all with it" do
      test = self()

      parent =
        spawn(fn ->
          send(test, {:worker, worker!("sleep 1000", %{to: test})})
          receive do: (:never -> :ok)
        end)

      assert_receive {:worker, pid}
      os_pid = ProtonStream.os_pid(pid)
      monitor = Process.monitor(pid)
      Process.exit(parent, :shutdown)
      assert await_down(monitor) == :shutdown
      assert_received {:terminate, :shutdown}
      refute runs?(os_pid)
    end

    test "a module that does not trap exits ends with the reason of a linked process" do
      pid = worker!("sleep 1000")
      os_pid = ProtonStream.os_pid(pid)

      log =
        capture_log(fn ->
          {:ok, linked} = GenServer.call(pid, fn -> Task.start_link(fn -> exit(:boom) end) end)
          assert is_pid(linked)
          assert_receive {:EXIT, ^pid, :boom}
        end)

      refute log =~ "GenServer"
      refute runs?(os_pid)
      refute_received {:terminate, _}
    end

    test "a module that does not trap exits goes on when a linked process ends well" do
      pid = worker!("cat")
      {:ok, linked} = GenServer.call(pid, fn -> Task.start_link(fn -> :ok end) end)
      await_down(Process.monitor(linked))
      ProtonStream.command(pid, "a")
      assert_receive {:stdout, "a"}
      refute_received {:info, {:EXIT, _, _}}
    end

    test "a module that traps exits gets them, but none of the library's" do
      init = fn state ->
        Process.flag(:trap_exit, true)
        {:ok, state}
      end

      pid = worker!("cat", %{init: init})

      quietly(fn ->
        {:ok, linked} = GenServer.call(pid, fn -> Task.start_link(fn -> exit(:boom) end) end)
        assert_receive {:info, {:EXIT, ^linked, :boom}}
      end)

      ProtonStream.eof(pid)
      assert_receive {:exit, :normal}
      refute_received {:info, {:EXIT, _, _}}
    end
  end

  describe "under a supervisor" do
    # row: 8
    test "a transient child is started again after a status, and not after :normal" do
      children = [
        {ProtonStream,
         module: Scripted,
         command: "sh",
         args: ["-c", "read status; exit $status"],
         init_arg: %{to: self()},
         restart: :transient}
      ]

      quietly(fn ->
        {:ok, supervisor} = Supervisor.start_link(children, strategy: :one_for_one)
        [{_, first, _, _}] = Supervisor.which_children(supervisor)
        ProtonStream.command(first, "1\n")
        assert_receive {:exit, {:exit_status, 1}}

        second =
          eventually("it is started again", fn ->
            case Supervisor.which_children(supervisor) do
              [{_, pid, _, _}] when is_pid(pid) and pid != first -> pid
              _ -> nil
            end
          end)

        ProtonStream.command(second, "0\n")
        assert_receive {:exit, :normal}

        eventually("it is gone", fn ->
          match?([{_, :undefined, _, _}], Supervisor.which_children(supervisor))
        end)

        Supervisor.stop(supervisor)
      end)
    end

    test "a DynamicSupervisor and a PartitionSupervisor take the child specification" do
      spec = {ProtonStream, module: Scripted, command: "cat", init_arg: %{to: self()}}
      {:ok, dynamic} = DynamicSupervisor.start_link(strategy: :one_for_one)
      {:ok, pid} = DynamicSupervisor.start_child(dynamic, spec)
      os_pid = ProtonStream.os_pid(pid)
      DynamicSupervisor.stop(dynamic)
      refute runs?(os_pid)

      {:ok, partitions} =
        PartitionSupervisor.start_link(
          child_spec: spec,
          name: :proton_stream_partitions,
          partitions: 2
        )

      os_pids =
        for {_, pid, _, _} <- PartitionSupervisor.which_children(:proton_stream_partitions),
            do: ProtonStream.os_pid(pid)

      assert length(os_pids) == 2
      Supervisor.stop(partitions)
      await_gone(os_pids)
    end

    test "a shutdown waits for a program that ignores SIGTERM" do
      {:ok, supervisor} = Supervisor.start_link([], strategy: :one_for_one)
      script = "trap '' TERM; echo ready; while :; do sleep 1; done"

      {:ok, pid} =
        Supervisor.start_child(
          supervisor,
          {ProtonStream,
           module: Scripted,
           command: "sh",
           args: ["-c", script],
           init_arg: %{to: self()},
           delay_to_sigkill: 100}
        )

      assert_receive {:stdout, "ready\n"}
      os_pid = ProtonStream.os_pid(pid)
      Supervisor.stop(supervisor)
      refute runs?(os_pid)
    end
  end
end
