#!/usr/bin/env python3
"""Prints the names of the functions that a running process executes within some seconds: executed.py PID SECONDS
Or runs a program, and adds to a file when which functions were first executed: executed.py --all FILE PROGRAM ARGUMENT...

Puts a breakpoint on the entry of every function of its program, and takes each away when it is reached: what is executed often
costs nothing more. Unlike counters compiled in, this tells of the program as it is released. x86-64, root.

With --all this process stands in for the program: it ends with it, and passes on the signals that ask to end. Lines of the
file are seconds since the program was started, and names."""
import ctypes
import errno
import os
import signal
import subprocess
import sys
import time

SEIZE, INTERRUPT, DETACH, CONT, GETREGS, SETREGS = 0x4206, 0x4207, 17, 7, 12, 13
TRACE_ME, SET_OPTIONS = 0, 0x4200
TRACE_CLONE, EXIT_KILL = 0x8, 0x100000
ALL_KINDS = 0x40000000
BREAKPOINT = b"\xcc"
RIP = 16
# e_type of a program that is not relocated (elf(5)).
EXECUTABLE = 2
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
LIBC.ptrace.restype = ctypes.c_long


def ptrace(request, thread, data=None):
    if LIBC.ptrace(request, thread, None, data) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")


def functions(program):
    """Address -> names, as the program's file says."""
    found = {}
    for line in subprocess.run(["readelf", "-sW", program], check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines():
        fields = line.split()
        if len(fields) == 8 and fields[3] == "FUNC" and fields[6] != "UND" and int(fields[2], 0):
            found.setdefault(int(fields[1], 16), []).append(fields[7])
    return found


def load_address(pid, program):
    """How far the program is from the addresses in its file: nowhere, where it is linked to fixed ones."""
    with open(program, "rb") as file:
        if file.read(18)[16] == EXECUTABLE:
            return 0
    with open(f"/proc/{pid}/maps") as maps:
        for line in maps:
            fields = line.split()
            if len(fields) > 5 and fields[5] == program:
                return int(fields[0].split("-")[0], 16) - int(fields[2], 16)
    raise SystemExit(f"{program} is not mapped")


class Traced:
    def __init__(self, pid):
        program = os.readlink(f"/proc/{pid}/exe")
        base = load_address(pid, program)
        self.pid, self.names = pid, {base + at: names for at, names in functions(program).items()}
        self.memory = os.open(f"/proc/{pid}/mem", os.O_RDWR)
        self.threads, self.reached, self.status = set(), [], None

    def attach(self):
        """To a process that runs."""
        for thread in map(int, os.listdir(f"/proc/{self.pid}/task")):
            ptrace(SEIZE, thread, TRACE_CLONE)
            self.threads.add(thread)
        self.stop_all()
        self.break_everywhere()

    def break_everywhere(self):
        self.before = {at: os.pread(self.memory, 1, at) for at in self.names}
        for at in self.names:
            os.pwrite(self.memory, BREAKPOINT, at)
        self.resume_all()

    def stop_all(self):
        for thread in list(self.threads):
            try:
                ptrace(INTERRUPT, thread)
                os.waitpid(thread, ALL_KINDS)
            except (ProcessLookupError, ChildProcessError):
                self.threads.discard(thread)

    def resume_all(self):
        for thread in self.threads:
            ptrace(CONT, thread)

    def step_back(self, thread):
        """Takes the breakpoint away that the thread ran into, and lets it execute what was there."""
        registers = (ctypes.c_ulonglong * 27)()
        ptrace(GETREGS, thread, ctypes.cast(registers, ctypes.c_void_p))
        at = registers[RIP] - 1
        if at not in self.names:
            return False
        if os.pread(self.memory, 1, at) == BREAKPOINT:
            os.pwrite(self.memory, self.before[at], at)
            self.reached.append(at)
        registers[RIP] = at
        ptrace(SETREGS, thread, ctypes.cast(registers, ctypes.c_void_p))
        return True

    def handle(self, thread, status):
        if not os.WIFSTOPPED(status):
            self.threads.discard(thread)
            if thread == self.pid:
                self.status = status
            return
        self.threads.add(thread)
        event, stopped_by, deliver = status >> 16, os.WSTOPSIG(status), 0
        if not event and not (stopped_by == signal.SIGTRAP and self.step_back(thread)):
            deliver = stopped_by
        try:
            ptrace(CONT, thread, deliver)
        except ProcessLookupError:
            self.threads.discard(thread)

    def run(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.status is None:
            thread, status = os.waitpid(-1, ALL_KINDS | os.WNOHANG)
            if thread:
                self.handle(thread, status)
            else:
                time.sleep(0.001)

    def leave(self):
        for at, byte in self.before.items():
            os.pwrite(self.memory, byte, at)
        for thread in list(self.threads):
            try:
                ptrace(INTERRUPT, thread)
                _, status = os.waitpid(thread, ALL_KINDS)
                if not status >> 16 and os.WSTOPSIG(status) == signal.SIGTRAP:
                    self.step_back(thread)
                ptrace(DETACH, thread)
            except OSError as error:
                if error.errno not in (errno.ESRCH, errno.ECHILD):
                    raise


class Started(Traced):
    """A program from its first instruction to its end."""

    def __init__(self, file, command):
        pid = os.fork()
        if pid == 0:
            ptrace(TRACE_ME, 0)
            os.execv(command[0], command)
        os.waitpid(pid, 0)
        super().__init__(pid)
        self.file = open(file, "a", buffering=1)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: os.kill(pid, number))
        ptrace(SET_OPTIONS, pid, TRACE_CLONE | EXIT_KILL)
        self.threads.add(pid)
        self.start = time.monotonic()
        self.break_everywhere()

    def step_back(self, thread):
        known = len(self.reached)
        ours = super().step_back(thread)
        for at in self.reached[known:]:
            print(f"{time.monotonic() - self.start:.2f}", *self.names[at], file=self.file)
        return ours


def running(pid, seconds):
    traced = Traced(pid)
    traced.attach()
    try:
        traced.run(seconds)
    finally:
        traced.leave()
    for at in traced.reached:
        print("\n".join(traced.names[at]))


if sys.argv[1] == "--all":
    started = Started(sys.argv[2], sys.argv[3:])
    started.run(float("inf"))
    sys.exit(os.waitstatus_to_exitcode(started.status) % 256)
running(int(sys.argv[1]), float(sys.argv[2]))
