"""Replaces everything that a plugin cannot use: the clock, randomness, files, and modules that were not imported in time.

Without this module, using one of them would end the whole batch without a message. With it, an exception says what is
missing, and only one item fails. Printed text goes to the log. This module is imported before the plugin, so that the
plugin sees the replacements.
"""

import builtins
import datetime
import encodings
import importlib
import io
import locale
import os
import pkgutil
import re
import sys
import time

from . import log

_awake = False

_NO_CLOCK = "a plugin has no clock, because the same event must always give the same result; take the time from the event"
_NO_RANDOMNESS = "a plugin has no randomness, because the same event must always give the same result"
_NO_FILES = "a plugin has no files"
_NO_END = "a plugin is a function and cannot end its process; return a result, or raise weir.Failure"
_NO_LOCALES = "a plugin has no locales; write the format yourself"
_NO_ZONES = "a plugin has no files; list tzdata in requirements.txt, and make the zone at the top of plugin.py"


def complete() -> None:
    """Imports what the standard library would import during a call: all encodings, and what the plugin's modules use."""
    for module in pkgutil.iter_modules(encodings.__path__, "encodings."):
        _import(module.name)
    _import("_strptime")
    for name in sorted(_used()):
        for base, names in _imported_late(sys.modules[name]):
            _import(base)
            for inner in names:
                _import(f"{base}.{inner}")


def _import(name: str) -> None:
    try:
        importlib.import_module(name)
    except Exception:
        # A module of another system, or a name that is no module.
        pass


def _used() -> "set[str]":
    """The modules of the standard library that the plugin and its packages use themselves."""
    used = set()
    for name, module in list(sys.modules.items()):
        if module is None or name.split(".")[0] in _NOT_THE_PLUGINS:
            continue
        for value in list(vars(module).values()):
            known = value.__name__ if isinstance(value, type(sys)) else getattr(value, "__module__", None)
            if isinstance(known, str) and known.split(".")[0] in sys.stdlib_module_names and known in sys.modules:
                used.update(name for name in sys.modules if f"{name}.".startswith(f"{known}."))
    return used


_NOT_THE_PLUGINS = {*sys.stdlib_module_names, "weir", "weir_app", "wit_world", "componentize_py_types", "componentize_py_runtime", "componentize_py_async_support"}
#: An import in a function.
_LATE = re.compile(r"^[ \t]+(?:from[ \t]+([.\w]+)[ \t]+import[ \t]+(\w+(?:[ \t]*,[ \t]*\w+)*)|import[ \t]+([.\w]+))", re.MULTILINE)


def _imported_late(module) -> "list[tuple[str, list[str]]]":
    try:
        source = module.__loader__.get_source(module.__name__) or ""
    except Exception:
        return []
    late = []
    for base, names, alone in _LATE.findall(source):
        whole = alone or base
        if whole.startswith("."):
            whole = importlib.util.resolve_name(whole, module.__package__)
        if whole.split(".")[0] not in _NOT_IMPORTED:
            late.append((whole, re.findall(r"\w+", names)))
    return late


#: Modules that do something when they are imported, or are large and useless here.
_NOT_IMPORTED = {"__main__", "antigravity", "asyncio", "ctypes", "idlelib", "multiprocessing", "pdb", "pydoc", "test", "this", "tkinter", "unittest"}


def wake() -> None:
    """Ends the build: from now on the replacements are active."""
    global _awake
    if _awake:
        return
    _awake = True
    sys.stdout, sys.stderr = _Lines(log.info), _Lines(log.warn)
    sys.meta_path[:] = [_NoModules()]
    zones = sys.modules.get("zoneinfo._common")
    if zones is not None:
        zones.load_tzdata = lambda key: _missing(f"ZoneInfo({key!r})", None, zones.ZoneInfoNotFoundError, _NO_ZONES)()
    randomness = sys.modules.get("random")
    for name in getattr(randomness, "__all__", ()):
        if callable(getattr(randomness, name)) and not isinstance(getattr(randomness, name), type) and name != "seed":
            setattr(randomness, name, _missing(f"random.{name}", getattr(randomness, name), RuntimeError, _NO_RANDOMNESS))


def _timed(name: str, original, given: int):
    """A function that takes the time from the clock if it gets fewer than `given` arguments."""
    clock = _missing(f"time.{name}", original, RuntimeError, _NO_CLOCK)

    def timed(*arguments):
        return (clock if len(arguments) < given or arguments[-1] is None else original)(*arguments)

    return timed


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
for _name in dir(time):
    if _name.startswith(("time", "monotonic", "perf_counter", "process_time", "thread_time", "clock_", "sleep", "get_clock_info")) and callable(getattr(time, _name)):
        setattr(time, _name, _missing(f"time.{_name}", getattr(time, _name), RuntimeError, _NO_CLOCK))
for _name, _given in (("strftime", 2), ("gmtime", 1), ("localtime", 1), ("ctime", 1), ("asctime", 1)):
    setattr(time, _name, _timed(_name, getattr(time, _name), _given))
for _name in ("open", "stat", "lstat", "listdir", "scandir", "getcwd", "mkdir", "remove", "rename"):
    setattr(os, _name, _missing(f"os.{_name}", getattr(os, _name, None), PermissionError, _NO_FILES))
os.urandom = _missing("os.urandom", os.urandom, RuntimeError, _NO_RANDOMNESS)
builtins.open = io.open = _missing("open", builtins.open, PermissionError, _NO_FILES)
builtins.input = _missing("input", builtins.input, EOFError, "a plugin has no input")
for _name in ("_exit", "abort"):
    setattr(os, _name, _missing(f"os.{_name}", getattr(os, _name), RuntimeError, _NO_END))


def _setlocale(category, locale_name=None, _original=locale.setlocale):
    """Refuses a locale that the system does not have, instead of ignoring it."""
    if locale_name in (None, "", "C", "POSIX", "C.UTF-8"):
        return _original(category, locale_name)
    raise locale.Error(f"locale.setlocale({locale_name!r}): {_NO_LOCALES}")


locale.setlocale = _setlocale
