# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.VMTest do
  # A VM that ends, in every state of a program, leaves neither program nor guardian.
  # Not async: each of these starts a VM.
  use ExUnit.Case, async: false

  import ProtonStream.Eventually
  import ProtonStream.OtherVM

  @moduletag timeout: 120_000

  # What the other VM does before it is ended; `ps` is the session in that state.
  @states [
    {"a program runs",
     ~S"""
     {:ok, ps} = ProtonStream.open("sleep", ["1000"])
     """},
    {"a program ignores SIGTERM",
     ~S"""
     ps = sh("trap '' TERM; echo ready; while :; do sleep 1; done")
     await_line(ps, "ready")
     """},
    {"a program is stopped",
     ~S"""
     {:ok, ps} = ProtonStream.open("sleep", ["1000"])
     os_pid = ProtonStream.os_pid(ps)
     ProtonStream.signal(ps, :sigstop)
     eventually("it is stopped", fn -> File.read!("/proc/#{os_pid}/stat") =~ ") T " end)
     """},
    {"its output is stalled",
     ~S"""
     ps = sh("exec yes")
     eventually("it is stalled", fn -> ProtonStream.info(ps).held.stdout > 100_000 end)
     """},
    {"it never reads the 8 MiB that it was sent",
     ~S"""
     {:ok, ps} = ProtonStream.open("sleep", ["1000"])
     ProtonStream.command(ps, :binary.copy("x", 8_388_608))
     eventually("it is queued", fn -> ProtonStream.info(ps).queued > 0 end)
     """},
    {"it has been closed and its kill delay runs",
     ~S"""
     ps = sh("trap '' TERM; echo ready; while :; do sleep 1; done", delay_to_sigkill: 3_000)
     await_line(ps, "ready")
     tell.({ProtonStream.os_pid(ps), guardian(ps)})
     ProtonStream.close(ps)
     ProtonStream.info(ps)
     """}
  ]

  # row: 4, 6
  for {title, state} <- @states do
    @tag state: state
    test "a VM that is killed while #{title} leaves nothing", %{state: state} do
      {port, os_pid} = start(state <> tells() <> "receive do: (:never -> :ok)")
      {program, guardian} = told(port)
      assert runs?(program) and runs?(guardian)
      assert told_again(port, state)
      kill(os_pid)
      # Not by the end of its output, which the guardian holds open as long as it lives.
      await_gone([os_pid, program, guardian])
    end
  end

  # row: 4
  for {title, ending} <- [
        {"System.halt/1", "System.halt(0)"},
        {"System.stop/1", "System.stop(0); receive do: (:never -> :ok)"},
        {"the end of its script", ":ok"}
      ],
      {state_title, state} <- @states,
      not (state =~ "3_000") do
    @tag state: state, ending: ending
    test "#{title} while #{state_title} ends the VM and leaves nothing", context do
      {port, _} = start(context.state <> tells() <> context.ending)
      {program, guardian} = told(port)
      assert ended(port) == 0
      await_gone([program, guardian])
    end
  end

  # row: 4
  test "a session that is killed while its program never reads leaves nothing" do
    script = ~S"""
    {:ok, ps} = ProtonStream.open("sleep", ["1000"])
    ProtonStream.command(ps, :binary.copy("x", 8_388_608))
    eventually("it is queued", fn -> ProtonStream.info(ps).queued > 0 end)
    pids = {ProtonStream.os_pid(ps), guardian(ps)}
    Process.unlink(ps)
    Process.exit(ps, :kill)
    await_gone(elem(pids, 0))
    await_free(elem(pids, 1))
    tell.(pids)
    System.halt(0)
    """

    {port, _} = start(script)
    {program, guardian} = told(port)
    assert ended(port) == 0
    await_gone([program, guardian])
  end

  test "a VM with bytes that are no text in its environment hands them on" do
    script = ~S"""
    Process.flag(:trap_exit, true)
    {:ok, ps} = ProtonStream.open("env", ["-0"], env: %{"PROTON_STREAM_ADDED" => "1"})
    {out, "", :normal} = collect(ps)
    tell.(:binary.split(out, <<0>>, [:global]))
    """

    wrapped = %{
      "PROTON_STREAM_RAW" => <<"a", 0xFF, "b">>,
      "PROTON_STREAM_LATIN" => <<0xE9>>,
      "PROTON_STREAM_TEXT" => "é€"
    }

    {port, _} = start(script, wrapped)
    variables = told(port)
    for {key, value} <- wrapped, do: assert((key <> "=" <> value) in variables)
    assert "PROTON_STREAM_ADDED=1" in variables
  end

  defp tells, do: "tell.({ProtonStream.os_pid(ps), guardian(ps)});"

  # The state of a running kill delay is told once before it begins.
  defp told_again(port, state), do: if(state =~ "3_000", do: told(port), else: true)
end
