# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: CC0-1.0

defmodule Bench.MixProject do
  use Mix.Project

  # A project of its own, so that proton_stream is measured as somebody's dependency, the
  # way that it is used, and so that nothing of this is in its package.
  def project do
    [
      app: :proton_stream_bench,
      version: "0.0.0",
      elixir: "~> 1.14",
      deps: [{:proton_stream, path: ".."}]
    ]
  end

  def application, do: [extra_applications: []]
end
