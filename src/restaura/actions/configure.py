# SPDX-License-Identifier: GPL-3.0-or-later
"""`restaura configure`: make this host what its declaration says; say what had drifted."""

import argparse
import contextlib
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from restaura import catalogue, foreign, keys, runbook, schedule, scripts
from restaura.actions import recover as recovery
from restaura.config import load
from restaura.config.schema import Config, Store
from restaura.errors import ConfigError, DamagedError, IdentityError, RestauraError, StoreError
from restaura.host import Host
from restaura.output import Answer
from restaura.owned import SECRET, Changes, Directory, File, Link, Remembered, compare_key_mode, digest, own
from restaura.paths import Paths, write_atomic
from restaura.process import program_bytes
from restaura.stores import Store as OpenStore
from restaura.stores import Writer, open_store

KEPT_VERSIONS = 1


def configure(host: Host, options: argparse.Namespace) -> Answer:
    """Apply the declaration on standard input; with --check only say what would change."""
    config = load.parse(_declaration(), "declaration")
    paths, changes = host.paths, Changes()
    target = Host(paths, config)
    remembered = Remembered(host.load_state())
    before = _configured(paths, remembered)
    given = keys.declared_secrets(config)
    program = _program(paths)
    cron = File(paths.cron, schedule.cron_file(config).encode(), 0o644, single=True)
    page = runbook.render(config, paths)
    files = [
        *program,
        File(paths.config, (json.dumps(load.dump(config), indent=1) + "\n").encode(), 0o600),
        File(paths.etc / "RUNBOOK.md", page.encode(), 0o600),
        *(File(paths.scripts / name, text.encode(), 0o755) for name, text in scripts.texts().items()),
    ]
    directories = [Directory(one) for one in (paths.etc, paths.keys, paths.var, paths.logs)]
    directories += [Directory(paths.versions, 0o755)] if program else []
    for directory in directories:
        directory.compare(changes)
    _compare_keys(paths, config, before, given, remembered, changes)
    for file in [*files, cron]:
        file.compare(changes, remembered)
    warnings = _left(before, config) + foreign.found(paths)
    if not options.check:
        if before:
            # With the stores of now: a debt of one that goes could not be paid afterwards.
            recovery.pay(Host(paths, before))
        for directory in directories:
            directory.put()
        _apply_keys(target, config, given, remembered)
        for file in files:
            _keep_foreign(file.path, paths)
            file.put()
        _drop_versions(paths, program)
    failed = _stores(target, config, before, changes, check=options.check)
    if options.check:
        warnings += [str(one) for one in failed]
    else:
        # A host that was set up keeps its schedule while a store is away; a new one gets none before its stores are.
        if before or not failed:
            cron.put()
            _remember(target, [*files, cron], given)
        _raise(failed)
    data = {
        "changed": bool(changes.rows),
        "changes": changes.rows,
        "warnings": warnings,
        "unprotected": _gone(before, config, "components"),
        "kit_sha256": _kit_digest(target),
        "runbook": page,
    }
    return Answer(data, "\n".join([*(row["said"] for row in changes.rows), *warnings]) or "nothing to change")


def _declaration() -> Any:
    try:
        return json.load(sys.stdin)
    except ValueError as error:
        raise ConfigError(f"is not JSON: {error}", where="declaration (standard input)") from None


def _configured(paths: Paths, remembered: Remembered) -> Config | None:
    """Return what this host was set up for: its configuration or, when somebody spoilt that, what setup remembers."""
    with contextlib.suppress(ConfigError):
        return load.load(paths.config)
    with contextlib.suppress(ConfigError):
        return load.parse(remembered.config, "state")
    return None


def _program(paths: Paths) -> list[File | Link]:
    """Return this program as it is installed: a version beside others, and the link to it; nothing of a source tree."""
    data = program_bytes()
    if data is None:
        return []
    version = File(paths.versions / f"{digest(data)[:12]}.pyz", data, 0o755, opaque=True)
    return [version, Link(paths.program, version.path)]


def _drop_versions(paths: Paths, program: list[File | Link]) -> None:
    """Keep the newest version beside this one, and none that is older."""
    own_path = next((one.path for one in program), None)
    others = [one for one in paths.versions.glob("*.pyz") if one != own_path] if own_path else []
    for path in sorted(others, key=lambda one: one.lstat().st_mtime, reverse=True)[KEPT_VERSIONS:]:
        path.unlink()


def _compare_keys(
    paths: Paths,
    config: Config,
    before: Config | None,
    given: dict[str, str],
    remembered: Remembered,
    changes: Changes,
) -> None:
    identity = paths.etc / "identity"
    if not identity.exists():
        after = "restored" if remembered.identity else "generated"
        changes.add(f"identity {identity}", "absent", after, f"{identity} was missing and is {after}")
    elif remembered.identity and identity.read_text(errors="replace").strip() != remembered.identity:
        changes.add(f"identity {identity}", "another", "restored", f"{identity} had been changed by hand: restored")
    known = {*remembered.keys, *(keys.wanted_keys(before) if before else ())}
    for name in sorted({*keys.wanted_keys(config), *given}):
        path = paths.keys / name
        held = {digest(one.read_bytes()) for one in (path, *keys.older(path)) if one.is_file()}
        if name in given:
            _compare_given(path, given[name], changes)
        elif not path.exists():
            if name in known and remembered.keys.get(name) not in held:
                raise _lost(paths, path, "is missing, and what it opens could not be opened with another")
            changes.add(f"key {path}", "absent", f"{SECRET} generated", f"key {path} was generated")
        elif remembered.keys.get(name, digest(path.read_bytes())) not in held:
            raise _lost(paths, path, "was changed by hand, and opens nothing of what is stored")
    for path in keys.files(paths.keys):
        compare_key_mode(path, changes)


def _compare_given(path: Path, value: str, changes: Changes) -> None:
    if not path.exists():
        changes.add(f"key {path}", "absent", SECRET, f"secret {path} was written")
    elif path.read_text(errors="replace").strip() != value.strip():
        said = f"secret {path} was not the declared one, and is again; the other is kept beside it"
        changes.add(f"key {path}", SECRET, f"{SECRET} another", said)


def _lost(paths: Paths, path: Path, what: str) -> ConfigError:
    away = f"mv {path} /root/ && " if path.exists() else ""
    fix = (
        f"put it back from the recovery kit (HOST.kit, beside the inventory): {away}restaura keys restore --kit FILE; "
        f"when the kit is lost too, and with it every point: mv {paths.keys} {paths.config} {paths.state} /root/, and "
        "give the stores other locations"
    )
    return ConfigError(f"this key {what}; nothing was changed", where=str(path), fix=fix)


def _left(before: Config | None, config: Config) -> list[str]:
    """Name what is no longer declared: silence would be taken for protection."""
    return [
        *(f"component {one} is no longer protected; its points stay" for one in _gone(before, config, "components")),
        *(f"plan {one} is no longer run; its points stay" for one in _gone(before, config, "plans")),
        *(f"store {one} is no longer written to; its points stay" for one in _gone(before, config, "stores")),
        *(
            f"store {one.name} is at another place now; its points stay at {old.location}"
            for old in (before.stores if before else ())
            for one in config.stores
            if one.name == old.name and one.place != old.place
        ),
    ]


def _gone(before: Config | None, config: Config, section: str) -> list[str]:
    now = {one.name for one in getattr(config, section)}
    return sorted({one.name for one in getattr(before, section)} - now) if before else []


def _apply_keys(host: Host, config: Config, given: dict[str, str], remembered: Remembered) -> None:
    paths = host.paths
    identity = paths.etc / "identity"
    # Not asked of the host, which would remember the wrong one.
    there = identity.read_text(errors="replace").strip() if identity.exists() else ""
    if remembered.identity and there != remembered.identity:
        write_atomic(identity, f"{remembered.identity}\n".encode())
    keys.ensure_identity(host)
    for name, value in given.items():
        _give(paths.keys / name, value)
    for name in keys.wanted_keys(config):
        keys.generate(paths.keys, name)
    for path in keys.files(paths.keys):
        own(path, 0o600)


def _give(path: Path, value: str) -> None:
    """Write a given secret; what it replaces is kept under another name, since it may open older points."""
    if path.exists():
        if path.read_text(errors="replace").strip() == value.strip():
            return
        path.replace(path.with_name(f"replaced-{datetime.now(UTC):%Y%m%dT%H%M%S}.{path.name}"))
    write_atomic(path, value.strip().encode() + b"\n")


def _keep_foreign(path: Path, paths: Paths) -> None:
    """Move a script of the same name aside that is not ours: it may be the only one of its kind."""
    if path.parent == paths.scripts and path.is_file() and scripts.MARK not in path.read_text(errors="replace"):
        path.replace(path.with_name(f"{path.name}.replaced-{datetime.now(UTC):%Y%m%dT%H%M%S}"))


def _remember(host: Host, files: list[File | Link], given: dict[str, str]) -> None:
    remembered = Remembered({})
    remembered.files = {str(one.path): one.fingerprint for one in files}
    names = {*keys.wanted_keys(host.config), *given}
    remembered.keys = {name: digest((host.paths.keys / name).read_bytes()) for name in sorted(names)}
    remembered.identity = host.identity
    remembered.config = load.dump(host.config)
    if Remembered(host.load_state()).dump() != remembered.dump():
        with host.changing_state() as state:
            state["setup"] = remembered.dump()


def _kit_digest(host: Host) -> str:
    """Return the SHA-256 of the recovery kit as `restaura keys kit` prints it; nothing before the host has one."""
    try:
        kit = keys.kit_of(host).dump()
    except (OSError, ValueError, RestauraError):
        return ""
    return digest(f"{json.dumps(kit, indent=1)}\n".encode())


def _stores(host: Host, config: Config, before: Config | None, changes: Changes, check: bool) -> list[RestauraError]:
    """Make the stores, and put beside the points what a bare machine needs; return what failed."""
    known = {(one.name, one.place) for one in before.stores} if before else set()
    failed: list[RestauraError] = []
    for one in config.stores:
        new = (one.name, one.place) not in known
        if check and new:
            changes.add(f"store {one.name}", "not registered", one.place)
            continue
        try:
            store = open_store(one, host)
            if not new:
                _still_there(host, store)
            plans = tuple(sorted(plan.name for plan in config.plans if one in config.plan_stores(plan)))
            writer = Writer(config.settings.host, host.identity, plans)
            if not check and store.create(writer):
                said = f"store {one.name} ({one.place}) was made, or registered for this host and its plans"
                changes.add(f"store {one.name}", "absent or not registered", one.place, said)
            for name in store.put_kit_files(_kit_files(host, one), check):
                said = f"{name} in store {one.name} was missing or other than it should be, and is renewed"
                changes.add(f"{name} in store {one.name}", "absent or other", "renewed", said)
        except (StoreError, ConfigError) as error:
            failed.append(error)
    return failed


def _raise(failed: list[RestauraError]) -> None:
    if len(failed) == 1:
        raise failed[0]
    if failed:
        raise StoreError("; ".join(str(one) for one in failed), where="stores")


def _still_there(host: Host, store: OpenStore) -> None:
    """Refuse to make a store anew where one held points: its disk may not be mounted. StoreError says so."""
    known = catalogue.load(host).get(store.name)
    if known is None or not known.rows:
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
