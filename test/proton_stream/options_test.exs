# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.OptionsTest do
  use ExUnit.Case, async: true

  alias ProtonStream.Options

  doctest Options

  defp validate(opts, context \\ :stream), do: Options.validate(context, "cat", [], opts)

  test "command and arguments are always there, options only when given" do
    assert Options.validate(:stream, "cat", ["-u"], []) == %{command: "cat", args: ["-u"]}
  end

  test "every option is taken" do
    opts = [
      cd: "/",
      env: %{"A" => "1"},
      arg0: "dog",
      uid: "nobody",
      gid: 0,
      cgroup_controllers: ["memory", "cpu"],
      cgroup_base: "mine/runs",
      cgroup_sets: [{"memory", "memory.limit_in_bytes", "1"}],
      delay_to_sigkill: 0,
      stdio_window: 1,
      stderr_to_stdout: true,
      capture_stderr_only: false,
      parallelism: true,
      start_timeout: :infinity,
      exit_status: true,
      exit_report: true,
      umask: 0o27,
      nice: -20,
      oom_score_adj: 1000,
      no_new_privs: true,
      on_exit: :wait,
      containment: :pid_namespace
    ]

    options = validate(opts)
    for {name, value} <- Keyword.delete(opts, :env), do: assert(options[name] == value)
    assert options.env == [{"A", "1"}]
  end

  test "the environment is any enumerable, its keys binaries or charlists" do
    assert validate(env: [{"A", "1"}, {~c"B", nil}]).env == [{"A", "1"}, {"B", nil}]
    assert validate(env: Stream.map(["A"], &{&1, "1"})).env == [{"A", "1"}]
  end

  test "what the protocol has in other words is turned into those" do
    assert validate(groups: ["adm", 27]).groups == ["adm", "27"]

    assert validate(rlimits: [nofile: 64, core: {0, :infinity}]).rlimits ==
             [{"nofile", 64, 64}, {"core", 0, :unlimited}]

    limits = [
      memory: 268_435_456,
      memory_high: "200M",
      swap: 0,
      cpu: 2,
      cpu_weight: 50,
      io_weight: 10_000,
      cpus: "0-3,7",
      mems: "0",
      pids: :infinity
    ]

    assert validate(limits: limits).limits == [
             {"memory", "268435456"},
             {"memory_high", "200M"},
             {"swap", "0"},
             {"cpu", "2.0"},
             {"cpu_weight", "50"},
             {"io_weight", "10000"},
             {"cpus", "0-3,7"},
             {"mems", "0"},
             {"pids", "max"}
           ]

    for {cpu, text} <- [{0.5, "0.5"}, {0.01, "0.01"}, {1.3333333, "1.333333"}, {1.0e3, "1000.0"}],
        do: assert(validate(limits: [cpu: cpu]).limits == [{"cpu", text}])
  end

  test "a group with limits needs no controllers" do
    assert validate(cgroup_base: "mine", limits: [pids: 5]).cgroup_base == "mine"
  end

  test "bytes that are not UTF-8 are taken" do
    assert Options.validate(:stream, <<0xFF>>, [<<0xFE>>], env: [{<<0xFD>>, <<0xFC>>}])
  end

  test "the first of equal options counts" do
    assert validate(cd: "/a", cd: "/b").cd == "/a"
  end

  test "a name is for start_link/5 only" do
    assert validate([name: Here], :worker).name == Here
    assert validate([name: {:global, :here}], :worker)

    assert_raise ArgumentError, ~r/option :name is for start_link\/5/, fn ->
      validate(name: Here)
    end
  end

  test "messages to an owner are for open/3 only" do
    for option <- [:exit_status, :exit_report] do
      assert_raise ArgumentError, ~r/option #{inspect(option)} is for open\/3/, fn ->
        validate([{option, true}], :worker)
      end
    end
  end

  test "an unknown option is named beside those that are allowed" do
    assert_raise ArgumentError, ~r/unknown option :dir with value "\/".*:cd, :env/, fn ->
      validate(dir: "/")
    end
  end

  # row: 9
  for {title, command, args} <- [
        {"an empty command", "", []},
        {"a command with NUL", "ca\0t", []},
        {"a command that is a charlist", ~c"cat", []},
        {"an argument with NUL", "cat", ["a\0b"]},
        {"an argument that is an integer", "cat", [1]},
        {"arguments that are no list", "cat", "a"},
        {"arguments that are an improper list", "cat", ["a" | "b"]}
      ] do
    @tag command: command, args: args
    test "#{title} raises", %{command: command, args: args} do
      assert_raise ArgumentError, ~r/allowed is/, fn ->
        Options.validate(:stream, command, args, [])
      end
    end
  end

  # row: 9
  for {option, values} <- [
        cd: ["", "a\0", ~c"/", nil],
        env: [
          1,
          :none,
          [1],
          %{"" => "1"},
          %{"A=B" => "1"},
          %{"A\0" => "1"},
          %{"A" => "1\0"},
          %{"A" => 1},
          %{A: "1"}
        ],
        arg0: ["", "a\0", :dog],
        uid: [-1, 4_294_967_295, "", "a\0", :nobody, 1.0],
        gid: [-1, 4_294_967_295, "", "a\0", nil],
        cgroup_controllers: ["memory", [:memory], [""], ["a/b"]],
        cgroup_base: ["", "/mine", "../mine", "a/../b", "a\0", ~c"a"],
        cgroup_path: ["", "/mine", "a/.."],
        cgroup_sets: [
          [{"cpu", "cpu.shares"}],
          [{"cpu", "../cpu.shares", "1"}],
          [{"cpu", "x", 1}],
          %{}
        ],
        delay_to_sigkill: [-1, 1.5, :infinity, 4_294_967_296],
        stdio_window: [0, -1, 67_108_865, "1"],
        stderr_to_stdout: [nil, 1],
        capture_stderr_only: ["true"],
        parallelism: [:yes],
        start_timeout: [0, -1, nil],
        exit_status: [1],
        exit_report: [nil],
        groups: ["adm", [""], [-1], [:adm], ["a\0"]],
        umask: [-1, 0o1000, "022"],
        nice: [-21, 20, 1.5],
        rlimits: [
          [nofiles: 1],
          [nofile: -1],
          [nofile: "1"],
          [nofile: {1, 2, 3}],
          [nofile: {1, nil}],
          [{"nofile", 1}],
          %{nofile: 1},
          [nofile: 18_446_744_073_709_551_615]
        ],
        oom_score_adj: [-1001, 1001, nil],
        no_new_privs: [nil, 1],
        on_exit: [:kill, true],
        containment: [:tree, true, nil],
        limits: [
          [],
          [memmory: 1],
          [memory: -1],
          [memory: "1.5G"],
          [memory: "1 G"],
          [memory: :max],
          [cpu: 0],
          [cpu: 0.001],
          [cpu: "1"],
          [cpu: 100_001],
          [cpu_weight: 0],
          [io_weight: 10_001],
          [cpu_weight: :infinity],
          [pids: 0],
          [pids: "5"],
          [cpus: 0],
          [cpus: "a"],
          [cpus: "0,"],
          [mems: "0-"],
          [{"memory", 1}],
          %{memory: 1}
        ]
      ],
      value <- values do
    @tag option: option, value: value
    test "option #{option} is not #{inspect(value)}", %{option: option, value: value} do
      error = assert_raise ArgumentError, fn -> validate([{option, value}]) end
      assert error.message =~ "option #{inspect(option)} is #{inspect(value)}, allowed is "
    end
  end

  test "option env is not a function of one argument" do
    assert_raise ArgumentError, ~r/option :env is/, fn -> validate(env: &is_nil/1) end
  end

  for {title, opts} <- [
        {"stderr to stdout and stderr alone",
         [stderr_to_stdout: true, capture_stderr_only: true]},
        {"a cgroup's base and its path",
         [cgroup_controllers: ["cpu"], cgroup_base: "a", cgroup_path: "b"]},
        {"a cgroup without controllers", [cgroup_base: "a"]},
        {"controllers without a cgroup", [cgroup_controllers: ["cpu"]]},
        {"settings without controllers", [cgroup_sets: [{"cpu", "cpu.shares", "1"}]]},
        {"a setting of another controller",
         [
           cgroup_controllers: ["cpu"],
           cgroup_base: "a",
           cgroup_sets: [{"memory", "memory.limit_in_bytes", "1"}]
         ]}
      ] do
    @tag opts: opts
    test "#{title} can't hold together", %{opts: opts} do
      assert_raise ArgumentError, fn -> validate(opts) end
    end
  end

  test "options that are no keyword list raise" do
    for opts <- [%{cd: "/"}, ["cd"], nil, [{"cd", "/"}]] do
      assert_raise ArgumentError, ~r/allowed is a keyword list/, fn -> validate(opts) end
    end
  end

  test "every option is documented where it is allowed" do
    assert Options.docs(:stream) =~ "`:exit_status`"
    refute Options.docs(:stream) =~ "`:name`"
    assert Options.docs(:worker) =~ "`:name`"
    refute Options.docs(:worker) =~ "`:exit_status`"
  end
end
