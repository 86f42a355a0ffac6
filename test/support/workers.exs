# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Workers do
  @moduledoc false

  defmodule Scripted do
    @moduledoc false

    # A callback module whose callbacks are functions in its state, a map, so that a test
    # can say in one place what happens. Those left out tell the process under `:to`.

    use GenServer
    @behaviour ProtonStream

    @impl GenServer
    def init(%{init: init} = state), do: init.(state)
    def init(state), do: {:ok, state}

    @impl ProtonStream
    def handle_stdout(data, state), do: go(:stdout, [data], state)

    @impl ProtonStream
    def handle_stderr(data, state), do: go(:stderr, [data], state)

    @impl ProtonStream
    def handle_exit(reason, state) do
      case state do
        %{exit: exit} ->
          exit.(reason, state)

        %{to: to} ->
          send(to, {:exit, reason})
          {:stop, reason, state}
      end
    end

    @impl GenServer
    def handle_call(request, from, %{call: call} = state), do: call.(request, from, state)
    def handle_call(:state, _from, state), do: {:reply, state, state}
    def handle_call(fun, _from, state) when is_function(fun), do: {:reply, fun.(), state}

    @impl GenServer
    def handle_cast(request, state), do: go(:cast, [request], state)

    @impl GenServer
    def handle_info(message, state), do: go(:info, [message], state)

    @impl GenServer
    def handle_continue(term, state), do: go(:continue, [term], state)

    @impl GenServer
    def terminate(reason, state) do
      case state do
        %{terminate: terminate} -> terminate.(reason, state)
        %{to: to} -> send(to, {:terminate, reason})
      end
    end

    defp go(name, args, state) do
      case state do
        %{^name => callback} ->
          apply(callback, args ++ [state])

        %{to: to} ->
          send(to, List.to_tuple([name | args]))
          {:noreply, state}
      end
    end
  end

  defmodule Bare do
    @moduledoc false

    # Not a single callback that may be left out.

    def init(arg), do: {:ok, arg}
  end

  import ExUnit.Assertions
  import ExUnit.CaptureLog

  @doc "Starts a shell script under a scripted module, which tells the caller what it is told."
  def worker(script, state, opts \\ []) do
    state = Map.put_new(state, :to, self())
    ProtonStream.start_link(Scripted, "sh", ["-c", script], state, opts)
  end

  def worker!(script, state \\ %{}, opts \\ []) do
    {:ok, pid} = worker(script, state, opts)
    pid
  end

  @doc "Keeps the log of what is meant to end badly out of the test's output."
  def quietly(fun) do
    capture_log(fn -> send(self(), {:result, fun.()}) end)
    assert_received {:result, result}
    result
  end
end
