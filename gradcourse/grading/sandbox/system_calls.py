"""The system calls that a submission may make, as a filter for the kernel.

An allowlist: a call that is not named here is refused, those of future kernels included. The filter is made outside the
sandbox, with libseccomp, and loaded inside it as plain bytes.
"""

import errno
import tempfile
from functools import cache

_ALLOWED = """
read readv pread64 preadv preadv2 write writev pwrite64 pwritev pwritev2 lseek close close_range dup dup2 dup3
open openat openat2 creat stat lstat fstat newfstatat statx statfs fstatfs access faccessat faccessat2
readlink readlinkat getdents getdents64 getcwd chdir fchdir umask
mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 link linkat symlink symlinkat
ftruncate fallocate fsync fdatasync flock fadvise64 sync_file_range sendfile
brk mmap munmap mremap mprotect madvise mincore msync pkey_alloc pkey_free pkey_mprotect membarrier get_mempolicy
futex futex_waitv set_robust_list get_robust_list rseq set_tid_address arch_prctl
sched_yield sched_getaffinity sched_getparam sched_getscheduler sched_get_priority_max sched_get_priority_min getcpu
rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigsuspend rt_sigtimedwait sigaltstack pause
restart_syscall alarm getitimer setitimer nanosleep clock_nanosleep clock_gettime clock_getres
gettimeofday time times getrusage sysinfo uname getrandom
getpid gettid getppid getpgrp getpgid getsid getuid geteuid getgid getegid getgroups getresuid getresgid
getpriority getrlimit capget
pipe pipe2 poll ppoll select pselect6 eventfd eventfd2
epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2
sendto sendmsg recvfrom recvmsg shutdown getsockopt setsockopt getsockname getpeername
wait4 waitid exit exit_group
""".split()  # noqa: SIM905 (a list that people read)

_CLONE_THREAD = 0x10000
_UNIX, _STREAM, _SOCKET_TYPES = 1, 1, 0xF  # a datagram socket could write to others by their names
_CHOICES = {  # calls that are allowed for these values of one argument
    "ioctl": (1, (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)),  # ask for terminals, sizes; FIONBIO, FIOCLEX
    "fcntl": (1, (0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1030, 1032, 1034)),  # all but those that send signals
    "prctl": (0, (15, 16, 0x53564D41)),  # names of threads and of memory
}


@cache
def filter_program():
    """Return the filter as the kernel's program (an array of struct sock_filter), for this machine's processor.

    Raises:
        ImportError: without pyseccomp.
        RuntimeError, OSError: without the system's libseccomp.
    """
    import pyseccomp as seccomp

    program = seccomp.SyscallFilter(seccomp.ERRNO(errno.EPERM))
    _add(program, seccomp.ERRNO(errno.ENOSYS), "clone3")  # the C library then starts threads with clone
    for name in _ALLOWED:
        _add(program, seccomp.ALLOW, name)
    for name, (position, values) in _CHOICES.items():
        for value in values:
            _add(program, seccomp.ALLOW, name, seccomp.Arg(position, seccomp.EQ, value))
    for name, *conditions in _conditional(seccomp):
        _add(program, seccomp.ALLOW, name, *conditions)
    with tempfile.TemporaryFile() as file:
        program.export_bpf(file)
        file.seek(0)
        return file.read()


def _conditional(seccomp):
    """List calls with what must hold of their arguments, all of it."""
    yield "clone", seccomp.Arg(0, seccomp.MASKED_EQ, _CLONE_THREAD, _CLONE_THREAD)
    yield "prlimit64", seccomp.Arg(0, seccomp.EQ, 0), seccomp.Arg(2, seccomp.EQ, 0)  # ask for one's own limits
    yield "socketpair", seccomp.Arg(0, seccomp.EQ, _UNIX), seccomp.Arg(1, seccomp.MASKED_EQ, _SOCKET_TYPES, _STREAM)


def _add(program, action, name, *conditions):
    import pyseccomp

    number = pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name)
    if number >= 0:  # this processor and this libseccomp know the call
        program.add_rule(action, number, *conditions)
