# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.ErrnoTest do
  use ExUnit.Case, async: true

  test "numbers have Linux's names" do
    for {number, name} <- [
          {1, :eperm},
          {2, :enoent},
          {7, :e2big},
          {8, :enoexec},
          {11, :eagain},
          {13, :eacces},
          {20, :enotdir},
          {40, :eloop},
          {42, :enomsg},
          {57, :ebadslt},
          {59, :ebfont},
          {75, :eoverflow},
          {110, :etimedout},
          {133, :ehwpoison}
        ] do
      assert ProtonStream.Errno.name(number) == name
    end
  end

  test "a number without a name stays a number" do
    for number <- [0, 41, 58, 134, 4_000_000_000],
        do: assert(ProtonStream.Errno.name(number) == number)
  end
end
