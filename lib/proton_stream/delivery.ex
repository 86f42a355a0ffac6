# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Delivery do
  @moduledoc false

  # How a session hands on what its program says: as messages to an owner
  # (`ProtonStream.Messages`) or to a callback module (`ProtonStream.Callbacks`). The
  # functions return what a GenServer callback returns, and store the `Run` themselves.

  alias ProtonStream.Frame
  alias ProtonStream.Run

  @type reply ::
          {:noreply, ProtonStream.t()}
          | {:noreply, ProtonStream.t(), :hibernate | {:continue, term()}}
          | {:stop, reason :: term(), ProtonStream.t()}

  @doc "The program wrote something."
  @callback output(Frame.stream(), binary(), Run.t(), ProtonStream.t()) :: reply()

  @doc "No more of this stream will come, though the program may still run."
  @callback end_of_output(Frame.stream(), Run.t(), ProtonStream.t()) :: reply()

  @doc "The program is dead (`run.reason`) and all of its output has been given to `output/4`."
  @callback ended(Run.t(), ProtonStream.t()) :: reply()

  @doc "A message that the session itself has no use for."
  @callback message(term(), Run.t(), ProtonStream.t()) :: reply()

  @doc "How much of the output is wanted."
  @callback active(boolean() | :once | integer(), GenServer.from(), Run.t(), ProtonStream.t()) ::
              reply() | tuple()

  @doc "Somebody wants to read, and waits for as long as this."
  @callback read(timeout(), GenServer.from(), Run.t(), ProtonStream.t()) :: reply() | tuple()

  @doc "May this process write?"
  @callback writer?(pid(), ProtonStream.t()) :: boolean()

  @doc "A call that is not one of the library's."
  @callback call(term(), GenServer.from(), Run.t(), ProtonStream.t()) ::
              reply() | {:reply, term(), ProtonStream.t()} | tuple()

  @callback cast(term(), Run.t(), ProtonStream.t()) :: reply()

  @doc "The session has to go, whether the program has ended or not."
  @callback terminate(reason :: term(), Run.t(), ProtonStream.t()) :: term()

  @doc "Bytes of each stream that the session holds."
  @callback held(Run.t()) :: %{Frame.stream() => non_neg_integer()}
end
