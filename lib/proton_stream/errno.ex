# SPDX-FileCopyrightText: 2026 The proton_stream authors
# SPDX-License-Identifier: Apache-2.0

defmodule ProtonStream.Errno do
  @moduledoc false

  # Linux's error numbers, as on all architectures that use asm-generic/errno.h
  # (x86, ARM, RISC-V). Alpha, MIPS, PA-RISC and SPARC number those above 34
  # differently.

  # 41 and 58 were never given out.
  @names ~w(eperm enoent esrch eintr eio enxio e2big enoexec ebadf echild eagain enomem
            eacces efault enotblk ebusy eexist exdev enodev enotdir eisdir einval enfile
            emfile enotty etxtbsy efbig enospc espipe erofs emlink epipe edom erange
            edeadlk enametoolong enolck enosys enotempty eloop 41 enomsg eidrm echrng
            el2nsync el3hlt el3rst elnrng eunatch enocsi el2hlt ebade ebadr exfull enoano
            ebadrqc ebadslt 58 ebfont enostr enodata etime enosr enonet enopkg eremote
            enolink eadv esrmnt ecomm eproto emultihop edotdot ebadmsg eoverflow enotuniq
            ebadfd eremchg elibacc elibbad elibscn elibmax elibexec eilseq erestart
            estrpipe eusers enotsock edestaddrreq emsgsize eprototype enoprotoopt
            eprotonosupport esocktnosupport eopnotsupp epfnosupport eafnosupport
            eaddrinuse eaddrnotavail enetdown enetunreach enetreset econnaborted
            econnreset enobufs eisconn enotconn eshutdown etoomanyrefs etimedout
            econnrefused ehostdown ehostunreach ealready einprogress estale euclean
            enotnam enavail eisnam eremoteio edquot enomedium emediumtype ecanceled
            enokey ekeyexpired ekeyrevoked ekeyrejected eownerdead enotrecoverable
            erfkill ehwpoison)

  @doc "The error's name as an atom, as `File` and `Port` have it; an unknown one stays a number."
  @spec name(non_neg_integer()) :: atom() | non_neg_integer()
  for {name, number} <- Enum.with_index(@names, 1), not (name =~ ~r/^\d/) do
    def name(unquote(number)), do: unquote(String.to_atom(name))
  end

  def name(number), do: number
end
