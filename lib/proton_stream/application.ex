# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Application do
  @moduledoc false

  # Without the application programs run all the same, each with a guardian of its own that is
  # started through a port.

  use Application

  @impl true
  def start(_type, _args) do
    Supervisor.start_link([ProtonStream.Nursery, ProtonStream.Nursery.Kept],
      strategy: :one_for_one,
      name: ProtonStream.Supervisor
    )
  end
end
