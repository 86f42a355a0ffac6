# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule Mix.Tasks.Compile.ProtonGuardianTest do
  # Not async: two tests change this VM's environment.
  use ExUnit.Case, async: false

  alias Mix.Tasks.Compile.ProtonGuardian

  # Several release builds with link-time optimisation, on slow machines too.
  @moduletag timeout: 600_000

  @version Mix.Project.config()[:version]

  # A package made of exactly what hex would ship, and a project that depends on
  # it, both in empty folders outside of this repository. The tests share them,
  # and cargo's intermediate files with the build of this project: foreign crates
  # are compiled once, ours from the package's sources.
  setup_all do
    root = Path.join(System.tmp_dir!(), "proton_stream_package_#{System.os_time()}")
    package = Path.join(root, "package")
    consumer = Path.join(root, "consumer")
    on_exit(fn -> File.rm_rf!(root) end)

    copy_package(package)
    write_consumer(consumer, package)
    %{package: package, consumer: consumer, root: root}
  end

  describe "a project that depends on the package" do
    @tag :slow
    test "builds the guardian from exactly the files that hex ships", context do
      {output, status} = mix(context, ["compile"])
      assert status == 0, output
      assert_runs(built(context.consumer))

      {output, 0} = mix(context, ["compile"])
      refute output =~ "guardian", "a second compile had something to do:\n#{output}"
    end

    @tag :slow
    test "builds it again when a Rust file changed, came or went", context do
      {_, 0} = mix(context, ["compile"])
      change_a_rust_file(context)
      assert {"==> proton_stream\nBuilding" <> _, 0} = mix(context, ["compile"])

      unused = Path.join(context.package, "crates/guardian/src/in_no_module.rs")
      File.write!(unused, "// new\n")
      assert {"==> proton_stream\nBuilding" <> _, 0} = mix(context, ["compile"])
      File.rm!(unused)
      assert {"==> proton_stream\nBuilding" <> _, 0} = mix(context, ["compile"])
    end

    @tag :slow
    test "makes a release that carries the executable with its bit", context do
      {output, status} = mix(context, ["release", "--quiet", "--overwrite"])
      assert status == 0, output
      release = Path.join(context.consumer, "_build/prod/rel/consumer")
      assert [executable] = Path.wildcard("#{release}/lib/proton_stream-*/priv/proton-guardian")
      assert_runs(executable)

      {output, status} =
        cmd("#{release}/bin/consumer", ["eval", "Consumer.main([])"], context.consumer)

      assert {output, status} == {"hello\n", 0}
    end

    @tag :slow
    test "is told in words that an escript can't hold the guardian", context do
      {_, 0} = mix(context, ["escript.build"])
      {output, _} = cmd(Path.join(context.consumer, "consumer"), [], context.root)
      assert output =~ "escript"
      assert output =~ "PROTON_GUARDIAN"

      named = [{"PROTON_GUARDIAN", built(context.consumer)}]

      assert {"hello\n", 0} =
               cmd(Path.join(context.consumer, "consumer"), [], context.root, named)
    end

    @tag :slow
    test "takes a prebuilt guardian and runs no cargo", context do
      prebuilt = Path.join(context.root, "prebuilt")
      File.write!(prebuilt, "#!/bin/sh\necho prebuilt #{@version}\n")
      File.chmod!(prebuilt, 0o755)
      bin = fake_cargo(context, "echo called >> #{context.root}/cargo-was-called; exit 1")

      {output, status} = mix(context, ["compile"], [{"PROTON_GUARDIAN", prebuilt}, {"PATH", bin}])

      assert status == 0, output
      refute File.exists?(Path.join(context.root, "cargo-was-called"))
      assert assert_runs(built(context.consumer)) =~ "prebuilt"
    end

    @tag :slow
    test "shows what cargo said when the build fails, and what is missing", context do
      change_a_rust_file(context)
      bin = fake_cargo(context, "echo 'error: linker `cc` not found'; exit 101")
      {output, status} = mix(context, ["compile"], [{"PATH", bin}])
      assert status != 0
      assert output =~ "linker `cc` not found"
      assert output =~ "apt-get install gcc libc6-dev"
    end

    @tag :slow
    test "gets a dynamically linked guardian where a static one can't be linked", context do
      change_a_rust_file(context)
      cargo = System.find_executable("cargo")

      bin =
        fake_cargo(context, """
        if env | grep -q '^CARGO_TARGET_.*_RUSTFLAGS=.*crt-static'; then
          echo 'error: linking with `cc` failed: cannot find -lc'; exit 101
        fi
        exec #{cargo} "$@"
        """)

      {output, status} = mix(context, ["compile"], [{"PATH", bin}])
      assert status == 0, output
      assert output =~ "linked dynamically"
      assert_runs(built(context.consumer))
    end

    @tag :slow
    test "has a static guardian linked also where data can't begin with a page", context do
      change_a_rust_file(context)

      # The second try is as far as this goes.
      bin =
        fake_cargo(context, """
        case $(env | grep '^CARGO_TARGET_.*_RUSTFLAGS=') in
          *crt-static*separate-loadable-segments) echo 'error: linking with `ld` failed' ;;
          *crt-static) echo 'error: the second try' ;;
          *) echo 'error: too many tries' ;;
        esac
        exit 101
        """)

      {output, status} = mix(context, ["compile"], [{"PATH", bin}])
      assert status != 0
      assert output =~ "the second try"
    end

    test "hears that its cargo is too old, and which one would do", context do
      change_a_rust_file(context)
      bin = fake_cargo(context, "", "1.60.0")
      {output, status} = mix(context, ["compile"], [{"PATH", bin}])
      assert status != 0
      assert output =~ "with Rust 1.85 or newer, and this cargo is 1.60.0"
      assert output =~ "rustup.rs"
    end
  end

  describe "in words" do
    test "a missing cargo is named, with where to get it" do
      with_env("PROTON_GUARDIAN", nil)
      with_env("PATH", "")
      assert sentence() =~ "there is no cargo in PATH. Install Rust from https://rustup.rs"
    end

    test "a PROTON_GUARDIAN that isn't executable is refused" do
      path = Path.join(System.tmp_dir!(), "not_executable_#{System.os_time()}")
      on_exit(fn -> File.rm(path) end)
      File.write!(path, "")
      File.chmod!(path, 0o644)
      with_env("PROTON_GUARDIAN", path)
      assert sentence() =~ "PROTON_GUARDIAN names #{inspect(path)}, which isn't executable"
    end

    test "a PROTON_GUARDIAN that doesn't exist, isn't a file or isn't absolute is refused" do
      for {path, why} <- [
            {"/no/such/file", "no such file or directory"},
            {System.tmp_dir!(), "isn't a file"},
            {"target/proton-guardian", "isn't an absolute path"}
          ] do
        with_env("PROTON_GUARDIAN", path)
        assert sentence() =~ why
      end
    end

    test "another system than Linux is refused in one sentence" do
      assert ProtonGuardian.check_system({:unix, :linux}) == :ok
      assert {:error, sentence} = ProtonGuardian.check_system({:unix, :darwin})
      assert sentence =~ "Linux 5.4 or newer only, and this system is darwin"
    end
  end

  ## Packages and projects

  defp copy_package(package) do
    for pattern <- Mix.Project.config()[:package][:files],
        source <- Path.wildcard(pattern, match_dot: true) do
      target = Path.join(package, source)
      File.mkdir_p!(Path.dirname(target))
      File.cp_r!(source, target)
    end
  end

  defp write_consumer(consumer, package) do
    File.mkdir_p!(Path.join(consumer, "lib"))

    File.write!(Path.join(consumer, "mix.exs"), """
    defmodule Consumer.MixProject do
      use Mix.Project

      def project do
        [
          app: :consumer,
          version: "0.1.0",
          escript: [main_module: Consumer],
          deps: [{:proton_stream, path: #{inspect(package)}}]
        ]
      end

      def application, do: [extra_applications: [:logger]]
    end
    """)

    File.write!(Path.join(consumer, "lib/consumer.ex"), """
    defmodule Consumer do
      def main(_) do
        case ProtonStream.open("echo", ["hello"]) do
          {:ok, ps} ->
            receive do
              {^ps, {:data, data}} -> IO.write(data)
            end

          {:error, reason} ->
            IO.puts("not started: \#{inspect(reason)}")
        end
      end
    end
    """)
  end

  defp built(consumer),
    do: Path.join(consumer, "_build/prod/lib/proton_stream/priv/proton-guardian")

  defp assert_runs(executable) do
    assert {output, 0} = System.cmd(executable, ["--version"], stderr_to_stdout: true)
    assert output =~ @version
    output
  end

  # So that the next compile has something to do.
  defp change_a_rust_file(context) do
    main = Path.join(context.package, "crates/guardian/src/main.rs")
    File.write!(main, "// #{System.unique_integer()}\n", [:append])
  end

  defp mix(context, args, env \\ []) do
    target_dir = Path.join(Mix.Project.app_path(), "cargo")
    cmd("mix", args, context.consumer, [{"CARGO_TARGET_DIR", target_dir} | env])
  end

  defp cmd(command, args, directory, env \\ []) do
    env = [{"MIX_ENV", "prod"}, {"MIX_BUILD_PATH", nil}, {"PROTON_GUARDIAN", nil} | env]
    System.cmd(command, args, cd: directory, env: env, stderr_to_stdout: true)
  end

  # A PATH that begins with a cargo of ours, which tells a version as the real one
  # does and otherwise runs `script`.
  defp fake_cargo(context, script, version \\ "1.999.0") do
    bin = Path.join(context.root, "bin-#{System.unique_integer([:positive])}")
    File.mkdir_p!(bin)
    {real, 0} = System.cmd("cargo", ["-vV"])
    told = String.replace(real, ~r/^release: .*/m, "release: #{version}")

    File.write!(Path.join(bin, "cargo"), """
    #!/bin/sh
    if [ "$1" = -vV ]; then cat #{bin}/version; exit; fi
    #{script}
    """)

    File.write!(Path.join(bin, "version"), told)
    File.chmod!(Path.join(bin, "cargo"), 0o755)
    "#{bin}:#{System.get_env("PATH")}"
  end

  ## This VM's own compiler, on its way to an error

  defp sentence do
    shell = Mix.shell()
    Mix.shell(Mix.Shell.Process)
    on_exit(fn -> Mix.shell(shell) end)
    assert {:error, [%{severity: :error, message: message}]} = ProtonGuardian.run(["--force"])
    assert_received {:mix_shell, :error, [^message]}
    message
  end

  defp with_env(name, value) do
    before = System.get_env(name)
    on_exit(fn -> put_env(name, before) end)
    put_env(name, value)
  end

  defp put_env(name, nil), do: System.delete_env(name)
  defp put_env(name, value), do: System.put_env(name, value)
end
