"""Lines for the operator. A batch may write 64 KiB; the rest is dropped."""

from typing import Callable

# In Weir the guest puts the host's here; in a test outside of it nobody listens.
sink: Callable[[str, str], None] = lambda level, message: None


def debug(message: object) -> None:
    """For the author."""
    sink("DEBUG", str(message))


def info(message: object) -> None:
    """For the operator's interest."""
    sink("INFO", str(message))


def warn(message: object) -> None:
    """For the operator's attention."""
    sink("WARN", str(message))


def error(message: object) -> None:
    """Something failed."""
    sink("ERROR", str(message))
