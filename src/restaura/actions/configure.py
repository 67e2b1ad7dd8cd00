# SPDX-License-Identifier: GPL-3.0-or-later
"""`restaura configure`: make this host what its declaration says; say what had drifted."""

import argparse
import json
import os
import stat
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from restaura import catalogue, keys, runbook, schedule
from restaura.actions import recover as recovery
from restaura.config import load
from restaura.config.schema import Config, Store
from restaura.errors import ConfigError, DamagedError, IdentityError, StoreError
from restaura.host import Host
from restaura.output import Answer
from restaura.paths import Paths, private_dir, write_atomic
from restaura.process import program_bytes
from restaura.stores import Store as OpenStore
from restaura.stores import Writer, open_store

SECRET = "(secret)"  # noqa: S105 - what is shown in the place of one


class Changes:
    """What differs from the declaration, as `before` and `after` texts that hold no secret."""

    def __init__(self) -> None:
        self.rows: list[dict[str, str]] = []

    def add(self, what: str, before: str, after: str) -> None:
        """Record one difference."""
        self.rows.append({"what": what, "before": before, "after": after})


def configure(host: Host, options: argparse.Namespace) -> Answer:
    """Apply the declaration on standard input; with --check only say what would change."""
    config = load.parse(_declaration(), "declaration")
    paths, changes = host.paths, Changes()
    target = Host(paths, config)
    before = _configured(paths)
    given = keys.declared_secrets(config)
    files = {
        paths.config: (json.dumps(load.dump(config), indent=1) + "\n", 0o600),
        paths.cron: (schedule.cron_file(config), 0o644),
        paths.etc / "RUNBOOK.md": (runbook.render(config, paths), 0o600),
    }
    _compare_directories(paths, changes)
    _compare_keys(paths, config, given, changes)
    for path, (text, mode) in files.items():
        _compare_file(path, text, mode, changes)
    if not options.check:
        if before:
            # With the stores of now: a debt of one that goes could not be paid afterwards.
            recovery.pay(Host(paths, before))
        _apply_keys(target, config, given)
        _write(paths.config, *files[paths.config])
        _write(paths.etc / "RUNBOOK.md", *files[paths.etc / "RUNBOOK.md"])
    _stores(target, config, before, changes, check=options.check)
    if not options.check:
        _write(paths.cron, *files[paths.cron])
    unprotected = (
        sorted({one.name for one in before.components} - {one.name for one in config.components}) if before else []
    )
    warnings = [f"component {name} is no longer protected; its points stay" for name in unprotected]
    data = {"changed": bool(changes.rows), "changes": changes.rows, "warnings": warnings, "unprotected": unprotected}
    return Answer(data, "\n".join([*(row["what"] for row in changes.rows), *warnings]) or "nothing to change")


def _declaration() -> Any:
    try:
        return json.load(sys.stdin)
    except ValueError as error:
        raise ConfigError(f"is not JSON: {error}", where="declaration (standard input)") from None


def _configured(paths: Paths) -> Config | None:
    try:
        return load.load(paths.config)
    except ConfigError:
        return None


def _compare_directories(paths: Paths, changes: Changes) -> None:
    for path in (paths.etc, paths.keys, paths.var, paths.logs):
        if not path.is_dir():
            changes.add(f"directory {path}", "absent", "0700 root")
        elif (path.stat().st_mode & 0o777, path.stat().st_uid) != (0o700, 0):
            changes.add(f"directory {path}", _mode(path), "0700 root")


def _compare_keys(paths: Paths, config: Config, given: dict[str, str], changes: Changes) -> None:
    if not (paths.etc / "identity").exists():
        changes.add(f"identity {paths.etc / 'identity'}", "absent", "generated")
    for name in sorted({*keys.wanted_keys(config), *given}):
        path = paths.keys / name
        if not path.exists():
            changes.add(f"key {path}", "absent", SECRET if name in given else f"{SECRET} generated")
        elif name in given and path.read_text().strip() != given[name].strip():
            changes.add(f"key {path}", SECRET, f"{SECRET} another")
    if paths.keys.is_dir():
        for path in sorted(paths.keys.iterdir()):
            if (path.stat().st_mode & 0o777, path.stat().st_uid) != (0o600, 0):
                changes.add(f"mode of key {path}", _mode(path), "0600 root")


def _compare_file(path: Path, text: str, mode: int, changes: Changes) -> None:
    there = path.read_text(errors="backslashreplace") if path.is_file() else ""
    if there != text:
        changes.add(str(path), there, text)
    elif (path.stat().st_mode & 0o777, path.stat().st_uid) != (mode, 0):
        changes.add(f"mode of {path}", _mode(path), f"{mode:04o} root")


def _mode(path: Path) -> str:
    found = path.stat()
    return f"{stat.S_IMODE(found.st_mode):04o} uid {found.st_uid}"


def _apply_keys(host: Host, config: Config, given: dict[str, str]) -> None:
    paths = host.paths
    for directory in (paths.etc, paths.keys, paths.var, paths.logs):
        private_dir(directory)
        if directory.stat().st_uid != 0:
            _own(directory)
    keys.ensure_identity(host)
    for name, value in given.items():
        _give(paths.keys / name, value)
    for name in keys.wanted_keys(config):
        keys.generate(paths.keys, name)
    for path in paths.keys.iterdir():
        _own(path)
        path.chmod(0o600)


def _give(path: Path, value: str) -> None:
    """Write a given secret; what it replaces is kept under another name, since it may open older points."""
    if path.exists():
        if path.read_text().strip() == value.strip():
            return
        path.replace(path.with_name(f"replaced-{datetime.now(UTC):%Y%m%dT%H%M%S}.{path.name}"))
    write_atomic(path, value.strip().encode() + b"\n")


def _own(path: Path) -> None:
    os.chown(path, 0, 0)


def _write(path: Path, text: str, mode: int) -> None:
    if not path.is_file() or path.read_text(errors="backslashreplace") != text:
        write_atomic(path, text.encode(), mode)
    _own(path)
    path.chmod(mode)


def _stores(host: Host, config: Config, before: Config | None, changes: Changes, check: bool) -> None:
    """Make the stores and put beside the points what a bare machine needs."""
    known = {(one.name, one.type, one.location) for one in before.stores} if before else set()
    failed: list[StoreError] = []
    for one in config.stores:
        new = (one.name, one.type, one.location) not in known
        if check:
            if new:
                changes.add(f"store {one.name}", "not registered", f"{one.type} at {one.location}")
            continue
        try:
            store = open_store(one, host)
            if not new:
                _still_there(host, store)
            plans = tuple(sorted(plan.name for plan in config.plans if one in config.plan_stores(plan)))
            if store.create(Writer(config.settings.host, host.identity, plans)):
                changes.add(f"store {one.name}", "absent or not registered", f"{one.type} at {one.location}")
            for name in store.put_kit_files(_kit_files(host, one)):
                changes.add(f"{name} in store {one.name}", "absent or other", "renewed")
        except StoreError as error:
            failed.append(error)
    if len(failed) == 1:
        raise failed[0]
    if failed:
        raise StoreError("; ".join(str(one) for one in failed), where="stores")


def _still_there(host: Host, store: OpenStore) -> None:
    """Refuse to make a store anew where one held points: its disk may not be mounted. StoreError says so."""
    if not catalogue.load(host).get(store.name, catalogue.Shelf()).rows:
        return
    try:
        store.check(writing=False)
    except (DamagedError, IdentityError):
        raise
    except StoreError as error:
        fix = "mount its disk; when its points are lost for good, give the store another name"
        raise StoreError(f"{error.what}, and it held points", where=error.where, fix=fix) from error


def _kit_files(host: Host, store: Store) -> dict[str, bytes]:
    """Return what lies at a store's root for a bare machine: none of it is secret."""
    name = host.config.settings.host
    files = {
        f"config-{name}.json": json.dumps(load.dump(host.config), indent=1).encode() + b"\n",
        f"RUNBOOK-{name}.md": runbook.render(host.config, host.paths, store).encode(),
    }
    program = program_bytes()
    return files if program is None else {**files, "restaura.pyz": program}
