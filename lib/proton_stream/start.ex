# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Start do
  @moduledoc false

  # From checked options to a running program: the OPEN frame, the handshake, and what a
  # failure is called.

  alias ProtonStream.Errno
  alias ProtonStream.Frame
  alias ProtonStream.Guardian
  alias ProtonStream.Nursery
  alias ProtonStream.Options
  alias ProtonStream.Transport

  @timeout 5_000
  @kill_delay 500
  @greatest_open 16 * 1_048_576

  # Milliseconds that a forked guardian may take to say that it is there, and to notice that
  # nobody waits for it any more.
  @hello 2_000
  @last_word 1_000

  @spec kill_delay(Options.t()) :: non_neg_integer()
  def kill_delay(options), do: Map.get(options, :delay_to_sigkill, @kill_delay)

  @doc """
  Starts a program. `{:cancelled, reason}`: the process that is watched, since without it
  nobody would have the program, ended meanwhile.

  What remains of a start that failed is the guardian's to end, and it does.
  """
  @spec start(Options.t(), binary(), map(), Guardian.watch()) ::
          {:ok, Guardian.t(), map()} | {:error, term()} | {:cancelled, term()}
  def start(options, environment, credit, watch) do
    deadline = Guardian.deadline(Map.get(options, :start_timeout, @timeout))
    open = Frame.encode({:open, Frame.package(), fields(options, environment, credit)})

    # Larger than Linux would take as well.
    if IO.iodata_length(open) > @greatest_open,
      do: {:error, :e2big},
      else: open |> fork(options, deadline, watch) |> widen(Transport.width(credit))
  end

  defp widen({:ok, guardian, started}, bytes) when bytes != nil,
    do: {:ok, Guardian.widen(guardian, bytes), started}

  defp widen(outcome, _bytes), do: outcome

  # By the nursery, if there is one and it answers; else through a port.
  defp fork(open, options, deadline, watch, connection \\ :any) do
    with true <- forked?(options),
         {:ok, guardian} <- Guardian.fork(open, deadline, connection),
         {:ok, _} = hello <- hello(guardian, deadline, watch) do
      handshake(hello, guardian, deadline, watch)
    else
      {:ended, reason} -> {:cancelled, reason}
      :begun -> {:error, :timeout}
      :left -> fork(open, options, deadline, watch, :new)
      _ -> open(open, options, deadline, watch)
    end
  end

  # What a port has and a socket has not.
  defp forked?(options),
    do: Map.get(options, :transport, :nursery) == :nursery and !options[:parallelism]

  # A nursery that is stopped takes connections and does nothing.
  defp hello(guardian, deadline, watch) do
    soon = Guardian.sooner(deadline, Guardian.deadline(@hello))

    case next(guardian, soon, watch) do
      {:ok, {:hello, _}} = hello -> hello
      :timeout -> guardian |> last_word(deadline, watch) |> let_go(guardian)
      # It has gone meanwhile, or takes no more runs.
      {:closed, _} when guardian.kept? -> let_go(:left, guardian)
      other -> let_go(other, guardian)
    end
  end

  defp let_go(heard, guardian) do
    Guardian.close(guardian)
    if heard == :timeout, do: Nursery.suspect(guardian.nursery, guardian.run)
    heard
  end

  # No program runs twice: a guardian that finds that we have hung up starts nothing, and one
  # that has started says HELLO, and ends it. A stopped one does neither.
  defp last_word(guardian, deadline, watch) do
    Guardian.hang_up(guardian)
    late = Guardian.sooner(deadline, Guardian.deadline(@last_word))

    case next(guardian, late, watch) do
      {:ok, {:hello, _}} -> :begun
      other -> other
    end
  end

  defp open(open, options, deadline, watch) do
    case Guardian.open(open, parallelism: Map.get(options, :parallelism, false)) do
      {:ok, guardian} -> guardian |> next(deadline, watch) |> handshake(guardian, deadline, watch)
      {:error, reason} -> {:error, {:guardian, reason}}
    end
  end

  defp fields(options, environment, credit) do
    env = Map.new(Map.get(options, :env, []))

    [
      program: options.command,
      stdio: stdio(options),
      credit: {credit.stdout, credit.stderr},
      kill_delay: kill_delay(options)
    ] ++
      for(arg <- options.args, do: {:argument, arg}) ++
      [inherited: environment] ++
      for({key, value} <- env, value != nil, do: {:set, key <> "=" <> value}) ++
      for({key, nil} <- env, do: {:unset, key}) ++
      given(options, :arg0, :arg0) ++
      given(options, :cd, :directory) ++
      given(options, :uid, :user) ++
      given(options, :gid, :group) ++
      same(options, [:groups, :umask, :nice, :oom_score_adj]) ++
      for(limit <- Map.get(options, :rlimits, []), do: {:rlimit, limit}) ++
      flag(options, :no_new_privs, true, {:no_new_privs, true}) ++
      flag(options, :on_exit, :wait, {:on_exit, :wait}) ++
      flag(options, :containment, :pid_namespace, {:pid_namespace, true}) ++
      for(limit <- Map.get(options, :limits, []), do: {:limit, limit}) ++
      given(options, :cgroup_base, :cgroup_base) ++
      given(options, :cgroup_path, :cgroup_path) ++
      for(name <- Map.get(options, :cgroup_controllers, []), do: {:cgroup_controller, name}) ++
      for(setting <- Map.get(options, :cgroup_sets, []), do: {:cgroup_set, setting})
  end

  defp stdio(%{capture_stderr_only: true}), do: {:piped, :null, :piped}
  defp stdio(%{stderr_to_stdout: true}), do: {:piped, :piped, :same}
  defp stdio(_options), do: {:piped, :piped, :piped}

  defp given(options, key, field) do
    case options do
      %{^key => value} -> [{field, to_string(value)}]
      _ -> []
    end
  end

  defp same(options, keys),
    do: for(key <- keys, is_map_key(options, key), do: {key, options[key]})

  defp flag(options, key, value, field), do: if(options[key] == value, do: [field], else: [])

  defp handshake(hello, guardian, deadline, watch) do
    with {:ok, {:hello, _package}} <- hello,
         {:ok, {:started, started}} <- next(guardian, deadline, watch) do
      {:ok, guardian, started}
    else
      other ->
        Guardian.close(guardian)
        failure(other)
    end
  end

  defp failure({:ok, {:start_error, step, errno, detail}}),
    do: {:error, reason(step, errno, detail)}

  defp failure({:ok, {:error, code, sentence}}), do: {:error, {:guardian, {code, sentence}}}

  defp failure({:ok, _frame}),
    do: {:error, {:guardian, {:protocol, "a frame came before HELLO and STARTED"}}}

  defp failure(:timeout), do: {:error, :timeout}
  defp failure({:malformed, sentence}), do: {:error, {:guardian, {:protocol, sentence}}}
  defp failure({:closed, why}), do: {:error, {:guardian, why}}
  defp failure({:ended, reason}), do: {:cancelled, reason}

  defp next(guardian, deadline, watch) do
    with {:frame, frame} <- Guardian.await(guardian, deadline, watch),
         {:error, sentence} <- Frame.decode(frame, :guardian) do
      {:malformed, sentence}
    end
  end

  defp reason(:specification, _errno, sentence), do: {:specification, sentence}
  defp reason(:exec, errno, _program), do: Errno.name(errno)
  defp reason(:directory, errno, _path), do: {:cd, Errno.name(errno)}
  defp reason(:user, 0, name), do: {:uid, {:unknown, name}}
  defp reason(:user, errno, _name), do: {:uid, Errno.name(errno)}
  defp reason(:group, 0, name), do: {:gid, {:unknown, name}}
  defp reason(:group, errno, _name), do: {:gid, Errno.name(errno)}
  defp reason(:groups, 0, name), do: {:groups, {:unknown, name}}
  defp reason(:groups, errno, _name), do: {:groups, Errno.name(errno)}
  defp reason(:cgroup, 0, path), do: {:cgroup, path, :refused}
  defp reason(:cgroup, errno, path), do: {:cgroup, path, Errno.name(errno)}
  defp reason(:fork, errno, _), do: {:fork, Errno.name(errno)}
  defp reason(:stdio, errno, _), do: {:stdio, Errno.name(errno)}
  defp reason(:process, errno, attribute), do: {:process, attribute, Errno.name(errno)}
  defp reason(:namespace, errno, what), do: {:containment, what, Errno.name(errno)}
  defp reason(:cancelled, _errno, _), do: :cancelled
end
