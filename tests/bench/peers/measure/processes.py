"""Processes: starting them so that they end with the measurement, and reading what they cost."""

import ctypes
import os
import pathlib
import signal
import socket
import subprocess
import time
import urllib.request

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


def free_port():
    """A port of the loopback address that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def get(url, body=None):
    """The body of a response to GET, or to POST if there is a body."""
    with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=20) as response:
        return response.read()


def listens(port, request=b"", answer=b""):
    """Whether a server on the loopback address takes connections and answers a request with these bytes."""
    with socket.create_connection(("127.0.0.1", port), 1) as connection:
        connection.sendall(request)
        return not answer or connection.recv(64).startswith(answer)


def wait_until(seconds, what, condition):
    """Waits until a condition holds; a connection that cannot be made counts as false."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if condition():
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise RuntimeError(f"{what}: not within {seconds} s")


def spawn(command, folder, log, env=None):
    """Starts a process that the system ends when the measurement itself is killed. What it prints goes into the log."""
    with open(log, "ab") as output:
        return subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=folder,
            env={**os.environ, **(env or {})}, preexec_fn=lambda: LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
        )


def stat(pid):
    """Name, parent and processor seconds of a process. Its name can contain spaces and parentheses."""
    text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    fields = text[text.rindex(")") + 2:].split()
    return text[text.index("(") + 1:text.rindex(")")], int(fields[1]), (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def below(roots):
    """The processes below some, these included: their stat by pid."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            found[int(name)] = stat(name)
        except OSError:
            pass  # It has ended.
    mine = {pid for pid in roots if pid in found}
    while more := {pid for pid, (_, parent, _) in found.items() if parent in mine} - mine:
        mine |= more
    return {pid: found[pid] for pid in mine}


def lines_with(path, *beginnings):
    """Numbers in lines such as `VmHWM:  123 kB`, in the order of the beginnings."""
    with open(path) as lines:
        values = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith(beginnings)}
    return [values.get(beginning, 0) for beginning in beginnings]


class Watch:
    """What some processes and all below them have cost since `start`."""

    def __init__(self, pids, shared_memory=False):
        self.pids, self.shared_memory = pids, shared_memory
        self.cpu, self.resident, self.shares, self.wrote = {}, {}, 0, {}
        self.start_cpu = self.start_wrote = 0

    def start(self):
        self.sample()
        self.start_cpu, self.start_wrote = sum(self.cpu.values()), sum(self.wrote.values())

    def sample(self):
        """Processor seconds so far. Those of a process that has ended are those of its last sample."""
        shares = 0
        self.wrote = {}
        for pid, (_, _, seconds) in below(self.pids).items():
            self.cpu[pid] = seconds
            try:
                [self.resident[pid]] = lines_with(f"/proc/{pid}/status", "VmHWM")
                # A process that has ended adds this to its parent, so only those that live are added up.
                [self.wrote[pid]] = lines_with(f"/proc/{pid}/io", "write_bytes")
                if self.shared_memory:
                    shares += lines_with(f"/proc/{pid}/smaps_rollup", "Pss")[0]
            except OSError:
                pass
        self.shares = max(self.shares, shares)
        return sum(self.cpu.values()) - self.start_cpu

    def memory(self):
        """Peak of memory in bytes: the sum of the peaks of all processes, or the peak of the sum of their shares."""
        return (self.shares if self.shared_memory else sum(self.resident.values())) * 1024

    def written(self):
        """Bytes that went to the disk."""
        return max(0, sum(self.wrote.values()) - self.start_wrote)


def on_disk(folder):
    """Bytes that the files of a folder occupy."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(root, name)).st_blocks * 512
            except OSError:
                pass  # It was removed meanwhile.
    return total
