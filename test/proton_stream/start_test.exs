# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.StartTest do
  use ExUnit.Case, async: true

  import ProtonStream.Eventually
  import ProtonStream.Programs

  # row: 8
  for {title, command, args, opts, reason} <- [
        {"a program that does not exist", "/no/such/program", [], [], :enoent},
        {"a program that is not in PATH", "no-such-program-anywhere", [], [], :enoent},
        {"a directory as program", "/", [], [], :eacces},
        {"an argument list that is too long", "true", [String.duplicate("a", 200_000)], [],
         :e2big},
        {"more than a frame may hold", "true", [String.duplicate("a", 17_000_000)], [], :e2big},
        {"a directory that does not exist", "true", [], [cd: "/no/such"], {:cd, :enoent}},
        {"a directory that is a file", "true", [], [cd: "/etc/passwd"], {:cd, :enotdir}},
        {"a user that does not exist", "true", [], [uid: "nobdy"], {:uid, {:unknown, "nobdy"}}},
        {"a group that does not exist", "true", [], [gid: "nogrp"], {:gid, {:unknown, "nogrp"}}}
      ] do
    @tag command: command, args: args, opts: opts, reason: reason
    test "#{title} is an error, and the caller is unharmed", context do
      # Not trapping exits: an exit signal would end this test.
      assert ProtonStream.open(context.command, context.args, context.opts) ==
               {:error, context.reason}

      assert {:messages, []} = Process.info(self(), :messages)
      assert Process.info(self(), :links) |> elem(1) |> Enum.filter(&is_port/1) == []
    end
  end

  # row: 8
  test "a start that fails leaves no message to an owner that traps exits" do
    Process.flag(:trap_exit, true)
    assert ProtonStream.open("/no/such/program", []) == {:error, :enoent}
    # What could still come would come from the session, and that is gone.
    refute_received _
  end

  test "a start that fails is not logged" do
    assert ExUnit.CaptureLog.capture_log(fn ->
             assert ProtonStream.open("/no/such/program", []) == {:error, :enoent}
           end) == ""
  end

  test "a script without #! is :enoexec, not a shell's" do
    path = temporary("script", "echo hello\n", 0o700)
    assert ProtonStream.open(path, []) == {:error, :enoexec}
  end

  test "a file that may not be executed is :eacces" do
    path = temporary("script", "#!/bin/sh\n", 0o600)
    assert ProtonStream.open(path, []) == {:error, :eacces}
  end

  test "a relative program is looked up in the directory of :cd" do
    path = temporary("here", "#!/bin/sh\necho found\n", 0o700)
    Process.flag(:trap_exit, true)
    {:ok, ps} = ProtonStream.open("./here", [], cd: Path.dirname(path))
    assert collect(ps) == {"found\n", "", :normal}
  end

  test "a program is looked up in the PATH that it will see" do
    path = temporary("only-here", "#!/bin/sh\necho found\n", 0o700)
    Process.flag(:trap_exit, true)

    {:ok, ps} =
      ProtonStream.open("only-here", [], env: %{"PATH" => Path.dirname(path) <> ":/bin"})

    assert collect(ps) == {"found\n", "", :normal}
  end

  test "arguments arrive byte for byte" do
    args = ["", "a b", "*", "$HOME", "\\", <<0xFF, 0xFE>>, "é", "-n", "line\nline"]
    Process.flag(:trap_exit, true)
    {:ok, ps} = ProtonStream.open("sh", ["-c", "printf '%s\\0' \"$@\"", "sh" | args])
    assert {out, "", :normal} = collect(ps)
    assert out == Enum.map_join(args, &(&1 <> <<0>>))
  end

  test "more than 64 KB of arguments and environment arrive" do
    args = for n <- 1..20, do: String.duplicate("#{rem(n, 10)}", 10_000)
    env = for n <- 1..10, do: {"V#{n}", String.duplicate("v", 10_000)}
    Process.flag(:trap_exit, true)

    {:ok, ps} =
      ProtonStream.open("sh", ["-c", "printf %s \"$*\" | wc -c; env | wc -c", "sh" | args],
        env: env
      )

    assert {out, "", :normal} = collect(ps)
    assert [first, second] = out |> String.split() |> Enum.map(&String.to_integer/1)
    assert first == 20 * 10_000 + 19
    assert second > 100_000
  end

  test "the environment is the VM's, with what is set and without what is removed" do
    System.put_env("PROTON_STREAM_KEPT", "kept")
    System.put_env("PROTON_STREAM_REMOVED", "removed")
    Process.flag(:trap_exit, true)

    env = [
      {"PROTON_STREAM_REMOVED", nil},
      {"PROTON_STREAM_BYTES", <<"a", 0xFF, "b">>},
      {"PROTON_STREAM_EMPTY", ""}
    ]

    {:ok, ps} = ProtonStream.open("env", ["-0"], env: env)
    {out, "", :normal} = collect(ps)
    variables = :binary.split(out, <<0>>, [:global])

    assert "PROTON_STREAM_KEPT=kept" in variables
    assert <<"PROTON_STREAM_BYTES=a", 0xFF, "b">> in variables
    assert "PROTON_STREAM_EMPTY=" in variables
    refute Enum.any?(variables, &String.starts_with?(&1, "PROTON_STREAM_REMOVED"))
  after
    System.delete_env("PROTON_STREAM_KEPT")
    System.delete_env("PROTON_STREAM_REMOVED")
  end

  test "of equal variables the last one counts" do
    Process.flag(:trap_exit, true)

    {:ok, ps} =
      ProtonStream.open("sh", ["-c", "echo $A$B"],
        env: [{"A", "1"}, {"A", "2"}, {"B", "3"}, {"B", nil}]
      )

    assert collect(ps) == {"2\n", "", :normal}
  end

  test "the directory is the VM's, or that of :cd" do
    Process.flag(:trap_exit, true)
    {:ok, ps} = ProtonStream.open("pwd", [])
    assert collect(ps) == {File.cwd!() <> "\n", "", :normal}
    {:ok, ps} = ProtonStream.open("pwd", [], cd: "/usr/../usr")
    assert collect(ps) == {"/usr\n", "", :normal}
  end

  test "arg0 is what the program sees as its name" do
    Process.flag(:trap_exit, true)
    {:ok, ps} = ProtonStream.open("sh", ["-c", "cat /proc/$$/cmdline"], arg0: "dog")
    assert {"dog" <> <<0>> <> _, "", :normal} = collect(ps)
  end

  test "a caller that dies right after a start leaves nothing" do
    test = self()

    caller =
      spawn(fn ->
        {:ok, ps} = ProtonStream.open("sleep", ["1000"])
        send(test, {:started, ProtonStream.os_pid(ps), ps})
      end)

    monitor = Process.monitor(caller)
    assert_receive {:started, os_pid, ps}
    await_down(monitor)
    await_down(Process.monitor(ps))
    await_gone(os_pid)
  end

  # row: 12
  @tag :root
  test "another user has that user's id, groups and variables, and nothing of root's" do
    Process.flag(:trap_exit, true)

    {:ok, ps} =
      ProtonStream.open("sh", ["-c", "id -u; id -g; id -G; echo $USER $LOGNAME $HOME"],
        uid: "nobody"
      )

    {out, "", :normal} = collect(ps)
    {uid, 0} = System.cmd("id", ["-u", "nobody"])
    {gid, 0} = System.cmd("id", ["-g", "nobody"])
    {groups, 0} = System.cmd("id", ["-G", "nobody"])
    {passwd, 0} = System.cmd("getent", ["passwd", "nobody"])
    home = passwd |> String.split(":") |> Enum.at(5)
    assert out == uid <> gid <> groups <> "nobody nobody #{home}\n"
  end

  # row: 9, 12
  @tag :root
  test "a user by number, with its zeros, is decimal" do
    Process.flag(:trap_exit, true)
    {:ok, ps} = ProtonStream.open("id", ["-u"], uid: "010")
    assert collect(ps) == {"10\n", "", :normal}
  end

  @tag :root
  test "variables given by hand win over the user's" do
    Process.flag(:trap_exit, true)

    {:ok, ps} =
      ProtonStream.open("sh", ["-c", "echo $HOME"], uid: "nobody", env: %{"HOME" => "/mine"})

    assert collect(ps) == {"/mine\n", "", :normal}
  end

  # row: 12
  test "nothing is inherited: descriptors, signals, session" do
    Process.flag(:trap_exit, true)

    # Without a listing, which would open a descriptor itself, and without another program that
    # reads the shell's masks: dash blocks all signals around its vfork, and takes its time to
    # undo that when the child runs already.
    ps =
      sh("""
      n=0; while [ $n -lt 200 ]; do [ -e /proc/$$/fd/$n ] && printf "$n "; n=$((n+1)); done; echo
      while read -r line; do case $line in SigBlk* | SigIgn*) echo "$line" ;; esac; done </proc/$$/status
      cut -d' ' -f1,5,6 /proc/$$/stat
      """)

    {out, "", :normal} = collect(ps)
    [fds, blocked, ignored, ids] = String.split(out, "\n", trim: true)
    assert fds |> String.split() |> Enum.sort() == ["0", "1", "2"]
    assert blocked =~ ~r/0{16}$/
    assert ignored =~ ~r/0{16}$/
    # Its own process group and its own session.
    assert [pid, pid, pid] = String.split(ids)
  end

  # row: 12
  test "a writer whose reader has gone dies of SIGPIPE, silently" do
    Process.flag(:trap_exit, true)
    ps = sh("yes | head -n 1")
    assert collect(ps) == {"y\n", "", :normal}
  end
end
