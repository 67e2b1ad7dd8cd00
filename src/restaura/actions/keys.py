# SPDX-License-Identifier: GPL-3.0-or-later
"""`restaura keys`: print the recovery kit, prove that it opens a point, put its keys back."""

import argparse
import hashlib
import json
import os
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from restaura import keys
from restaura.actions.restore import unlocked
from restaura.errors import ConfigError, NoPointError, RestauraError
from restaura.host import Host
from restaura.output import Answer
from restaura.standing import is_good
from restaura.stores import Store, StoredPoint, open_store

STDOUT = 1


def keys_verb(host: Host, options: argparse.Namespace) -> Answer:
    """Carry out `kit`, `confirm` or `restore`. A file that gets the kit becomes readable for root alone."""
    if options.what == "kit":
        # A shell's `> FILE` made it readable for everybody.
        if stat.S_ISREG(os.fstat(STDOUT).st_mode):
            os.fchmod(STDOUT, 0o600)
        kit = keys.kit_of(host).dump()
        return Answer(kit, json.dumps(kit, indent=1))
    if not options.kit:
        raise ConfigError(f"keys {options.what} needs the kit", where="restaura keys", fix="--kit FILE")
    kit_read = keys.Kit.read(Path(options.kit))
    return _confirm(host, kit_read, options) if options.what == "confirm" else _restore(host, kit_read, options)


def confirmed(host: Host) -> bool:
    """Whether a kit with the very keys of this host has opened a point."""
    state: Any = host.load_state().get("kit_confirmed", {})
    return bool(state) and state.get("keys") == _fingerprint(host, keys.kit_of(host))


def _confirm(host: Host, kit: keys.Kit, options: argparse.Namespace) -> Answer:
    """Read one whole artifact of a good point in every store with nothing but the kit's keys."""
    if kit.host != host.name:
        raise ConfigError(f"is the kit of {kit.host}, not of {host.name}", where=options.kit, fix="--kit FILE")
    known = {(one["name"], one["location"]) for one in kit.config.get("stores", [])}
    if missing := sorted(one.name for one in host.config.stores if (one.name, one.location) not in known):
        fix = f"restaura keys kit > {host.name}.kit, and take that one away"
        raise ConfigError(f"is older than this host's store {', '.join(missing)}", where=options.kit, fix=fix)
    opened = {}
    with unlocked(host.paths, host.config, kit) as reader:
        for config in host.config.stores:
            store = open_store(config, reader)
            try:
                opened[config.name] = _open_one(store, store.points(host.name))
            except NoPointError:
                raise
            except RestauraError as error:
                raise RestauraError(
                    f"the kit does not open it: {error.what}",
                    where=f"store {config.name}",
                    fix=f"if the kit (of {kit.made}) is older than the host's keys, make a new one: restaura keys kit",
                ) from error
    if not options.check:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with host.changing_state() as state:
            state["kit_confirmed"] = {"at": now, "keys": _fingerprint(host, kit)}
    text = "\n".join(f"the kit opened point {point} in store {store}" for store, point in opened.items())
    return Answer({"changed": True, "opened": opened}, text)


def _open_one(store: Store, points: list[StoredPoint]) -> str:
    problem: RestauraError = NoPointError(
        "holds no good point to open", where=f"store {store.name}", fix="restaura run"
    )
    for point in reversed(points):
        for component in point.manifest.components if point.manifest else ():
            streams = [one for one in component.artifacts if one.kind == "stream"]
            if point.manifest is None or not streams or not is_good(point, component.name):
                continue
            # A secret one is encrypted in every kind of store, so that it proves the keys.
            smallest = min(streams, key=lambda one: (not one.secret, one.bytes))
            with store.open_stream(point.manifest, smallest) as stream:
                while stream.read(1 << 20):
                    pass
            return point.id
        if point.damage:
            problem = RestauraError(point.damage, where=f"point {point.id} in store {store.name}")
    raise problem


def _restore(host: Host, kit: keys.Kit, options: argparse.Namespace) -> Answer:
    if options.check:
        missing = sorted(name for name in kit.keys if not (host.paths.keys / name).exists())
    else:
        missing = kit.write_keys(host.paths.keys)
    text = f"put back: {', '.join(missing)}" if missing else "every key of the kit is there"
    return Answer({"changed": bool(missing), "keys": missing}, text)


def _needed(host: Host, held: dict[str, str]) -> dict[str, str]:
    """Return the keys that open points: passwords and key files, not the credentials of a service."""
    return {name: held.get(name, "") for name in keys.wanted_keys(host.config)}


def _fingerprint(host: Host, kit: keys.Kit) -> str:
    """Return a digest of what a kit opens: its keys, and the stores that it knows."""
    stores = sorted([one["name"], one["type"], one["location"]] for one in kit.config.get("stores", []))
    return hashlib.sha256(json.dumps([_needed(host, kit.keys), stores], sort_keys=True).encode()).hexdigest()
