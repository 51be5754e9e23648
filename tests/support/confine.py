"""Runs a program in a part of a unit's sandbox, without systemd.

    confine.py executable-memory PROGRAM ARGUMENT…    as MemoryDenyWriteExecute=yes
    confine.py memfd-create PROGRAM ARGUMENT…         as a SystemCallFilter= without memfd_create

Ends with 77 if the kernel cannot do it.
"""

import ctypes
import os
import platform
import struct
import sys

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, PR_SET_MDWE = 22, 38, 65
FILTER_MODE, REFUSE_EXEC_GAIN = 2, 1
MEMFD_CREATE = {"x86_64": 319, "aarch64": 279}
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, EPERM = 0x7FFF0000, 0x00050001


def prctl(*arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(*(ctypes.c_ulong(argument) for argument in arguments)) != 0:
        print(f"confine: {os.strerror(ctypes.get_errno())}", file=sys.stderr)
        sys.exit(77)


def forbid_call(number):
    instructions = [
        (LOAD, 0, 0, 0),
        (JUMP_IF_EQUAL, 0, 1, number),
        (RETURN, 0, 0, EPERM),
        (RETURN, 0, 0, ALLOW),
    ]
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in instructions)
    code = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HxxxxxxP", len(instructions), ctypes.addressof(code))
    program = ctypes.create_string_buffer(program, len(program))
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    prctl(PR_SET_SECCOMP, FILTER_MODE, ctypes.addressof(program), 0, 0)


what, program = sys.argv[1], sys.argv[2:]
if what == "executable-memory":
    prctl(PR_SET_MDWE, REFUSE_EXEC_GAIN, 0, 0, 0)
else:
    if platform.machine() not in MEMFD_CREATE:
        sys.exit(77)
    forbid_call(MEMFD_CREATE[platform.machine()])
os.execv(program[0], program)
