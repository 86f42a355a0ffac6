# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.ProcessTest do
  # Attributes of the program's process, what becomes of its descendants, and its namespace.
  use ExUnit.Case, async: true

  import ProtonStream.Eventually
  import ProtonStream.Programs

  alias ProtonStream.OtherVM

  setup do
    Process.flag(:trap_exit, true)
    :ok
  end

  defp output(script, opts) do
    assert {out, "", :normal} = script |> sh(opts) |> collect()
    out
  end

  test "umask, nice, limits, OOM score and privileges are those that were asked for" do
    script = """
    umask; nice; ulimit -Sn; ulimit -Hn; cat /proc/self/oom_score_adj
    grep -o 'NoNewPrivs.*' /proc/self/status
    """

    opts = [
      umask: 0o027,
      nice: 5,
      rlimits: [nofile: {64, 128}],
      oom_score_adj: 500,
      no_new_privs: true
    ]

    assert output(script, opts) == "0027\n5\n64\n128\n500\nNoNewPrivs:\t1\n"
  end

  @tag :root
  test "groups are those that were asked for, and no others" do
    assert output("id -G", uid: "nobody", groups: ["daemon", 2]) == "65534 1 2\n"
    assert output("id -G", groups: []) == "0\n"
  end

  test "what can't be set starts nothing" do
    # Above what the kernel has, also for root.
    assert ProtonStream.open("cat", [], rlimits: [nofile: 4_000_000_000_000]) ==
             {:error, {:process, "rlimit nofile", :eperm}}

    assert ProtonStream.open("cat", [], groups: ["nobdy"]) ==
             {:error, {:groups, {:unknown, "nobdy"}}}
  end

  describe "descendants of a program that has exited" do
    test "are ended" do
      ps = sh("sleep 1000 & echo $!; exit 3")
      assert {pid, "", {:exit_status, 3}} = collect(ps)
      refute runs?(pid |> String.trim() |> String.to_integer())
    end

    test "are waited for where that was asked, with what they say" do
      # A shell gives its background jobs /dev/null.
      script = "exec 3<&0; (read line <&3; echo got $line) & echo first; exit 3"
      ps = sh(script, on_exit: :wait)
      assert_receive {^ps, {:data, "first\n"}}
      eventually("the program has ended", fn -> ProtonStream.os_pid(ps) == nil end)
      refute_received {:EXIT, ^ps, _}
      ProtonStream.command(ps, "later\n")
      assert {"got later\n", "", {:exit_status, 3}} = collect(ps)
    end

    test "that are waited for end with a close" do
      ps = sh("trap '' TERM; sleep 1000 & echo $!; exit 0", on_exit: :wait, delay_to_sigkill: 50)
      assert_receive {^ps, {:data, pid}}
      ProtonStream.close(ps)
      assert_receive {^ps, :closed}
      refute runs?(pid |> String.trim() |> String.to_integer())
    end
  end

  describe "in a PID namespace" do
    @opts [containment: :pid_namespace]

    test "a program sees itself as the second process, and others see it as any" do
      ps = sh("echo $$ $PPID; exec cat", @opts)
      assert_receive {^ps, {:data, "2 1\n"}}
      assert %{level: :pid_namespace, os_pid: os_pid} = ProtonStream.info(ps)
      ProtonStream.command(ps, "hello\n")
      assert_receive {^ps, {:data, "hello\n"}}
      assert File.read!("/proc/#{os_pid}/comm") == "cat\n"
      ProtonStream.close(ps)
      assert_receive {^ps, :closed}
      refute runs?(os_pid)
    end

    test "a status and a signal are told as such" do
      assert {"", "", {:exit_status, 200}} = "exit 200" |> sh(@opts) |> collect()
      assert {"", "", {:signal, 9}} = "kill -9 $$" |> sh(@opts) |> collect()
      assert ProtonStream.open("no-such-program", [], @opts) == {:error, :enoent}
    end

    # row: 13
    test "nobody survives a guardian that is killed" do
      tag = "PROTON_STREAM_TEST=#{System.unique_integer()}-#{System.pid()}"
      [key, value] = String.split(tag, "=")

      script = """
      setsid sh -c 'trap "" TERM HUP; while :; do sleep 9; done' & trap '' TERM HUP
      echo; while :; do sleep 9; done
      """

      ps = sh(script, @opts ++ [env: %{key => value}])
      assert_receive {^ps, {:data, "\n"}}
      eventually("all are there", fn -> length(tagged(tag)) >= 4 end)
      OtherVM.kill(guardian(ps))
      assert_receive {:EXIT, ^ps, {:guardian, {:signal, 9}}}
      eventually("nobody is left", fn -> tagged(tag) == [] end)
    end
  end

  describe "without privilege" do
    # Root of a user namespace, without a capability, in which there can be no other.
    @without ["unshare", "--user", "--map-root-user", "sh", "-c"] ++
               [
                 "echo 0 > /proc/sys/user/max_user_namespaces && " <>
                   "exec setpriv --bounding-set -all --inh-caps -all -- \"$@\"",
                 "sh"
               ]

    @tag :root
    test "what takes it is refused in words and starts nothing, and all else is as ever" do
      script = ~S"""
      {:ok, ps} = ProtonStream.open("cat", [])
      level = ProtonStream.info(ps).level
      ProtonStream.close(ps)
      marker = Path.join(System.tmp_dir!(), "proton_stream_test_#{System.pid()}_ran")

      refused =
        for opts <- [
              [containment: :pid_namespace],
              [containment: :pid_namespace, uid: "nobody"],
              [uid: "nobody"],
              [gid: "nogroup"],
              [groups: ["nogroup"]],
              [nice: -5],
              [oom_score_adj: -500],
              [rlimits: [nofile: 4_000_000_000]]
            ],
            do: ProtonStream.open("touch", [marker], opts)

      tell.({level, refused, File.exists?(marker)})
      System.halt(0)
      """

      {port, _} = OtherVM.start(script, %{}, @without)
      assert {:tree, refused, false} = OtherVM.told(port)

      assert [
               error: {:containment, "user namespace", :enospc},
               error: {:specification, sentence},
               error: {:groups, :eperm},
               error: {:groups, :eperm},
               error: {:groups, :eperm},
               error: {:process, "nice", nice},
               error: {:process, "oom_score_adj", :eacces},
               error: {:process, "rlimit nofile", :eperm}
             ] = refused

      assert sentence =~ "can't become another user or group"
      assert nice in [:eacces, :eperm]
    end
  end

  test "the doctor tells what this host has" do
    assert {:ok, report} = ProtonStream.doctor()
    assert report =~ "proton-guardian #{Mix.Project.config()[:version]}"
    for name <- ~w(kernel subreaper pid_namespace cgroups), do: assert(report =~ "\n#{name}")
  end
end
