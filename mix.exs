# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: CC0-1.0

# A project's compilers run before its own modules exist, so the one that builds
# the guardian lives outside lib/ and is loaded with this file. That also happens
# when proton_stream is somebody's dependency.
Code.require_file("mix/compile.proton_guardian.exs", __DIR__)

defmodule ProtonStream.MixProject do
  use Mix.Project

  @version "1.9.0"
  @source_url "https://github.com/proton-stream/proton_stream"

  def project do
    [
      app: :proton_stream,
      version: @version,
      elixir: "~> 1.14",
      description:
        "Runs OS programs, streams their stdin, stdout and stderr, and keeps them contained (Linux)",
      compilers: [:proton_guardian | Mix.compilers()],
      start_permanent: Mix.env() == :prod,
      deps: [],
      package: package(),
      docs: docs(),
      source_url: @source_url
    ]
  end

  def application do
    [mod: {ProtonStream.Application, []}, extra_applications: [:logger]]
  end

  # All that is needed to build from source with `cargo build --locked`. Every
  # crate is in it, also those that the guardian doesn't use: cargo refuses a
  # workspace in which a member is missing, and --locked one whose Cargo.lock
  # speaks of crates that aren't there. Tests are in it because cargo also refuses
  # a manifest that names a target whose file is missing.
  defp package do
    [
      licenses: ["Apache-2.0", "CC-BY-4.0", "CC0-1.0"],
      links: %{"GitHub" => @source_url},
      files: [
        ".formatter.exs",
        "CHANGELOG.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSES",
        "NOTICE",
        "README.md",
        "REUSE.toml",
        "SECURITY.md",
        "crates/*/Cargo.toml",
        "crates/*/examples",
        "crates/*/src",
        "crates/*/tests",
        "docs",
        "lib",
        "mix",
        "mix.exs"
      ]
    ]
  end

  # Plain data for ExDoc, which is no dependency.
  defp docs do
    [
      main: "ProtonStream",
      source_ref: "v#{@version}",
      extras: [
        "README.md",
        "CHANGELOG.md",
        "SECURITY.md",
        "docs/GUARANTEES.md",
        "docs/COSTS.md",
        "docs/GOTCHAS.md",
        "docs/PROTOCOL.md"
      ]
    ]
  end
end
