"""Applies the restrictions of a systemd unit on a machine without systemd, for `scripts/check/systemd.sh`.

    python3 sandbox.py run UNIT PROGRAM [ARGUMENT…]   becomes PROGRAM, under the unit's filters of system calls
    python3 sandbox.py calls UNIT TRACE PROGRAM       checks the system calls of PROGRAM, as strace recorded them

The filters are those that systemd derives from SystemCallFilter=, SystemCallArchitectures=, RestrictAddressFamilies= and
MemoryDenyWriteExecute= (seccomp(2), systemd.exec(5)), with the sets that `systemd-analyze syscall-filter` prints. UMask=,
LimitNOFILE=, LimitCORE= and NoNewPrivileges= apply, too. This file stands alone, as it is copied to a place that every user
may read.
"""

import ctypes
import os
import re
import resource
import struct
import subprocess
import sys

# Architecture (linux/audit.h), and the header that numbers its system calls.
MACHINES = {
    "x86_64": (0xC000003E, "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": (0xC00000B7, "/usr/include/asm-generic/unistd.h"),
}
FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10}
EPERM, EAFNOSUPPORT = 1, 97
PROT_WRITE, PROT_EXEC, SHM_EXEC = 2, 4, 0o100000
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x80000000
# Instructions (linux/bpf_common.h): load a word, equal?, any of these bits?, and, return.
LOAD, EQUAL, ANY_BIT, AND, RETURN = 0x20, 0x15, 0x45, 0x54, 0x06
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data


def settings(unit):
    """Returns the values of each key, in order; an empty value discards those before it."""
    found = {}
    with open(unit, encoding="utf-8") as lines:
        for line in lines:
            key, equals, value = line.strip().partition("=")
            if equals and not line.startswith(("#", ";")):
                found.setdefault(key, [])
                found[key] = found[key] + [value] if value else []
    return found


def sets():
    """Returns the names in each set of system calls, as this machine's systemd defines them."""
    text = subprocess.run(
        ["systemd-analyze", "--no-pager", "syscall-filter"], check=True, capture_output=True, text=True
    ).stdout
    found, name = {}, None
    for line in text.splitlines():
        word = line.strip()
        if re.fullmatch(r"@[\w-]+", line):
            name = line
            found[name] = []
        elif word.startswith("# Unlisted"):
            name = None
        elif name and word and not word.startswith("#"):
            found[name].append(word)
    return found


def expand(word, known):
    if not word.startswith("@"):
        return {word}
    return set().union(*(expand(inner, known) for inner in known[word]))


def allowed(unit):
    """Returns the system calls that the unit's SystemCallFilter= allows."""
    known, calls = sets(), set()
    for value in unit["SystemCallFilter"]:
        words = set().union(*(expand(word, known) for word in value.lstrip("~").split()))
        calls = calls - words if value.startswith("~") else calls | words
    # systemd always allows these (systemd.exec(5)).
    return calls | expand("@default", known) | {"execve", "exit", "exit_group", "rt_sigreturn", "sigreturn"}


def families(unit):
    return set(" ".join(unit["RestrictAddressFamilies"]).split())


def program(unit):
    """Returns the filter's instructions, packed, and their number."""
    architecture, header = MACHINES[os.uname().machine]
    with open(header, encoding="utf-8") as text:
        numbers = dict(re.findall(r"#define __NR3?2?6?4?_(\w+)\s+(\d+)", text.read()))
    number = {name: int(value) for name, value in numbers.items()}
    code = [(LOAD, 0, 0, ARCHITECTURE), (EQUAL, 1, 0, architecture), (RETURN, 0, 0, KILL)]

    def when(name, checks):
        """For this call, the checks; they end with the argument in hand, which is let through."""
        code.extend([(LOAD, 0, 0, NUMBER), (EQUAL, 0, len(checks), number[name]), *checks])

    argument = lambda n: (LOAD, 0, 0, ARGUMENTS + 8 * n)
    refuse = lambda error: (RETURN, 0, 0, ERRNO | error)
    if unit.get("MemoryDenyWriteExecute") == ["yes"]:
        both = PROT_WRITE | PROT_EXEC
        when("mmap", [argument(2), (AND, 0, 0, both), (EQUAL, 0, 1, both), refuse(EPERM)])
        for name in ("mprotect", "pkey_mprotect"):
            when(name, [argument(2), (ANY_BIT, 0, 1, PROT_EXEC), refuse(EPERM)])
        when("shmat", [argument(2), (ANY_BIT, 0, 1, SHM_EXEC), refuse(EPERM)])
    listed = [FAMILIES[name] for name in sorted(families(unit))]
    jumps = [(EQUAL, len(listed) - n, 0, family) for n, family in enumerate(listed)]
    when("socket", [argument(0), *jumps, refuse(EAFNOSUPPORT)])
    code.append((LOAD, 0, 0, NUMBER))
    for name in sorted(allowed(unit)):
        if name in number:
            code.extend([(EQUAL, 0, 1, number[name]), (RETURN, 0, 0, ALLOW)])
    code.append(refuse(EPERM))
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code), len(code)


def run(unit, command):
    os.umask(int(unit["UMask"][-1], 8))
    for limit, name in ((resource.RLIMIT_NOFILE, "LimitNOFILE"), (resource.RLIMIT_CORE, "LimitCORE")):
        value = int(unit[name][-1])
        hard = resource.getrlimit(limit)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))
    instructions, length = program(unit)
    buffer = ctypes.create_string_buffer(instructions, len(instructions))
    filter_program = struct.pack("HxxxxxxP", length, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter_program, 0, 0)):
        if libc.prctl(*arguments) != 0:
            sys.exit(f"sandbox.py: prctl: {os.strerror(ctypes.get_errno())}")
    os.execv(command[0], command)


def calls(unit, trace, binary):
    """Checks all calls after the execve of the binary: each is allowed, and no memory is both writable and executable."""
    permitted, used, problems, ours = allowed(unit), set(), [], False
    with open(trace, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            call = re.match(r"\d+ +(\w+)\((.*)", line)
            if not call:
                continue
            name, rest = call.groups()
            ours = ours or (name == "execve" and rest.startswith(f'"{binary}"'))
            if not ours:
                continue
            used.add(name)
            if name in ("mmap", "mprotect", "pkey_mprotect") and "PROT_EXEC" in rest and "PROT_WRITE" in rest:
                problems.append(line.strip())
            family = re.match(r"AF_\w+", rest)
            # The C library asks over netlink for the machine's addresses, and works without the answer.
            if name == "socket" and family[0] not in families(unit) | {"AF_NETLINK"}:
                problems.append(line.strip())
    outside = sorted(used - permitted)
    if outside:
        problems.append(f"outside SystemCallFilter=: {' '.join(outside)}")
    # A trace without these calls saw no work and proves nothing.
    missing = {"fdatasync", "accept4", "sendto", "epoll_wait"} - used
    if missing:
        problems.append(f"the trace has no {' '.join(sorted(missing))}: {len(used)} calls seen")
    if problems:
        sys.exit("sandbox.py: " + "\n".join(problems[:20]))
    print(f"{len(used)} system calls used, all of them allowed")


if __name__ == "__main__":
    what, path, *others = sys.argv[1:]
    if what == "run":
        run(settings(path), others)
    else:
        calls(settings(path), *others)
