"""The one error tree. Every message says what was found, what is allowed, and how to fix it."""

from __future__ import annotations


class EmulatorError(Exception):
    """Anything the user can mend. `exit_code` is what the command line returns for it."""

    exit_code = 1


class CheckFailed(EmulatorError):
    """A validation ran to its end and found a difference."""

    exit_code = 1


class BadConfig(EmulatorError):
    """A wrong flag, configuration key, array specification or output directory."""

    exit_code = 2


class UnsupportedModel(EmulatorError):
    """A model that cannot be read, or that contains something this version does not execute."""

    exit_code = 3


class BadData(EmulatorError):
    """Inputs or stored results with a wrong shape, type or content."""

    exit_code = 4


def first_line(error: BaseException) -> str:
    """Of what an error says; its kind where it says nothing."""
    return (str(error) or type(error).__name__).split("\n", 1)[0]
