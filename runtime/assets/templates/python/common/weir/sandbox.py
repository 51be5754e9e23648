"""What a plugin has not: a clock, randomness, files, and modules that were not imported while the component was built.

Without this module asking for one of them would end the whole batch without a word. With it an exception says what is missing, and
costs one item. What is printed goes to the log. Imported before the plugin, so that the plugin sees what is put here.
"""

import builtins
import datetime
import io
import os
import sys
import time

from . import log

_awake = False

_NO_CLOCK = "a plugin has no clock, because the same event must always give the same result; take the time from the event"
_NO_CHANCE = "a plugin has no randomness, because the same event must always give the same result"
_NO_FILES = "a plugin has no files"


def wake() -> None:
    """The component is built; calls begin."""
    global _awake
    if _awake:
        return
    _awake = True
    sys.stdout, sys.stderr = _Lines(log.info), _Lines(log.warn)
    sys.meta_path[:] = [_NoModules()]
    chance = sys.modules.get("random")
    for name in getattr(chance, "__all__", ()):
        if callable(getattr(chance, name)) and not isinstance(getattr(chance, name), type) and name != "seed":
            setattr(chance, name, _missing(f"random.{name}", getattr(chance, name), RuntimeError, _NO_CHANCE))


def _missing(name: str, original, error: type, why: str):
    """As the original while the component is built; afterwards an exception."""

    def missing(*arguments, **named):
        if _awake:
            raise error(f"{name}: {why}")
        return original(*arguments, **named)

    return missing


class _Datetime(datetime.datetime):
    """The one way to the clock that does not lead through the module `time`."""

    @classmethod
    def now(cls, tz=None):
        """As the original while the component is built."""
        return _now(super().now, tz)

    @classmethod
    def utcnow(cls):
        """As the original while the component is built."""
        return _now(super().utcnow)


def _now(original, *arguments):
    return _missing("datetime.now", original, RuntimeError, _NO_CLOCK)(*arguments)


class _Lines(io.TextIOBase):
    """What is printed, a line of the log for each line."""

    def __init__(self, write):
        self._write = write
        self._rest = ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._write(line)
        return len(text)

    def writable(self) -> bool:
        return True


class _NoModules:
    """Asked for a module that was not imported in time."""

    @staticmethod
    def find_spec(name: str, path=None, target=None):
        raise ModuleNotFoundError(f"{name}: a plugin has no files, so import it at the top of plugin.py and not in a function", name=name)


_Datetime.__name__ = _Datetime.__qualname__ = "datetime"
_Datetime.__module__ = "datetime"
datetime.datetime = _Datetime
for _name in ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "process_time", "sleep"):
    setattr(time, _name, _missing(f"time.{_name}", getattr(time, _name, None), RuntimeError, _NO_CLOCK))
for _name in ("open", "stat", "lstat", "listdir", "scandir", "getcwd", "mkdir", "remove", "rename"):
    setattr(os, _name, _missing(f"os.{_name}", getattr(os, _name, None), PermissionError, _NO_FILES))
os.urandom = _missing("os.urandom", os.urandom, RuntimeError, _NO_CHANCE)
builtins.open = io.open = _missing("open", builtins.open, PermissionError, _NO_FILES)
