"""Lines for the operator. A batch can write 64 KiB by default; the rest is dropped."""

from typing import Callable

# In Weir the guest sets the host's function here. In a test outside of Weir the lines are dropped.
sink: Callable[[str, str], None] = lambda level, message: None


def debug(message: object) -> None:
    """For the author, when looking for a fault."""
    sink("DEBUG", str(message))


def info(message: object) -> None:
    """For the operator's information."""
    sink("INFO", str(message))


def warn(message: object) -> None:
    """For the operator's attention."""
    sink("WARN", str(message))


def error(message: object) -> None:
    """Something failed."""
    sink("ERROR", str(message))
