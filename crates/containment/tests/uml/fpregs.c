// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0
//
// Preloaded into the user-mode Linux of the tests. That one writes the floating point registers of
// its processes with as many bytes as processors had when it was built; the host's kernel takes
// all that its own processor has or nothing (EFAULT), and with AMX these are 11,008. So what is
// missing is filled in with what is there.

#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static long set_all(pid_t pid, const struct iovec *some) {
  static char registers[64 * 1024];
  struct iovec all = {registers, sizeof registers};
  if (syscall(SYS_ptrace, PTRACE_GETREGSET, pid, NT_X86_XSTATE, &all) < 0) return -1;
  memcpy(registers, some->iov_base, some->iov_len < all.iov_len ? some->iov_len : all.iov_len);
  return syscall(SYS_ptrace, PTRACE_SETREGSET, pid, NT_X86_XSTATE, &all);
}

long ptrace(enum __ptrace_request request, ...) {
  va_list list;
  va_start(list, request);
  pid_t pid = va_arg(list, pid_t);
  void *address = va_arg(list, void *);
  void *data = va_arg(list, void *);
  va_end(list);
  if (request == PTRACE_SETREGSET && address == (void *)NT_X86_XSTATE) return set_all(pid, data);
  // The kernel stores what these read; the C library's function returns it.
  long word;
  int is_peek = request >= PTRACE_PEEKTEXT && request <= PTRACE_PEEKUSER;
  if (is_peek) data = &word;
  long result = syscall(SYS_ptrace, request, pid, address, data);
  if (!is_peek || result < 0) return result;
  errno = 0;
  return word;
}
