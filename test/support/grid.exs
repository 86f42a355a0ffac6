# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Grid do
  @moduledoc false

  # What a program does × what happens to it × how it is contained × who runs it: the one
  # table from which the tests of containment are made, and their page in the documents.
  #
  # All of it runs in a VM behind a guard, because a chain and a bomb are part of it: a PID
  # namespace of its own, which goes as a whole; a group with a number of processes; a time.
  # See `main/1` for what that VM does, and `run/1` for how it is started. One file: the table,
  # and what each of its words does.

  import ProtonStream.Eventually
  import ProtonStream.Programs

  alias ProtonStream.Bases
  alias ProtonStream.OtherVM

  @behaviours [
    plain: "plain",
    ignores_sigterm: "ignores SIGTERM",
    background: "background grandchild",
    daemon: "double-forked daemon with setsid",
    holds_stdout: "TERM-ignoring grandchild holding stdout",
    stopped: "stopped",
    chain: "forking chain",
    bomb: "bounded bomb"
  ]

  @events [
    exits: "program exits",
    close: "close",
    owner_crashes: "owner crashes",
    owner_ends: "owner exits normally",
    session_killed: "session killed",
    vm_killed: "VM SIGKILLed",
    guardian_signalled: "guardian SIGTERMed, HUPped",
    guardian_killed: "guardian SIGKILLed",
    stopped_close: "guardian SIGSTOPped, close",
    stopped_crash: "guardian SIGSTOPped, owner crashes",
    stopped_vm: "guardian SIGSTOPped, VM SIGKILLed",
    nursery_killed: "nursery SIGKILLed, close",
    nursery_stopped: "nursery SIGSTOPped, open, close",
    both_killed: "nursery and guardian SIGKILLed"
  ]

  @of_vm [:vm_killed, :stopped_vm]

  # Here somebody is told, and by then nobody is left.
  @told [:exits, :close, :guardian_signalled, :guardian_killed] ++
          [:stopped_close, :nursery_killed, :nursery_stopped]

  @levels [tree: "tree", v1: "cgroup v1", v2: "cgroup v2", namespace: "PID namespace"]
  @users [root: "root", nobody: "uid 65534"]

  # Whoever is not the guardian's child is not killed with it, where nobody adopts him and
  # nothing else holds him.
  @open_cells for behaviour <- Keyword.keys(@behaviours), do: {behaviour, :both_killed, :tree}

  @nobody 65_534

  # Threads count, and two VMs have some thirty each.
  @most_processes 200
  @seconds 600

  @doc "All cells: what the program does, what happens, level, user."
  def cells do
    for {user, _} <- @users,
        {level, _} <- @levels,
        {event, _} <- @events,
        {behaviour, _} <- @behaviours,
        {behaviour, event, level} not in @open_cells,
        do: {behaviour, event, level, user}
  end

  @doc "The name of a cell."
  def title({behaviour, event, level, user}) do
    "#{@behaviours[behaviour]}, #{@events[event]}, #{@levels[level]}, as #{@users[user]}"
  end

  @doc "The table as the documents have it."
  def markdown do
    count = length(cells())
    head = for {_, title} <- @events, do: " #{title} |"

    rows =
      for {behaviour, title} <- @behaviours do
        cells = for {event, _} <- @events, do: " #{cell(behaviour, event)} |"
        ["| ", title, " |", cells, "\n"]
      end

    IO.iodata_to_binary([
      ["| |", head, "\n", "|---|", Enum.map(@events, fn _ -> "---|" end), "\n", rows, "\n"],
      "#{count} cells. Levels: T `tree`, 1 `cgroup` v1, 2 `cgroup` v2, N `pid_namespace`; ",
      "each as root and as uid 65534.\n"
    ])
  end

  defp cell(behaviour, event) do
    for {level, letter} <- [tree: "T", v1: "1", v2: "2", namespace: "N"],
        {behaviour, event, level} not in @open_cells,
        into: "",
        do: letter
  end

  ## Outside of the guard

  @doc "Runs all cells of a user, and the chains and bombs: a map of what came of each."
  def run(user) do
    place = place(user)

    {port, guard} = OtherVM.start(script(user, place), environment(place), guard(place))

    try do
      OtherVM.told(port, @seconds * 1_000)
    after
      # By now it has ended, or has failed: then the guard takes all of it.
      System.cmd("kill", ["#{guard}"], stderr_to_stdout: true)
      await_gone(guard)
      remove(place)
    end
  end

  # What that VM needs, readable for everybody, and its groups.
  defp place(user) do
    name = "proton_stream_test_grid_#{user}_#{System.pid()}"
    directory = Path.join(System.tmp_dir!(), name)
    File.mkdir_p!(directory)
    ebin = Application.app_dir(:proton_stream, "ebin")
    File.cp_r!(ebin, Path.join(directory, "ebin"))
    {:ok, guardian} = ProtonStream.Guardian.executable()
    File.cp!(guardian, Path.join(directory, "proton-guardian"))
    File.cp_r!(Path.expand("../../fixtures/children", __DIR__), Path.join(directory, "children"))

    for file <- ~w(eventually programs bases other_vm grid),
        do: File.cp!(Path.join(__DIR__, file <> ".exs"), Path.join(directory, file <> ".exs"))

    v1 = for controller <- ~w(cpu pids), do: Path.join(Bases.mount(controller), name)
    v2 = Path.join(Bases.tree(), name)
    guard = Path.join(Bases.mount("pids"), name <> "_guard")
    for path <- Enum.uniq(v1) ++ [v2, Path.join(v2, "vm"), guard], do: File.mkdir!(path)
    File.write!(Path.join(guard, "pids.max"), "#{@most_processes}")

    # A group that belongs to somebody can be used by him, on v2 from within only.
    if user == :nobody do
      for path <- [v2, Path.join(v2, "vm") | v1], file <- ["" | ~w(cgroup.procs)] do
        File.chown!(Path.join(path, file), @nobody)
      end
    end

    %{
      name: name,
      directory: directory,
      groups: Enum.uniq(v1) ++ [v2],
      vm: v2 <> "/vm",
      guard: guard,
      user: user
    }
  end

  defp remove(place) do
    for path <- [place.vm, place.guard] ++ place.groups,
        do:
          eventually("#{path} can be removed", fn ->
            File.rmdir(path) in [:ok, {:error, :enoent}]
          end)

    File.rm_rf!(place.directory)
  end

  defp environment(place) do
    %{
      "PROTON_GUARDIAN" => Path.join(place.directory, "proton-guardian"),
      "HOME" => place.directory,
      "GRID" => place.directory
    }
  end

  defp guard(place) do
    id = if place.user == :nobody, do: @nobody, else: 0

    enter =
      "echo 0 > #{place.guard}/cgroup.procs && echo 0 > #{place.vm}/cgroup.procs && exec \"$@\""

    ["/bin/sh", "-c", enter, "sh", "timeout", "-s", "KILL", "#{@seconds}"] ++
      ~w(unshare --pid --fork --mount-proc --kill-child) ++
      ~w(setpriv --reuid #{id} --regid #{id} --clear-groups --)
  end

  defp script(user, place) do
    """
    for file <- ~w(bases other_vm grid), do: Code.require_file(file <> ".exs", #{inspect(place.directory)})
    tell.(ProtonStream.Grid.main(#{inspect({user, place.name})}))
    System.halt(0)
    """
  end

  ## Inside

  @doc "Runs in the guarded VM."
  def main({user, base}) do
    Process.flag(:trap_exit, true)
    cells = for {_, _, _, ^user} = cell <- cells(), do: cell
    {of_vm, others} = Enum.split_with(cells, &(elem(&1, 1) in @of_vm))
    began = now()
    results = Map.new(others, &{&1, guarded(fn -> try_cell(&1, base) end)})
    of_vm = Enum.group_by(of_vm, fn {_, event, level, _} -> {event, level} end)
    results = Enum.reduce(of_vm, results, &vm_killed(&1, &2, base))

    hundreds =
      for behaviour <- [:chain, :bomb], into: %{} do
        {{:hundred, behaviour, user}, guarded(fn -> hundred(behaviour, base) end)}
      end

    randoms =
      for who <- [:guardian, :nursery], into: %{} do
        {{:random, who, user}, guarded(fn -> at_random(who, base) end)}
      end

    results
    |> Map.merge(hundreds)
    |> Map.merge(randoms)
    |> Map.put({:milliseconds, user}, now() - began)
  end

  defp guarded(fun) do
    fun.()
  rescue
    # Of a bomb all processes are in it.
    error -> error |> Exception.message() |> String.slice(0, 1_000)
  catch
    kind, reason -> inspect({kind, reason})
  after
    # Of one that failed nothing may reach into the next.
    for {:EXIT, _, _} = message <- messages(), do: message
  end

  defp messages do
    receive do
      message -> [message | messages()]
    after
      0 -> []
    end
  end

  # Owners of their own, so that their end can be what happens.
  defp try_cell({behaviour, event, level, user}, base) do
    for variant <- variants(event) do
      {entry, options} = tag(level, base)
      nursery = before(event, behaviour)
      {owner, ps, guardian} = owned(behaviour, options)
      if behaviour == :stopped and event != :exits, do: stop(ps)
      happens(variant, owner, ps, guardian)
      nobody_is_left({behaviour, event, level, user}, entry, base)
      if nursery, do: OtherVM.kill(nursery, "CONT")
    end

    :ok
  end

  # A nursery that does nothing still has a guardian that waits; the second program finds none.
  defp before(:nursery_stopped, behaviour) do
    nursery = serving()
    OtherVM.kill(nursery, "STOP")

    if behaviour == :background do
      {:ok, ps} = ProtonStream.open("true", [])
      {"", "", :normal} = collect(ps)
    end

    nursery
  end

  defp before(_event, _behaviour), do: nil

  # The one that serves now, started if need be.
  defp serving do
    {:ok, executable} = ProtonStream.Guardian.executable()

    eventually("there is a nursery", fn ->
      ProtonStream.Nursery.address(executable)
      nursery = nursery()
      nursery && runs?(nursery) && nursery
    end)
  end

  defp variants(:guardian_signalled), do: [:term, :hup]
  defp variants(event), do: [event]

  defp hundred(behaviour, base) do
    for n <- 1..100 do
      {entry, options} = tag(:tree, base)
      {owner, ps, guardian} = owned(behaviour, options)
      happens(:close, owner, ps, guardian)
      nobody_is_left({behaviour, n}, entry, base)
    end

    :ok
  end

  # At any moment from the open to when the program runs.
  defp at_random(who, base) do
    for n <- 1..300 do
      {entry, options} = tag(:tree, base)
      nursery = serving()
      me = self()

      owner =
        spawn(fn ->
          Process.flag(:trap_exit, true)
          send(me, {self(), :opens})
          # To start a process that kills takes as long.
          spin(now(:microsecond) + 1_500)
          script = "setsid sleep 1000 & sleep 1000 & sleep 1000"

          case ProtonStream.open("sh", ["-c", script], options) do
            {:ok, ps} -> own(ps, me)
            # It can be killed before it has said that the program runs.
            {:error, {:guardian, _}} -> :ok
          end
        end)

      receive do: ({^owner, :opens} -> :ok)
      spin(now(:microsecond) + n * 30)

      case who do
        # All that the nursery has: the one that serves, and one that waits.
        :guardian -> System.cmd("kill", ["-KILL" | children(nursery)], stderr_to_stdout: true)
        :nursery -> OtherVM.kill(nursery) && await_gone(nursery)
      end

      send(owner, {:end, :normal})
      nobody_is_left({who, :owner_ends, :tree, n}, entry, base)
    end

    :ok
  end

  defp spin(until), do: if(now(:microsecond) < until, do: spin(until))

  defp tag(level, base) do
    value = "#{System.unique_integer([:positive])}"
    {"GRID_CELL=#{value}", options(level, base) ++ [env: %{"GRID_CELL" => value}]}
  end

  defp options(level, base), do: [delay_to_sigkill: 50] ++ level(level, base)
  defp level(:tree, _base), do: []
  defp level(:namespace, _base), do: [containment: :pid_namespace]
  defp level(:v1, base), do: [cgroup_controllers: ["cpu", "pids"], cgroup_base: base]
  # A controller that is in every group of version 2, on a hybrid host too.
  defp level(:v2, base), do: [cgroup_controllers: ["perf_event"], cgroup_base: base]

  defp owned(behaviour, options) do
    me = self()

    owner =
      spawn(fn ->
        Process.flag(:trap_exit, true)
        ps = start(behaviour, options)
        send(me, {self(), ps, guardian(ps)})
        own(ps, me)
      end)

    receive do
      {^owner, ps, guardian} -> {owner, ps, guardian}
    after
      30_000 -> raise "it did not start"
    end
  end

  defp own(ps, me) do
    receive do
      {:end, reason} -> exit(reason)
      {^ps, :closed} -> send(me, {:closed, ps})
      {:EXIT, ^ps, reason} -> send(me, {:ended, ps, reason})
      :close -> ProtonStream.close(ps)
      :go -> ProtonStream.command(ps, "\n")
      _ -> :ok
    end

    own(ps, me)
  end

  defp start(behaviour, options) do
    path = Path.join([System.fetch_env!("GRID"), "children", "#{behaviour}.sh"])
    [uptime | _] = "/proc/uptime" |> File.read!() |> String.split(".")
    {:ok, ps} = ProtonStream.open(path, ["#{String.to_integer(uptime) + 30}"], options)
    await_line(ps, "ready")
    ps
  end

  # The first of its processes, too.
  defp stop(ps) do
    os_pid = ProtonStream.os_pid(ps)
    {_, 0} = System.cmd("kill", ["-STOP", "#{os_pid}"])
    eventually("it is stopped", fn -> File.read!("/proc/#{os_pid}/stat") =~ ~r/\) T / end)
  end

  defp happens(:exits, owner, ps, _guardian) do
    send(owner, :go)
    :normal = await_end(ps)
  end

  defp happens(:close, owner, ps, _guardian) do
    send(owner, :close)

    receive do
      {:closed, ^ps} -> :ok
    after
      30_000 -> raise "not closed"
    end
  end

  defp happens(:nursery_stopped, owner, ps, guardian), do: happens(:close, owner, ps, guardian)

  defp happens(:nursery_killed, owner, ps, guardian) do
    OtherVM.kill(serving())
    happens(:close, owner, ps, guardian)
  end

  defp happens(:stopped_close, owner, ps, guardian) do
    OtherVM.kill(guardian, "STOP")
    happens(:close, owner, ps, guardian)
  end

  defp happens(:stopped_crash, owner, ps, guardian) do
    OtherVM.kill(guardian, "STOP")
    happens(:owner_crashes, owner, ps, guardian)
  end

  defp happens(:both_killed, _owner, ps, guardian) do
    # By one process, one right after the other.
    {_, 0} = System.cmd("kill", ["-KILL", "#{serving()}", "#{guardian}"])
    {:guardian, _} = await_end(ps)
  end

  defp happens(:owner_crashes, owner, _ps, _guardian), do: send(owner, {:end, :crash})
  defp happens(:owner_ends, owner, _ps, _guardian), do: send(owner, {:end, :normal})
  defp happens(:session_killed, _owner, ps, _guardian), do: Process.exit(ps, :kill)
  defp happens(:term, owner, ps, guardian), do: signalled("TERM", 15, owner, ps, guardian)
  defp happens(:hup, owner, ps, guardian), do: signalled("HUP", 1, owner, ps, guardian)

  defp happens(:guardian_killed, owner, ps, guardian),
    do: signalled("KILL", 9, owner, ps, guardian)

  defp signalled(name, number, _owner, ps, guardian) do
    OtherVM.kill(guardian, name)
    {:guardian, {:signal, ^number}} = await_end(ps)
  end

  defp await_end(ps) do
    receive do
      {:ended, ^ps, reason} -> reason
    after
      30_000 -> raise "no end"
    end
  end

  # Where the end is told, it is told when nobody is left; the others take as long as it takes.
  defp nobody_is_left(cell, entry, base) do
    event = elem(cell, 1)
    told? = event in @told or is_integer(event)
    if told? and tagged(entry) != [], do: raise("told too early: #{inspect(describe(entry))}")
    eventually("nobody is left", fn -> tagged(entry) == [] end)
    if told? and groups(base) != [], do: raise("groups are left: #{inspect(groups(base))}")
    eventually("no group is left", fn -> groups(base) == [] end)
  rescue
    error -> reraise "#{Exception.message(error)}: #{inspect(describe(entry))}", __STACKTRACE__
  end

  defp describe(entry) do
    for pid <- tagged(entry),
        {:ok, stat} <- [File.read("/proc/#{pid}/stat")],
        do: String.slice(stat, 0, 40)
  end

  defp groups(base) do
    for mount <- [Bases.mount("cpu"), Bases.mount("pids"), Bases.tree()],
        path <- Path.wildcard(Path.join([mount, base, "proton-*"])),
        do: path
  end

  # One VM for all behaviours of a level: it starts them and is killed.
  defp vm_killed({{event, level}, cells}, results, base) do
    entries = for {behaviour, _, _, _} <- cells, do: {behaviour, tag(level, base)}
    all = for {behaviour, {_, options}} <- entries, do: {behaviour, options}
    directory = System.fetch_env!("GRID")

    script = """
    for file <- ~w(bases other_vm grid), do: Code.require_file(file <> ".exs", #{inspect(directory)})
    Process.flag(:trap_exit, true)
    ProtonStream.Grid.victim(#{inspect(event)}, #{inspect(all)})
    tell.(:ready)
    receive do: (:never -> :ok)
    """

    {port, vm} = OtherVM.start(script, %{}, [], Path.join(directory, "ebin"))
    :ready = OtherVM.told(port)
    OtherVM.kill(vm)
    await_gone(vm)

    for {{_, event, _, _} = cell, {_, {entry, _}}} <- Enum.zip(cells, entries), into: results do
      {cell,
       guarded(fn ->
         nobody_is_left({event, event}, entry, base)
         :ok
       end)}
    end
  end

  @doc "Runs in the VM that is killed."
  def victim(event, all) do
    for {behaviour, options} <- all do
      ps = start(behaviour, options)
      if behaviour == :stopped, do: stop(ps)
      if event == :stopped_vm, do: OtherVM.kill(guardian(ps), "STOP")
    end
  end

  defp now(unit \\ :millisecond), do: System.monotonic_time(unit)
end
