# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule Mix.Tasks.Compile.ProtonGuardian do
  @shortdoc "Builds the guardian, the program that holds other programs"

  @moduledoc """
  Builds `proton-guardian` with cargo and puts it into the build's `priv`.

  Runs as the first compiler of proton_stream, in its own project and as a
  dependency. It runs cargo only when a file of the Rust workspace, or one of the
  variables below, differs from what the last build was made of.

  The guardian is linked statically where the machine has a static C library: each
  start of a program is then 0.3 to 0.4 ms quicker. Where it can't be linked so, it
  is linked dynamically, and a line says so.

  ## Environment

    * `PROTON_GUARDIAN`: absolute path of a prebuilt guardian. Cargo isn't run, nor
      needed; the file is copied.
    * `CARGO_TARGET_DIR`: where cargo keeps its intermediate files. The default is
      inside the build of proton_stream, one for each Mix environment.
    * `CARGO_BUILD_TARGET`: the triple to build for, when it isn't this machine's.
    * `RUSTFLAGS`: replaces the flags for linking.
  """

  use Mix.Task.Compiler

  @executable "proton-guardian"
  @package "proton-stream-guardian"

  # Linked statically, and so that data begins with a page: of those that it writes to each
  # guardian has its own. Not every linker can do the latter, nor is the former possible
  # everywhere.
  @static "-C target-feature=+crt-static"
  @flags ["#{@static} -C link-arg=-Wl,-z,separate-loadable-segments", @static, nil]

  @sources ["Cargo.toml", "Cargo.lock", "crates/*/Cargo.toml", "crates/*/src/**"]

  @impl true
  def run(argv) do
    {opts, _, _} = OptionParser.parse(argv, switches: [force: :boolean])

    with :ok <- check_system(:os.type()),
         {:ok, origin} <- origin(System.get_env("PROTON_GUARDIAN")) do
      fingerprint = fingerprint(origin)

      if opts[:force] || not File.regular?(executable()) || fingerprint != last_fingerprint() do
        with :ok <- make(origin) do
          File.mkdir_p!(Path.dirname(manifest()))
          File.write!(manifest(), fingerprint)
          {:ok, []}
        end
      else
        {:noop, []}
      end
    end
    |> report()
  end

  @impl true
  def manifests, do: [manifest()]

  @impl true
  def clean do
    File.rm(executable())
    File.rm(manifest())
    File.rm_rf(default_target_dir())
    :ok
  end

  # Public for its test: there is no other system to run it on.
  @doc false
  def check_system({:unix, :linux}), do: :ok

  def check_system({_, name}) do
    {:error, "proton_stream runs on Linux 5.4 or newer only, and this system is #{name}."}
  end

  defp manifest, do: Path.join(Mix.Project.manifest_path(), "compile.proton_guardian")
  defp executable, do: Path.join([Mix.Project.app_path(), "priv", @executable])
  defp default_target_dir, do: Path.join(Mix.Project.app_path(), "cargo")

  ## Where the executable comes from

  defp origin(unset) when unset in [nil, ""], do: {:ok, :source}

  defp origin("/" <> _ = path) do
    case File.stat(path) do
      {:error, reason} ->
        prebuilt_error(path, "can't be read (#{:file.format_error(reason)})")

      {:ok, %File.Stat{type: type}} when type != :regular ->
        prebuilt_error(path, "isn't a file (it is a #{type})")

      {:ok, %File.Stat{mode: mode}} ->
        if Bitwise.band(mode, 0o111) == 0,
          do: prebuilt_error(path, "isn't executable (chmod +x makes it so)"),
          else: {:ok, {:prebuilt, path}}
    end
  end

  defp origin(path), do: prebuilt_error(path, "isn't an absolute path")

  defp prebuilt_error(path, what) do
    {:error,
     "PROTON_GUARDIAN names #{inspect(path)}, which #{what}. It must be the absolute path of " <>
       "a prebuilt #{@executable}; without it proton_stream builds its own with cargo."}
  end

  ## When to build

  # By content, not by time: times have a resolution of a second here, and go
  # backwards with some tools. Reading the sources costs a few milliseconds.
  defp fingerprint(origin) do
    files =
      case origin do
        :source -> Enum.flat_map(@sources, &Path.wildcard/1)
        {:prebuilt, path} -> [path]
      end

    variables = for name <- ["CARGO_BUILD_TARGET", "RUSTFLAGS"], do: System.get_env(name)
    contents = for file <- files, File.regular?(file), do: {file, :erlang.md5(File.read!(file))}

    {origin, @flags, variables, contents}
    |> :erlang.term_to_binary()
    |> :erlang.md5()
    |> Base.encode16()
  end

  defp last_fingerprint do
    case File.read(manifest()) do
      {:ok, fingerprint} -> fingerprint
      {:error, _} -> nil
    end
  end

  ## Building

  defp make({:prebuilt, path}), do: install(path)

  defp make(:source) do
    with {:ok, cargo, host} <- find_cargo() do
      Mix.shell().info("Building #{@executable} with cargo (release)")
      target = System.get_env("CARGO_BUILD_TARGET") || host
      target_dir = System.get_env("CARGO_TARGET_DIR") || default_target_dir()

      with :ok <- build(cargo, target, target_dir),
           do: install(Path.join([target_dir, target, "release", @executable]))
    end
  end

  defp build(cargo, target, target_dir) do
    args =
      ~w(build --release --locked -p #{@package} --target #{target} --target-dir) ++ [target_dir]

    # Naming the target keeps the flags away from what runs at build time.
    upcased = target |> String.upcase() |> String.replace(["-", "."], "_")
    build(cargo, args, "CARGO_TARGET_#{upcased}_RUSTFLAGS", @flags)
  end

  defp build(cargo, args, variable, [flags | others]) do
    case cargo(cargo, args, for(flags <- List.wrap(flags), do: {variable, flags})) do
      {_, 0} when flags == nil ->
        Mix.shell().info(
          "#{@executable} is linked dynamically, there being no static C library: " <>
            "each start of a program takes about 0.3 ms longer"
        )

      {_, 0} ->
        :ok

      {output, _} ->
        # Another try only where this one got as far as the linker.
        if others != [] and output =~ "linking with",
          do: build(cargo, args, variable, others),
          else: build_error(output)
    end
  end

  defp cargo(cargo, args, env), do: System.cmd(cargo, args, env: env, stderr_to_stdout: true)

  defp build_error(output) do
    hint =
      if output =~ "linker `cc` not found",
        do: "\nA C linker is missing: on Debian and Ubuntu, apt-get install gcc libc6-dev",
        else: ""

    {:error, "cargo could not build #{@executable}:\n\n#{String.trim(output)}\n#{hint}"}
  end

  defp find_cargo do
    required = required_rust()

    with cargo when is_binary(cargo) <- System.find_executable("cargo"),
         {output, 0} <- System.cmd(cargo, ["-vV"], stderr_to_stdout: true),
         [_, release] <- Regex.run(~r/^release: (\S+)/m, output),
         [_, host] <- Regex.run(~r/^host: (\S+)/m, output) do
      if Version.compare(hd(String.split(release, "-")), required <> ".0") == :lt,
        do: cargo_error(required, "this cargo is #{release}"),
        else: {:ok, cargo, host}
    else
      nil -> cargo_error(required, "there is no cargo in PATH")
      {output, _} -> cargo_error(required, "cargo doesn't run: #{String.trim(output)}")
      _ -> cargo_error(required, "cargo doesn't tell its version")
    end
  end

  defp cargo_error(required, what) do
    {:error,
     "proton_stream builds its guardian with Rust #{required} or newer, and #{what}. Install " <>
       "Rust from https://rustup.rs, or set PROTON_GUARDIAN to the absolute path of a " <>
       "prebuilt #{@executable}."}
  end

  # The manifest says it once, for cargo and for us.
  defp required_rust do
    [_, version] = Regex.run(~r/^rust-version = "(\d+\.\d+)"/m, File.read!("Cargo.toml"))
    version
  end

  # By rename: a running guardian's file can't be written to (ETXTBSY), and nobody
  # sees half of it.
  defp install(built) do
    File.mkdir_p!(Path.dirname(executable()))
    new = executable() <> ".new"

    with :ok <- File.cp(built, new),
         :ok <- File.chmod(new, 0o755),
         :ok <- File.rename(new, executable()) do
      :ok
    else
      {:error, reason} ->
        {:error, "#{built} can't be copied to #{executable()}: #{:file.format_error(reason)}"}
    end
  end

  defp report({:error, sentence}) do
    Mix.shell().error(sentence)

    {:error,
     [
       %Mix.Task.Compiler.Diagnostic{
         compiler_name: "proton_guardian",
         file: Path.absname("mix.exs"),
         position: nil,
         severity: :error,
         message: sentence
       }
     ]}
  end

  defp report(done), do: done
end
