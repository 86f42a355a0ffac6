# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Options do
  @moduledoc """
  Checks what `ProtonStream.open/3` and `ProtonStream.start_link/5` are given.

  Both call `validate/4` in the process that calls them, before anything is started, so
  a mistake is an `ArgumentError` where it was made: it names the option, the value, and
  what is allowed. Call it yourself to look at options without running a command:

      iex> ProtonStream.Options.validate(:stream, "sleep", ["1"], uid: "nobody")
      %{command: "sleep", args: ["1"], uid: "nobody"}

      iex> ProtonStream.Options.validate(:stream, "sleep", ["1"], delay_to_sigkill: -1)
      ** (ArgumentError) option :delay_to_sigkill is -1, allowed is an integer from 0 to 2147483647

  What can only be known on the machine, such as whether a user exists, is not looked at
  here; it comes back as `{:error, reason}` from the call that starts the program.
  """

  alias ProtonStream.Options.Check

  @typedoc """
  The checked options.

  `:command` and `:args` are always there. The others are present when they were given:
  `:cd`, `:env` (as a list of pairs of binaries, `nil` for a variable that is removed),
  `:arg0`, `:uid`, `:gid`, `:groups`, `:umask`, `:nice`, `:rlimits` and `:limits` (as the
  protocol has them), `:oom_score_adj`, `:no_new_privs`, `:on_exit`, `:containment`,
  `:cgroup_controllers`, `:cgroup_base`, `:cgroup_path`,
  `:cgroup_sets`, `:delay_to_sigkill`, `:stdio_window`, `:active`, `:overflow`,
  `:stdin_limit`, `:line`, `:packet`, `:stderr_to_stdout`,
  `:capture_stderr_only`, `:parallelism`, `:transport`, `:start_timeout`, `:exit_status` and
  `:exit_report`.
  """
  @type t() :: map()

  @typedoc "`:stream` is `ProtonStream.open/3`, `:worker` is `ProtonStream.start_link/5`."
  @type context() :: :stream | :worker

  # Option, where it is taken, how it is checked, and its documentation.
  @schema [
    {:cd, :both, :path,
     "directory in which the program runs; a relative one counts from the VM's own. " <>
       "A relative command with a `/` in it, such as `./run`, is looked up there"},
    {:env, :both, :env,
     "variables as an enumerable of `{key, value}`, both binaries. They are added to the " <>
       "VM's own environment as it is at the call; the value `nil` removes one"},
    {:arg0, :both, :string, "name that the program sees as its own, in place of the command"},
    {:uid, :both, :id,
     "user to run as: a name, or a number as an integer or in decimal digits. The program " <>
       "gets that user's groups, and `HOME`, `USER` and `LOGNAME` unless `:env` has them"},
    {:gid, :both, :id, "group to run as, in place of the user's own: name or number"},
    {:groups, :both, :ids,
     "supplementary groups, names or numbers, in place of the user's own; `[]` is none"},
    {:umask, :both, {:integer, 0, 0o777}, "mask of the modes of files that the program makes"},
    {:nice, :both, {:integer, -20, 19}, "nice value of the program, the VM's by default"},
    {:rlimits, :both, :rlimits,
     "resource limits by their names in getrlimit(2), such as `[nofile: 1024, core: {0, " <>
       ":infinity}]`, where one value is the soft and the hard limit. Units are the kernel's"},
    {:oom_score_adj, :both, {:integer, -1000, 1000},
     "how soon the OOM killer takes the program: 1000 is first, -1000 never"},
    {:no_new_privs, :both, :boolean,
     "whether setuid programs and file capabilities give the program and its descendants no " <>
       "privileges (default `false`)"},
    {:on_exit, :both, {:one_of, [:kill_tree, :wait]},
     "what becomes of descendants that still run when the program has exited: `:kill_tree` " <>
       "ends them (the default), `:wait` delivers what they say and tells the end when the last " <>
       "of them has ended"},
    {:containment, :both, {:one_of, [:pid_namespace]},
     "`:pid_namespace` runs the program in a PID namespace, in which it sees only its own " <>
       "processes, itself as number 2. The kernel kills all of it when the program, the guardian " <>
       "or both are gone. Where the kernel makes none the start fails. Without root it can't go " <>
       "with `:uid`, `:gid` or `:groups`"},
    {:limits, :both, :limits,
     "limits of memory, CPU and processes in portable units, the same on cgroup v1 and v2: see " <>
       "\"cgroups\" above. They need `:cgroup_base` or `:cgroup_path`, or neither where the " <>
       "VM's own cgroup is delegated to it"},
    {:cgroup_controllers, :both, :controllers,
     "names of the cgroup controllers to run under, as a list"},
    {:cgroup_base, :both, :group,
     "cgroup, below the controllers' mounts, in which a new group is made for this run " <>
       "and removed afterwards"},
    {:cgroup_path, :both, :group, "cgroup to run in, below the controllers' mounts"},
    {:cgroup_sets, :both, :settings,
     "list of `{controller, file, value}`, written before the program runs; a value that " <>
       "the kernel does not take fails the start"},
    {:delay_to_sigkill, :both, {:integer, 0, 2_147_483_647},
     "milliseconds between SIGTERM and SIGKILL when the program is ended (default 500)"},
    {:stdio_window, :both, {:window, 1, 67_108_864},
     "bytes of stdout, and as many of stderr, that may wait unread (default 10,240), or " <>
       "`[stdout: bytes, stderr: bytes]`. Each message counts as 128 bytes more than it " <>
       "carries, and what waits longer comes in one. An owner with 1,000 or more messages " <>
       "of others in its mailbox may hold 56 KiB beyond both windows. Before a program is " <>
       "blocked in its write, the session holds up to 256 KiB more of each stream, or a window if that is " <>
       "larger, and the pipe what it can. A callback gets no more than this at a time"},
    {:active, :stream, :active,
     "messages that may be sent before more are asked for with `set_active/2` (default " <>
       "`true`: all), counting stdout and stderr together. `:once` is one; `false` none, " <>
       "for `read/2`. The end is told only when the stream is active, or read to its end"},
    {:overflow, :stream, {:one_of, [:block, :drop]},
     "`:drop` never blocks a program whose output is not read: what comes when 256 KiB of a " <>
       "stream, or a window if that is larger, wait in the session is thrown away, and the " <>
       "owner gets `{ps, {:dropped, {:stdout | :stderr, bytes}}}` in its place, when it has " <>
       "read what came before (default `:block`)"},
    {:stdin_limit, :both, {:integer, 1, 1_099_511_627_776},
     "bytes for stdin that may be queued because the program does not take them (default " <>
       "67,108,864). A `command/2` past it ends the program with the reason " <>
       "`{:stdin_overflow, bytes}`, since a byte that is lost unnoticed is worse; a " <>
       "`write/3` is refused"},
    {:line, :both, {:integer, 1, 67_108_864},
     "bytes of the longest line. Output comes as `{:eol, line}` without its newline (`\\n` or `\\r\\n`); of a " <>
       "longer line, and of one that the end cuts short, the parts are `{:noeol, part}`. A " <>
       "window smaller than this counts as this large"},
    {:packet, :both, {:one_of, [1, 2, 4]},
     "bytes of the big-endian length before each packet, as in `Port.open/2`: added to what " <>
       "is sent to stdin, taken off what comes from stdout. stderr is not cut. A packet of " <>
       "stdout larger than its window, and one for stdin that has no such length, ends the " <>
       "program with the reason `{:packet_too_large, bytes}`. What follows the last whole " <>
       "packet is thrown away"},
    {:stderr_to_stdout, :both, :boolean, "sends stderr where stdout goes (default `false`)"},
    {:capture_stderr_only, :both, :boolean,
     "delivers stderr and throws stdout away (default `false`)"},
    {:parallelism, :both, :boolean,
     "schedules the port for throughput rather than latency, as in `Port.open/2` " <>
       "(default `false`)"},
    {:transport, :both, {:one_of, [:nursery, :port]},
     "how the guardian is started and reached: `:nursery` has it forked by the VM's nursery and " <>
       "talks over a local socket (the default), `:port` starts it as a port program. Where there " <>
       "is no nursery, and with `parallelism: true`, it is a port program, too; `info/1` tells"},
    {:start_timeout, :both, :timeout,
     "milliseconds that the start may take, or `:infinity` (default 5,000); then " <>
       "`{:error, :timeout}`"},
    {:exit_status, :stream, :boolean,
     "sends the owner `{ps, {:exit_status, status}}` when the program has ended by itself, " <>
       "128 + n for signal n as with `Port` (default `false`)"},
    {:exit_report, :stream, :boolean,
     "sends the owner `{ps, {:exit_report, map}}` at the end (default `false`)"},
    {:name, :worker, :name, "name to register the process under, as in `GenServer.start_link/3`"}
  ]

  @doc """
  Checks a command, its arguments and options, and returns them as a map.

  Raises `ArgumentError` for what is not allowed.
  """
  @spec validate(context(), binary(), [binary()], keyword()) :: t()
  def validate(context, command, args, opts) when context in [:stream, :worker] do
    %{command: command!(command), args: args!(args)}
    |> Map.merge(options!(context, opts))
    |> together!()
  end

  @doc false
  @spec docs(context()) :: String.t()
  def docs(context) do
    for {name, where, check, doc} <- @schema, where in [:both, context], into: "" do
      "  * `#{inspect(name)}` - #{doc}. Allowed is #{Check.allowed(check)}.\n"
    end
  end

  defp command!(command) do
    case Check.run(:string, command) do
      {:ok, command} ->
        command

      :error ->
        raise ArgumentError,
              "the command is #{inspect(command)}, allowed is #{Check.allowed(:string)}"
    end
  end

  defp args!(args) do
    case Check.run(:args, args) do
      {:ok, args} ->
        args

      {:error, arg} ->
        raise ArgumentError,
              "an argument of the command is #{inspect(arg)}, allowed is a binary without NUL"

      :error ->
        raise ArgumentError,
              "the command's arguments are #{inspect(args)}, allowed is a list of binaries"
    end
  end

  defp options!(context, opts) do
    unless Keyword.keyword?(opts),
      do: raise(ArgumentError, "the options are #{inspect(opts)}, allowed is a keyword list")

    # As with `Keyword.get/2`, the first of equal keys counts.
    for {name, value} <- Enum.reverse(opts), into: %{}, do: {name, option!(context, name, value)}
  end

  defp option!(context, name, value) do
    case List.keyfind(@schema, name, 0) do
      {_, where, check, _} when where in [:both, context] ->
        case Check.run(check, value) do
          {:ok, value} ->
            value

          :error ->
            raise ArgumentError,
                  "option #{inspect(name)} is #{inspect(value)}, " <>
                    "allowed is #{Check.allowed(check)}"
        end

      {_, _, _, _} ->
        raise ArgumentError, "option #{inspect(name)} is #{other(context)}"

      nil ->
        allowed = for {option, where, _, _} <- @schema, where in [:both, context], do: option

        raise ArgumentError,
              "unknown option #{inspect(name)} with value #{inspect(value)}, " <>
                "allowed are #{Enum.map_join(allowed, ", ", &inspect/1)}"
    end
  end

  defp other(:stream), do: "for start_link/5, not for open/3"
  defp other(:worker), do: "for open/3, not for a callback module"

  @doc """
  The limits of `ProtonStream.update_limits/2`, checked as the option `:limits` is.

      iex> ProtonStream.Options.limits!(memory: "256M", cpu: 0.5)
      [{"memory", "256M"}, {"cpu", "0.5"}]
  """
  @spec limits!(keyword()) :: [{binary(), binary()}]
  def limits!(limits), do: option!(:stream, :limits, limits)

  # Options that are right by themselves and can't hold together.
  defp together!(options) do
    refuse = fn sentence -> raise ArgumentError, sentence end
    grouped? = Map.has_key?(options, :cgroup_base) or Map.has_key?(options, :cgroup_path)
    controllers = Map.get(options, :cgroup_controllers, [])

    if options[:stderr_to_stdout] && options[:capture_stderr_only] do
      refuse.("options :stderr_to_stdout and :capture_stderr_only can't both be true")
    end

    if options[:line] && options[:packet] do
      refuse.("options :line and :packet can't be given together")
    end

    if options[:packet] && options[:stderr_to_stdout] do
      refuse.("options :packet and :stderr_to_stdout can't be given together: no packets there")
    end

    if options[:packet] && options[:overflow] == :drop do
      refuse.("option :packet can't hold with overflow: :drop, which would cut packets in two")
    end

    if Map.has_key?(options, :cgroup_base) and Map.has_key?(options, :cgroup_path) do
      refuse.(
        "options :cgroup_base (#{inspect(options.cgroup_base)}) and :cgroup_path " <>
          "(#{inspect(options.cgroup_path)}) can't be given together"
      )
    end

    if grouped? and controllers == [] and not Map.has_key?(options, :limits) do
      refuse.(
        "option :cgroup_base or :cgroup_path needs :limits, or :cgroup_controllers, which lists none"
      )
    end

    if controllers != [] and not grouped? do
      refuse.(
        "option :cgroup_controllers is #{inspect(controllers)}, which needs :cgroup_base or " <>
          ":cgroup_path"
      )
    end

    for {controller, file, _} <- Map.get(options, :cgroup_sets, []),
        controller not in controllers do
      refuse.(
        "option :cgroup_sets has #{inspect(file)} of controller #{inspect(controller)}, " <>
          "allowed are those in :cgroup_controllers: #{inspect(controllers)}"
      )
    end

    options
  end
end
