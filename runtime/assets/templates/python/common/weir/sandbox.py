"""Replaces everything that a plugin cannot use: the clock, randomness, files, and modules that were not imported in time.

Without this module, using one of them would end the whole batch without a message. With it, an exception says what is
missing, and only one item fails. Printed text goes to the log. This module is imported before the plugin, so that the
plugin sees the replacements.
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
_NO_RANDOMNESS = "a plugin has no randomness, because the same event must always give the same result"
_NO_FILES = "a plugin has no files"


def wake() -> None:
    """Ends the build: from now on the replacements are active."""
    global _awake
    if _awake:
        return
    _awake = True
    sys.stdout, sys.stderr = _Lines(log.info), _Lines(log.warn)
    sys.meta_path[:] = [_NoModules()]
    randomness = sys.modules.get("random")
    for name in getattr(randomness, "__all__", ()):
        if callable(getattr(randomness, name)) and not isinstance(getattr(randomness, name), type) and name != "seed":
            setattr(randomness, name, _missing(f"random.{name}", getattr(randomness, name), RuntimeError, _NO_RANDOMNESS))


def _missing(name: str, original, error: type, why: str):
    """Calls the original while the component is built, and raises an exception afterwards."""

    def missing(*arguments, **named):
        if _awake:
            raise error(f"{name}: {why}")
        return original(*arguments, **named)

    return missing


class _Datetime(datetime.datetime):
    """The only access to the clock that does not use the module `time`."""

    @classmethod
    def now(cls, tz=None):
        """Like the original while the component is built."""
        return _now(super().now, tz)

    @classmethod
    def utcnow(cls):
        """Like the original while the component is built."""
        return _now(super().utcnow)


def _now(original, *arguments):
    return _missing("datetime.now", original, RuntimeError, _NO_CLOCK)(*arguments)


class _Lines(io.TextIOBase):
    """Writes each printed line to the log."""

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
    """Fails for a module that was not imported while the component was built."""

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
os.urandom = _missing("os.urandom", os.urandom, RuntimeError, _NO_RANDOMNESS)
builtins.open = io.open = _missing("open", builtins.open, PermissionError, _NO_FILES)
