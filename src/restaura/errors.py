# SPDX-License-Identifier: GPL-3.0-or-later
"""Every error a person can meet. Each names what failed, where, and the command that fixes it."""

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of the program: the contract with cron, Ansible and people."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    PARTIAL = 3
    LOCKED = 4
    NO_POINT = 5
    MISMATCH = 6
    UNPROTECTED = 7


class RestauraError(Exception):
    """Something failed: `what` happened, `where` (file, store, component), and the `fix` to type."""

    exit_code = Exit.FAILED

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}\n  fix: {self.fix}" if self.fix else text


class ConfigError(RestauraError):
    """The declaration, the configuration or the command line is wrong; nothing was changed."""

    exit_code = Exit.USAGE


class SourceError(RestauraError):
    """A component could not be captured, staged or compared."""


class StoreError(RestauraError):
    """A store could not be reached, read or written."""


class DamagedError(StoreError):
    """What a store gave back is not what was stored: wrong hash, size or signature."""


class IdentityError(StoreError):
    """Another machine writes under this host's name in a store (`restaura adopt`)."""


class SpaceError(RestauraError):
    """A disk would fall below its reserve of free space."""


class LockedError(RestauraError):
    """Another run holds the component or store."""

    exit_code = Exit.LOCKED


class NoPointError(RestauraError):
    """No restore point answers what was asked for."""

    exit_code = Exit.NO_POINT


class MismatchError(RestauraError):
    """What was restored is not what was backed up."""

    exit_code = Exit.MISMATCH


class RefusedError(RestauraError):
    """An act that could lose data was not confirmed, or the live data is in use."""

    exit_code = Exit.USAGE


class ProtectedError(RefusedError):
    """What makes up the system itself (`/etc`) never goes live as a whole."""
