# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

# One file: the public API is one module, and most of these lines are its documentation.

defmodule ProtonStream do
  @moduledoc """
  Runs operating-system programs, streams what they say, and leaves nothing behind.

  A program is started by `open/3`, for a process that wants messages as from a `Port`, or
  by `start_link/5`, for a module that wants callbacks and a place under a supervisor.
  Either way one Elixir process, the *session*, stands for one program, and a small helper
  outside of the VM, the *guardian*, keeps that program and what it has started. Linux only.

  ## Lifecycle

      iex> {:ok, ps} = ProtonStream.open("cat", [])
      iex> send(ps, {self(), {:command, "hello"}})
      iex> receive do {^ps, {:data, data}} -> data end
      "hello"
      iex> send(ps, {self(), :close})
      iex> receive do {^ps, :closed} -> Process.alive?(ps) end
      false

  `open/3` returns when the program runs. One that could not be started is an error there,
  with the step and the system's own name for what was wrong:

      iex> ProtonStream.open("no-such-program", [])
      {:error, :enoent}
      iex> ProtonStream.open("cat", [], cd: "/no/such/directory")
      {:error, {:cd, :enoent}}

  | error | what failed |
  | --- | --- |
  | `:enoent`, `:eacces`, `:enoexec`, `:e2big`, ... | executing the program |
  | `{:cd, :enoent}` | entering the directory |
  | `{:uid, {:unknown, name}}`, `{:uid, :eperm}` | the user; likewise `:gid` and `:groups` |
  | `{:cgroup, path_or_file, :eacces}`, `{:cgroup, file, :refused}` | the cgroup; a refused value is one that the kernel did not keep |
  | `{:containment, what, :eperm}` | the PID namespace |
  | `{:fork, :eagain}`, `{:stdio, :emfile}`, `{:process, attribute, :eperm}` | the new process |
  | `{:specification, sentence}` | what was asked for can't be done |
  | `{:guardian, reason}` | the guardian: missing, of another version, dead |
  | `:timeout` | all of it took longer than `:start_timeout` |

  Options that can't be right raise `ArgumentError` before anything is started.

  When the program ends by itself, all that it wrote is delivered first, however long that
  takes its reader. What it left running is killed. Then its end is told, once:

  | reason | |
  | --- | --- |
  | `:normal` | exit status 0, or it was closed |
  | `{:exit_status, n}` | any other exit status |
  | `{:signal, n}` | killed by signal n |
  | `{:stdin_overflow, bytes}` | more was queued for stdin than `:stdin_limit`, and it was closed |
  | `{:packet_too_large, bytes}` | a packet did not fit, with `:packet`, and it was closed |
  | `{:guardian, why}` | the guardian died, or could not be understood; the program is dead. `:epipe` is a death that was noticed by writing to it, of which a port does not say more |
  | `{:survivors, reason, os_pids}` | as `reason`, but these could not be killed in time |

  ## Ownership

  The process that calls `open/3` is the *owner*. The session is linked to it and obeys it
  alone; messages of others change nothing.

  | the owner sends | or calls | |
  | --- | --- | --- |
  | `{self(), {:command, iodata}}` | `command/2` | bytes for stdin |
  | `{self(), :eof}` | `eof/1` | end of stdin, after all bytes before it |
  | `{self(), {:signal, signal}}` | `signal/2` | a signal for the program |
  | `{self(), {:signal, signal, :tree}}` | `signal/3` | a signal for it and its descendants |
  | `{self(), {:active, mode}}` | `set_active/2` | how much output it wants |
  | `{self(), {:connect, pid}}` | `connect/2` | another process becomes the owner |
  | `{self(), :close}` | `close/1` | the end |

  | the owner receives | |
  | --- | --- |
  | `{ps, {:data, binary}}` | stdout |
  | `{ps, {:error, binary}}` | stderr |
  | `{ps, {:data, {:eol \| :noeol, line}}}` | with `line: bytes`; likewise `:error` |
  | `{ps, :passive}` | the number of messages given to `set_active/2` has come |
  | `{ps, {:dropped, {:stdout \| :stderr, bytes}}}` | with `overflow: :drop` |
  | `{ps, :connected}` | the answer to `:connect` |
  | `{ps, {:exit_status, n}}` | with `exit_status: true` |
  | `{ps, {:exit_report, map}}` | with `exit_report: true` |
  | `{:EXIT, ps, reason}` | if it traps exits and is still linked |
  | `{ps, :closed}` | the answer to `:close`: program and session are gone |

  An owner that does not trap exits hears nothing of the end, as with a `Port`; a monitor
  sees `:normal`, or `{:shutdown, reason}`. An owner that does not read is not flooded: of
  each stream it holds at most `:stdio_window` bytes, then the program has to wait. An
  owner on another node is not protected so: it asks for what it can take, with `active:
  :once` or a number and `set_active/2`, or pulls with `active: false` and `read/2`. So may
  any owner.

  ### Feeding a filter

  A program like `sort` or `cat` stops reading when nobody reads what it writes. An owner
  that waits for room in the program's stdin does not read meanwhile. There are three ways
  not to wait for oneself. `command/2` never waits, so for what fits into memory it is
  enough:

      iex> {:ok, ps} = ProtonStream.open("sort", [])
      iex> :ok = ProtonStream.command(ps, ["pear\\n", "apple\\n"])
      iex> :ok = ProtonStream.eof(ps)
      iex> receive do {^ps, {:data, data}} -> data end
      "apple\\npear\\n"

  `write/3` waits, which bounds memory. It is right for a program that is silent until
  `eof/1`, such as `sha256sum`, and for the callback module below, to which any process may
  write while its callbacks read.

  ## Termination

  The program and all that it started are ended when the owner ends, for whatever reason,
  when it closes, when the session is killed, and when the VM is, whether by `System.halt/1`
  or by SIGKILL. Ending is SIGTERM first and, after `:delay_to_sigkill`, SIGKILL; a program
  that was stopped is continued so that it can end. Unlinking a session does not change
  that: it watches its owner by a monitor as well.

  After a close nothing more is delivered, and what was not delivered is dropped.

  ## Callback modules

      defmodule Counter do
        use GenServer
        @behaviour ProtonStream

        def start_link(path),
          do: ProtonStream.start_link(__MODULE__, "tail", ["-f", path], :ok, name: __MODULE__)

        @impl GenServer
        def init(:ok), do: {:ok, 0}

        @impl ProtonStream
        def handle_stdout(data, bytes), do: {:noreply, bytes + byte_size(data)}

        @impl GenServer
        def handle_call(:bytes, _from, bytes), do: {:reply, bytes, bytes}
      end

  The module is a `GenServer` with up to three callbacks more. `c:GenServer.init/1` runs
  first and may return all that it may return elsewhere; then the program is started, and a
  start that fails is the error of `start_link/5`, with no further callback called. In
  `init/1`, `command(self(), data)` queues input for the program that is about to start.

  `c:handle_stdout/2` and `c:handle_stderr/2` get the output, a window at most at a time; without one, that stream is
  thrown away. **The program waits while they run**: its output stays in the pipe until the
  callback has returned. `c:handle_exit/2` gets the reason of the table above and names the
  one with which the process stops. It is used as it is, so a `:transient` child is started
  again after `{:exit_status, 1}`, and `GenServer` logs it; `{:shutdown, reason}` is the way
  to be silent. Without the callback the process stops with the reason itself.

  Any process may send the four requests `{pid, {:command, iodata}}`, `{pid, :eof}`,
  `{pid, {:signal, signal}}` (or with `:tree`) and `{pid, :close}` of the table above. What
  only looks like one, because it has no pid, no iodata or no known signal, goes to
  `handle_info/2` like every other message. So does `{pid, {:connect, pid}}`: nobody owns
  the stream of a callback module. Calls and messages with `:"$proton_stream"` as their
  first element are the library's.

  The session traps exits for its own sake. A module that has set `:trap_exit` itself in
  `init/1` gets `{:EXIT, pid, reason}` in `handle_info/2`. One that has not ends, without
  `terminate/2`, with the reason of a linked process that ended abnormally. A timeout that a
  callback has set is not ended by the library's own messages. `terminate/2` runs while the
  program still does, also when a supervisor ends a module that does not trap exits; then
  the program is ended and waited for.

  ## cgroups

  `:limits` bounds what the program and all that it starts may use, the same on cgroup v1 and
  v2:

      ProtonStream.open("hungry", [],
        limits: [memory: "256M", cpu: 0.5, pids: 100],
        cgroup_base: "mine"
      )

  | limit | value |
  | --- | --- |
  | `:memory`, `:swap` | bytes, as an integer or as `"256M"` |
  | `:memory_high` | bytes from which on it is slowed down and reclaimed from; v2 only |
  | `:cpu` | CPUs, such as 0.5 or 2 |
  | `:cpu_weight`, `:io_weight` | 1 to 10,000, where 100 is what others have |
  | `:cpus`, `:mems` | a list of CPUs or memory nodes, such as `"0-3,7"` |
  | `:pids` | processes and threads |

  `:infinity` is no limit. With `:cgroup_base` a new group is made for each run below it and
  removed afterwards. Without it the group is made in the VM's own one, if that is delegated to
  it: in a service with `Delegate=yes`, in a user's session, in a container. On v2 the processes
  that are there, the VM among them, are moved into a group beside it first, because a group
  with processes can't have limited groups inside. Where it isn't delegated the start fails and
  says what to do. A limit that the kernel does not keep fails the start, too.

  With `:cgroup_path` the limits are on that group, and the program runs in a group inside. A
  start on the path of a run that is ending waits for it; one that is occupied otherwise is
  `{:error, {:cgroup, path, :ebusy}}`.

  `:cgroup_controllers` and `:cgroup_sets` say the same in the kernel's own words, those of v1
  or of v2, which are translated where there is a counterpart:

      ProtonStream.open("hungry", [],
        cgroup_controllers: ["memory"],
        cgroup_base: "mine",
        cgroup_sets: [{"memory", "memory.limit_in_bytes", "268435456"}]
      )

  `stats/1` tells what a group has used, `update_limits/2` changes its limits while the program
  runs, `freeze/1` and `thaw/1` stop it and let it go on. `doctor/0` tells what this host has.

  ## Levels of containment

  | `info(ps).level` | | when the guardian is killed, too |
  | --- | --- | --- |
  | `:tree` | every descendant is found and ended | the program dies; descendants may live on |
  | `:cgroup` | as above, and whatever is in the group | as above; then the session, or the next start, kills what is in the group |
  | `:pid_namespace` | the kernel kills all, with `containment: :pid_namespace` | the kernel kills all |
  """

  alias ProtonStream.Guardian
  alias ProtonStream.Herald
  alias ProtonStream.Options
  alias ProtonStream.Run
  alias ProtonStream.Session
  alias ProtonStream.Signal

  @typedoc """
  What `:sys.get_state/1` and a status report show of a session.

  `owner` is the session itself where it has a callback module, and `state` is that
  module's state. `port` is nil once the program has ended.
  """
  @type t() :: %ProtonStream{
          args: [binary()],
          buffer: binary(),
          cgroup_path: binary() | nil,
          command: binary(),
          owner: pid(),
          port: port() | nil,
          state: term()
        }

  @enforce_keys [:command, :args, :owner]
  defstruct [:command, :args, :owner, :port, :cgroup_path, :state, buffer: ""]

  @typedoc "A session: its pid, or the name that it is registered under."
  @type server() :: GenServer.server()

  @typedoc "Bytes as they came, a packet with `:packet`, a line or a part of one with `:line`."
  @type output() :: binary() | {:eol | :noeol, binary()}

  @typedoc "A signal by name (`:sigterm` or `:term`) or by number."
  @type signal() :: atom() | 1..64

  @doc """
  Called with what the program wrote to stdout, as it comes: chunks are not lines, unless
  the option `:line` makes them so. None is larger than `:stdio_window`.

  While it runs the program's output has to wait.
  """
  @callback handle_stdout(data :: output(), state :: term()) ::
              {:noreply, new_state :: term()}
              | {:noreply, new_state :: term(), timeout() | :hibernate | {:continue, term()}}
              | {:stop, reason :: term(), new_state :: term()}

  @doc "As `c:handle_stdout/2`, for stderr."
  @callback handle_stderr(data :: output(), state :: term()) ::
              {:noreply, new_state :: term()}
              | {:noreply, new_state :: term(), timeout() | :hibernate | {:continue, term()}}
              | {:stop, reason :: term(), new_state :: term()}

  @doc """
  Called once, when the program is dead and all of its output was given to the callbacks.

  `info(self())` has the report of the end under `:exit`.
  """
  @callback handle_exit(reason :: term(), state :: term()) ::
              {:stop, reason :: term(), new_state :: term()}

  @optional_callbacks handle_stdout: 2, handle_stderr: 2, handle_exit: 2

  @doc """
  Starts a program whose owner is the calling process.

  The command is a path if it has a `/` in it, else it is looked up in the `PATH` that the
  program will see. No shell is involved. The program sees the VM's environment and working
  directory as they are now, byte for byte.

  On an error the caller is unharmed, whether it traps exits or not, and gets no message.

  ## Options

  #{Options.docs(:stream)}
  ## Examples

      iex> {:ok, ps} = ProtonStream.open("sh", ["-c", "echo $GREETING; exit 3"],
      ...>   env: %{"GREETING" => "hi"}, exit_status: true)
      iex> receive do {^ps, {:data, data}} -> data end
      "hi\\n"
      iex> receive do {^ps, {:exit_status, status}} -> status end
      3
  """
  @spec open(binary(), [binary()], keyword()) :: GenServer.on_start()
  def open(command, args, opts \\ []) do
    :stream |> Options.validate(command, args, opts) |> Session.start(self())
  end

  @doc """
  Starts a program and a linked process in which `module` handles what it says.

  See "Callback modules" above. `init_arg` goes to `init/1`.

  ## Options

  #{Options.docs(:worker)}
  """
  @spec start_link(module(), binary(), [binary()], term(), keyword()) :: GenServer.on_start()
  def start_link(module, command, args, init_arg, opts \\ []) when is_atom(module) do
    options = Options.validate(:worker, command, args, opts)
    Session.start_link(module, init_arg, options)
  end

  @doc """
  A child specification, for a program that needs no `start_link` of its own.

      {ProtonStream, module: Counter, command: "tail", args: ["-f", path], init_arg: :ok}

  `:module` and `:command` must be there; `:args` is `[]` and `:init_arg` nil by default.
  `:id` (else the `:name`, else the module), `:restart` and `:shutdown` are the
  supervisor's; the others are options of `start_link/5`. The default shutdown leaves the
  program its `:delay_to_sigkill`.

  A session's own reports have neither arguments nor environment in them. A supervisor's
  show the child specification: with secrets in it, write a `start_link` that knows them
  and specify that.

      iex> ProtonStream.child_spec(module: Counter, command: "sleep", args: ["1"]).shutdown
      6500
  """
  @spec child_spec(keyword()) :: Supervisor.child_spec()
  def child_spec(opts) when is_list(opts) do
    {own, opts} = Keyword.split(opts, [:module, :command, :args, :init_arg])
    {supervisor, opts} = Keyword.split(opts, [:id, :restart, :shutdown])

    for key <- [:module, :command], not Keyword.has_key?(own, key) do
      raise ArgumentError, "a child specification of ProtonStream needs #{inspect(key)}"
    end

    args = Keyword.get(own, :args, [])
    options = Options.validate(:worker, own[:command], args, opts)

    %{
      id: Map.get(options, :name, own[:module]),
      start: {__MODULE__, :start_link, [own[:module], own[:command], args, own[:init_arg], opts]},
      type: :worker,
      modules: [own[:module]],
      shutdown: Session.shutdown(options)
    }
    |> Map.merge(Map.new(supervisor))
  end

  @doc """
  Sends bytes to the program's stdin; the same as `send(ps, {self(), {:command, data}})`.

  Never waits. Bytes that the program does not take yet are queued in the session; those
  after `eof/1`, or for a program that has closed its stdin or is gone, are dropped. Raises
  `ArgumentError` when `data` is not iodata.
  """
  @spec command(server(), iodata()) :: :ok
  def command(ps, data) do
    iodata!(data)
    tell(ps, {self(), {:command, data}})
  end

  @doc """
  Sends bytes to the program's stdin and waits until they are in its pipe.

    * `{:error, :epipe}` - the program has closed its stdin
    * `{:error, :closed}` - the program, or the session, is gone
    * `{:error, :eof}` - stdin was ended with `eof/1` before
    * `{:error, :not_owner}` - the caller is not the owner
    * `{:error, :stdin_limit}` - with what is queued it would be more than `:stdin_limit`;
      nothing was taken
    * `{:error, :einval}` - it is too long for the `:packet` header; nothing was taken
    * `{:error, :timeout}` - the bytes are still queued, and will still be written

  Not to be called on `self()` in a callback, which would wait for itself: it raises.
  """
  @spec write(server(), iodata(), timeout()) ::
          :ok
          | {:error, :epipe | :closed | :eof | :not_owner | :stdin_limit | :einval | :timeout}
  def write(ps, data, timeout \\ 5_000) do
    iodata!(data)
    timeout!(timeout)

    case GenServer.whereis(ps) do
      nil ->
        {:error, :closed}

      pid when pid == self() ->
        raise ArgumentError,
              "write/3 on self() would wait for the process that calls it; use command/2"

      server ->
        Session.write(server, data, timeout)
    end
  end

  @doc """
  Says how many messages of output the owner wants, as `:inet.setopts/2` does with `:active`.

  `true` is all of them, `:once` one, `false` none. A number from -32768 to 32767 is added
  to what is left of the last one, and counts stdout and stderr together. When none is left,
  the stream is passive and the owner gets `{ps, :passive}`; after `:once` it gets nothing.

  What has come meanwhile is sent at once, as far as it is asked for and `:stdio_window` has
  room. When `set_active(ps, false)` has returned, nothing more comes, though messages may be
  in the mailbox that came before. The same as `send(ps, {self(), {:active, mode}})`, which
  does not wait.

  The end of the program waits as its output does: a passive owner hears of neither until it
  asks. `close/1` does not wait, and throws away what was not asked for.

  For an owner on another node, whose mailbox nobody looks into, this is what bounds it:
  no more than the number asked for, and no message larger than the window.

      iex> {:ok, ps} = ProtonStream.open("echo", ["hello"], active: :once, exit_status: true)
      iex> receive do {^ps, {:data, data}} -> data end
      "hello\\n"
      iex> ProtonStream.set_active(ps, :once)
      iex> receive do {^ps, {:exit_status, status}} -> status end
      0
  """
  @spec set_active(server(), boolean() | :once | -32_768..32_767) ::
          :ok | {:error, :closed | :not_owner}
  def set_active(ps, mode) do
    unless mode in [true, false, :once] or (is_integer(mode) and mode in -32_768..32_767) do
      raise ArgumentError,
            "what set_active/2 takes is true, false, :once or a number from -32768 to 32767, got: " <>
              inspect(mode)
    end

    other(ps, "set_active/2", &Session.active(&1, mode))
  end

  @doc """
  Waits for output of a passive stream (`active: false`), at most `timeout` milliseconds.

  Of stdout and stderr that have both come, each gets its turn. A piece is no larger than
  `:stdio_window`.

    * `{:ok, {:stdout | :stderr, data}}` - with `:line`, data is `{:eol | :noeol, line}`
    * `{:ok, {:dropped, {:stdout | :stderr, bytes}}}` - with `overflow: :drop`
    * `:eof` - all was read, and no more will come. Only then is the end told
    * `{:error, :timeout}` - nothing has come; what comes later is for the next read
    * `{:error, :einval}` - the stream is active
    * `{:error, :closed}` - the session is gone, or was closed
    * `{:error, :not_owner}` - the caller is not the owner

  Not to be called on `self()` in a callback, which would wait for itself: it raises. A
  callback module has `c:handle_stdout/2`.

      iex> {:ok, ps} = ProtonStream.open("echo", ["hello"], active: false)
      iex> ProtonStream.read(ps)
      {:ok, {:stdout, "hello\\n"}}
      iex> ProtonStream.read(ps)
      :eof
  """
  @spec read(server(), timeout()) ::
          {:ok, {:stdout | :stderr, binary() | {:eol | :noeol, binary()}}}
          | {:ok, {:dropped, {:stdout | :stderr, pos_integer()}}}
          | :eof
          | {:error, :timeout | :einval | :closed | :not_owner}
  def read(ps, timeout \\ 5_000) do
    timeout!(timeout)
    other(ps, "read/2", &Session.read(&1, timeout))
  end

  defp other(ps, function, call) do
    case GenServer.whereis(ps) do
      nil ->
        {:error, :closed}

      pid when pid == self() ->
        raise ArgumentError, function <> " on self() would wait for the process that calls it"

      server ->
        call.(server)
    end
  end

  @doc """
  Ends the program's stdin after all bytes sent before; the same as
  `send(ps, {self(), :eof})`. Its output goes on.
  """
  @spec eof(server()) :: :ok
  def eof(ps), do: tell(ps, {self(), :eof})

  @doc """
  Sends the program a signal; the same as `send(ps, {self(), {:signal, signal}})`.

  With `scope: :tree` its descendants get it too. A program that is gone gets nothing.
  Raises `ArgumentError` when there is no such signal.

      iex> {:ok, ps} = ProtonStream.open("sleep", ["100"], exit_status: true)
      iex> ProtonStream.signal(ps, :sigusr1)
      iex> receive do {^ps, {:exit_status, status}} -> status - 128 end
      10
  """
  @spec signal(server(), signal(), scope: :program | :tree) :: :ok
  def signal(ps, signal, opts \\ []) do
    Signal.number!(signal)

    case opts do
      [] -> tell(ps, {self(), {:signal, signal}})
      [scope: :program] -> tell(ps, {self(), {:signal, signal}})
      [scope: :tree] -> tell(ps, {self(), {:signal, signal, :tree}})
      _ -> raise ArgumentError, "allowed is scope: :program or :tree, got: #{inspect(opts)}"
    end
  end

  @doc """
  Ends the program; the same as `send(ps, {self(), :close})`.

  The caller, who has to be the owner, gets `{ps, :closed}` when the program is dead, its
  cgroup removed and the session gone: one for each call. If the session has already gone,
  this function answers for it. (A message sent by hand to a session that is gone is lost,
  as any message to a dead process is.)
  """
  @spec close(server()) :: :ok
  def close(ps) do
    case GenServer.whereis(ps) do
      nil ->
        send(self(), {ps, :closed})

      server ->
        witness = Herald.witness(server, self())
        send(server, {:"$proton_stream", :close, self(), witness})
    end

    :ok
  end

  @doc """
  Makes `pid` the owner; the same as `send(ps, {self(), {:connect, pid}})`.

  The owner until now gets `{ps, :connected}` and is unlinked, unlike with a `Port`: whoever
  does not get the output should not get the exit. What it was sent before is its own; all
  that follows goes to `pid`, which is linked, without a byte or the end being lost or told
  twice. Connecting the owner itself changes nothing but is answered. A `pid` that is dead
  is an owner that has died: the program is ended.

  In a callback module there is no owner; the message goes to `handle_info/2`.
  """
  @spec connect(server(), pid()) :: :ok
  def connect(ps, pid) when is_pid(pid), do: tell(ps, {self(), {:connect, pid}})

  @doc """
  The program's process id in the operating system, or nil once it has ended.

  Like a `GenServer.call/2` it exits when a callback keeps the session from answering for
  five seconds.
  """
  @spec os_pid(server()) :: non_neg_integer() | nil
  def os_pid(ps), do: ask(ps, :os_pid, & &1.os_pid)

  @doc """
  What is known of a running program, or nil when the session is gone.

    * `:os_pid` - as `os_pid/1`
    * `:level` - how it is contained: `:tree`, `:cgroup` or `:pid_namespace`
    * `:cgroup` - path of its cgroup, or nil
    * `:transport` - how the guardian is reached: `:nursery` or `:port`
    * `:window` - bytes of `:stdout` and of `:stderr` that the owner may hold unread
    * `:bytes` - how many were read from `:stdout` and `:stderr`, and are in the pipe of
      `:stdin`
    * `:queued` - bytes for stdin that the program does not take yet
    * `:held` - bytes of `:stdout` and `:stderr` that wait in the session for the owner
    * `:exit` - nil while the program runs, then the map of `{ps, {:exit_report, map}}`:
      `:reason`, `:core_dumped`, `:oom_killed`, `:survivors`, `:bytes` and `:rusage`
      (`:user_time` and `:system_time` in microseconds, `:max_rss` in KiB)
  """
  @spec info(server()) :: map() | nil
  def info(ps), do: ask(ps, :info, &Run.info/1)

  @doc """
  What the program's cgroup counts, on cgroup v1 as on v2, or nil when the session is gone.

    * `:memory`, `:memory_peak`, `:memory_limit` - bytes
    * `:cpu`, `:cpu_user`, `:cpu_system` - microseconds on a CPU (on v1 with the controller
      `cpuacct`), `:cpu_throttled` - microseconds for which the quota kept it from running
    * `:pids`, `:pids_limit` - processes and threads
    * `:oom_kills` - how many processes the OOM killer took since the start
    * `:pressure` - microseconds for which some, or all, of its tasks waited for `:cpu`,
      `:memory` or `:io`: `%{memory: %{some: 0, full: 0}, ...}`, on v2 with PSI

  A value is nil where the group's controllers don't count it, and a limit where there is none.
  Without a cgroup it is `{:error, {:cgroup, sentence, :eopnotsupp}}`. Anybody may ask.
  """
  @spec stats(server()) :: map() | nil | {:error, term()}
  def stats(ps) do
    case group(ps, :query) do
      {:error, :closed} -> nil
      answer -> answer
    end
  end

  @doc """
  Changes limits of the running program, which are those of the option `:limits`.

      ProtonStream.update_limits(ps, memory: "512M", cpu: 2, pids: :infinity)

  They are written in order, and each is read back. The first that fails ends it, and those
  before it hold: `{:error, {:cgroup, name, reason}}`, where reason `:refused` is a value that
  the kernel did not keep. The program needs a cgroup with the controller of each from its
  start. What is not a limit raises `ArgumentError`.

    * `{:error, :not_owner}` - the caller is not the owner
    * `{:error, :closed}` - the program, or the session, is gone
    * `{:error, :timeout}` - the guardian does not answer
  """
  @spec update_limits(server(), keyword()) :: :ok | {:error, term()}
  def update_limits(ps, limits), do: group(ps, {:limits, Options.limits!(limits)})

  @doc """
  Stops every process of the program's cgroup; `thaw/1` lets them go on.

  Returns when they have stopped. It takes cgroup v2, or on v1 the controller `freezer`.
  What the program is sent waits meanwhile, and a close thaws it first. Errors are those of
  `update_limits/2`; `{:error, {:cgroup, "freeze", :etimedout}}` when some did not stop within
  two seconds, and none is frozen then.
  """
  @spec freeze(server()) :: :ok | {:error, term()}
  def freeze(ps), do: group(ps, {:freeze, true})

  @doc "Lets the processes of a frozen program go on."
  @spec thaw(server()) :: :ok | {:error, term()}
  def thaw(ps), do: group(ps, {:freeze, false})

  defp group(ps, question) do
    case GenServer.whereis(ps) do
      nil -> {:error, :closed}
      pid when pid == self() -> in_callback(question)
      server -> Session.ask_group(server, question)
    end
  end

  # In a callback there is nobody else to answer.
  defp in_callback(question) do
    if run = Run.get(), do: Run.ask_now(run, question), else: {:error, :closed}
  end

  @doc """
  What this host offers for containment, and how to get what is missing: the text that
  `proton-guardian doctor` prints, as seen by this VM.
  """
  @spec doctor() :: {:ok, String.t()} | {:error, term()}
  def doctor do
    with {:ok, guardian} <- Guardian.executable() do
      case System.cmd(guardian, ["doctor"], stderr_to_stdout: true) do
        {report, 0} -> {:ok, report}
        {sentence, _} -> {:error, {:guardian, sentence}}
      end
    else
      {:error, reason} -> {:error, {:guardian, reason}}
    end
  end

  # In a callback there is nobody else to answer.
  defp ask(ps, request, answer) do
    case GenServer.whereis(ps) do
      nil -> nil
      pid when pid == self() -> if run = Run.get(), do: answer.(run)
      server -> Session.ask(server, request, nil)
    end
  end

  # As `send/2`, but a name that nobody has is a dead process, not an error.
  defp tell(ps, message) do
    if server = GenServer.whereis(ps), do: send(server, message)
    :ok
  end

  # What a `receive` takes.
  defp timeout!(:infinity), do: :ok
  defp timeout!(timeout) when is_integer(timeout) and timeout in 0..4_294_967_295//1, do: :ok

  defp timeout!(timeout) do
    raise ArgumentError,
          "a timeout is :infinity or milliseconds from 0 to 4294967295, got: #{inspect(timeout)}"
  end

  defp iodata!(data) do
    IO.iodata_length(data)
  rescue
    ArgumentError ->
      reraise ArgumentError,
              [message: "stdin takes iodata, got: #{inspect(data)}"],
              __STACKTRACE__
  end
end
