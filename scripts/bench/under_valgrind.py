"""Runs a command of valgrind on a program that uses the vDSO without the C library, as the service does.

    python3 scripts/bench/under_valgrind.py valgrind --tool=callgrind PROGRAM

Valgrind hides the vDSO from the program's auxiliary vector and unmaps it, but passes prctl(PR_GET_AUXV) (Linux 6.4) to the kernel,
which still reports its address: the program then reads unmapped memory. A seccomp filter makes that one call fail as on an older
Linux, and the program reads the vector that valgrind has prepared.
"""

import ctypes
import os
import struct
import sys

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, PR_GET_AUXV = 22, 38, 0x4155_5856
SECCOMP_MODE_FILTER = 2
SECCOMP_RET_ALLOW, SECCOMP_RET_EINVAL = 0x7FFF_0000, 0x0005_0000 | 22
LOAD_WORD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
# Offsets in `struct seccomp_data`: the number of the system call, and the low half of its first argument.
NUMBER, FIRST_ARGUMENT = 0, 16
PRCTL = {"x86_64": 157, "aarch64": 167}[os.uname().machine]
FILTER = [
    (LOAD_WORD, 0, 0, NUMBER),
    (JUMP_IF_EQUAL, 0, 3, PRCTL),
    (LOAD_WORD, 0, 0, FIRST_ARGUMENT),
    (JUMP_IF_EQUAL, 0, 1, PR_GET_AUXV),
    (RETURN, 0, 0, SECCOMP_RET_EINVAL),
    (RETURN, 0, 0, SECCOMP_RET_ALLOW),
]


def main():
    instructions = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in FILTER))
    program = struct.pack("@HP", len(FILTER), ctypes.addressof(instructions))
    libc = ctypes.CDLL(None, use_errno=True)
    for call in [(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0)]:
        if libc.prctl(*call) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
