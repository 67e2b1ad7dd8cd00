# SPDX-License-Identifier: GPL-3.0-or-later
"""The swap of restored collections by renaming, back again, and the deletion of what is not live.

Names: `restaura_stage_ID_N` is what is being restored, `restaura_kept_ID_N` what was live before, `…_Nr` what was
restored, after an undo, and `…_Nl` what an application made under the live name between two renames. Every step looks
at which of these names there are, so that it can be done again after any interruption. Views, time series and
`system.js` cannot be renamed: they are copied, and since half a copy looks like one, a file marks each step as done.
"""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from restaura.errors import SourceError
from restaura.mongodb import catalog, fingerprint, restore
from restaura.mongodb.catalog import KEPT, STAGE, USERS
from restaura.mongodb.restore import Entry
from restaura.mongodb.server import APPLICATION, Server, connected
from restaura.paths import private_dir, write_atomic

_ACCOUNTS = ("users", "roles")


def plan(
    client: Any, server: Server, number: str, found: Iterable[Entry], whole: Iterable[str], directory: Path
) -> dict[str, Any]:
    """Return what swap, undo and discard need. What else is in the databases `whole` is moved away."""
    moves: list[dict[str, Any]] = []
    taken = set()
    for one in found:
        there = catalog.described(client, one.home, one.final)
        copied = one.collection.moves_by_copy or bool(there and there.moves_by_copy)
        moves.append(_move(one.home, one.final, number, len(moves), one.built, copied=copied, before=bool(there)))
        taken.add((one.home, one.final))
    for other in catalog.collections(client, whole):
        if (other.database, other.name) not in taken:
            place = (other.database, other.name, number, len(moves), "")
            moves.append(_move(*place, copied=other.moves_by_copy, before=True))
    return {"server": server.to_json(), "moves": moves, "directory": str(directory)}


def _move(
    database: str, final: str, number: str, position: int, stage: str, *, copied: bool, before: bool
) -> dict[str, Any]:
    kept = f"{KEPT}{number}_{position}"
    names = {"stage": stage, "kept": kept, "undone": f"{kept}r", "late": f"{kept}l"}
    return {"database": database, "final": final, "copied": copied, "before": before, **names}


def swap(record: dict[str, Any]) -> None:
    """Rename what is live away and what was restored to its name; then bring users and roles to the point's state."""
    directory = private_dir(Path(record["directory"]))
    with connected(Server.from_json(record["server"]), patient=True) as client:
        for one in record["moves"]:
            if one["copied"]:
                _swap_copied(client, one, directory)
                continue
            present = catalog.names_in(client, one["database"])
            if one["kept"] in present if not one["stage"] else one["stage"] not in present:
                continue
            if one["final"] in present:
                # What has the live name besides by now is not lost either.
                _rename(client, one, "final", "late" if one["kept"] in present else "kept")
            if one["stage"]:
                _rename(client, one, "stage", "final")
        _put_accounts(client, directory, "wanted")


def undo(record: dict[str, Any]) -> None:
    """Rename back; what was restored is kept. Users and roles that were there get their old definitions."""
    directory = Path(record["directory"])
    if not directory.exists():
        return
    with connected(Server.from_json(record["server"]), patient=True) as client:
        for one in record["moves"]:
            if one["copied"]:
                _undo_copied(client, one, directory)
                continue
            present = catalog.names_in(client, one["database"])
            if one["stage"] and not {one["stage"], one["undone"]} & present and one["final"] in present:
                _rename(client, one, "final", "undone")
                present = catalog.names_in(client, one["database"])
            if one["kept"] in present:
                if one["final"] in present:
                    _rename(client, one, "final", "late")
                _rename(client, one, "kept", "final")
        _put_accounts(client, directory, "before")


def discard(record: dict[str, Any]) -> None:
    """Delete the side that is not live. SourceError names what an application wrote meanwhile, which is left."""
    with connected(Server.from_json(record["server"]), patient=True) as client:
        # Of what cannot be renamed it may be half a copy of our own.
        late = [
            found
            for one in record["moves"]
            if not one["copied"]
            for found in _written_late(client, one["database"], [one["late"]])
        ]
        for one in record["moves"]:
            for key in ("stage", "kept", "undone", "late"):
                if one[key] and (one["database"], one[key]) not in late:
                    restore.drop(client, one["database"], one[key])
    shutil.rmtree(record["directory"], ignore_errors=True)
    _refuse_late(late)


def take_back(server: Server, number: str, homes: Iterable[str], directory: str) -> None:
    """Delete what a restore built and no swap made live. Nothing while something is kept: then a swap has begun."""
    with connected(server) as client:
        there = {home: catalog.names_in(client, home) for home in homes}
        kept = f"{KEPT}{number}_"
        if any(name.startswith(kept) and name[-1].isdigit() for names in there.values() for name in names):
            return
        late = []
        for home, names in there.items():
            late += _written_late(client, home, [one for one in names if one.startswith(kept) and one.endswith("l")])
            for name in names:
                if name.startswith((f"{STAGE}{number}_", kept)) and (home, name) not in late:
                    restore.drop(client, home, name)
    shutil.rmtree(directory, ignore_errors=True)
    _refuse_late(late)


def _written_late(client: Any, database: str, names: Iterable[str]) -> list[tuple[str, str]]:
    """Return which of these collections, made by an application between two renames, hold a document."""
    return [(database, name) for name in names if client[database][name].find_one({}, {"_id": 1}) is not None]


def _refuse_late(late: list[tuple[str, str]]) -> None:
    """Raise SourceError when an application's documents are left, which only a person may delete."""
    if late:
        database, name = late[0]
        raise SourceError(
            f"an application wrote while collections changed places: its documents are in {database}.{name}",
            where=f"database {database}",
            fix=f'copy what you need, then in mongosh: db.getSiblingDB("{database}").getCollection("{name}").drop()',
        )


def clients(client: Any) -> list[str]:
    """Name the clients that are connected, but for this program, or say that the server does not tell."""
    from pymongo.errors import OperationFailure

    try:
        rows = client.admin.command("currentOp", **{"$all": True})["inprog"]
    except OperationFailure as error:
        return [f"the server does not tell who is connected ({error.code})"]
    found = {
        f"client {one['client']} ({one.get('appName') or 'no name'})"
        for one in rows
        if one.get("client") and not str(one.get("appName", "")).startswith(APPLICATION)
    }
    return sorted(found)


def _rename(client: Any, one: dict[str, Any], old: str, new: str) -> None:
    """Give a collection another of its names, at once."""
    database = one["database"]
    client.admin.command("renameCollection", f"{database}.{one[old]}", to=f"{database}.{one[new]}")


def _swap_copied(client: Any, one: dict[str, Any], directory: Path) -> None:
    """Do what `swap` does for what cannot be renamed."""
    marks = _Marks(directory, one)
    if not marks.has("kept"):
        _copy(client, one, "final", "kept")
        marks.add("kept")
    if not marks.has("live"):
        if one["stage"]:
            _copy(client, one, "stage", "final")
        else:
            client[one["database"]].drop_collection(one["final"])
        marks.add("live")
    if one["stage"]:
        restore.drop(client, one["database"], one["stage"])


def _undo_copied(client: Any, one: dict[str, Any], directory: Path) -> None:
    marks = _Marks(directory, one)
    if marks.has("kept") and not marks.has("aside"):
        _copy(client, one, "final", "undone" if marks.has("live") else "late")
        marks.add("aside")
    if marks.has("kept") and not marks.has("back"):
        if one["before"]:
            _copy(client, one, "kept", "final")
        else:
            client[one["database"]].drop_collection(one["final"])
        marks.add("back")
    restore.drop(client, one["database"], one["kept"])


def _copy(client: Any, one: dict[str, Any], old: str, new: str) -> None:
    """Make what has one name anew under another; nothing when it is not there."""
    found = catalog.described(client, one["database"], one[old])
    if found is not None:
        restore.copy(client, one["database"], found, one[new])


class _Marks:
    """The steps that are done of one move, each a file in the record's directory."""

    def __init__(self, directory: Path, one: dict[str, Any]) -> None:
        self._directory, self._name = directory, one["kept"]

    def has(self, step: str) -> bool:
        return (self._directory / f"{self._name}.{step}").exists()

    def add(self, step: str) -> None:
        write_atomic(self._directory / f"{self._name}.{step}", b"")


# Users and roles


def keep_accounts(client: Any, server: Server, directory: Path, wanted: dict[str, bytes]) -> list[str]:
    """Write the accounts of the point, and those that there are, to files that root alone reads; return notes.

    The user we are is none of them, nor are its roles: with another password, id (each server's own) or fewer rights
    the server would shut us out, and nobody could undo the restore.
    """
    private_dir(directory)
    before = {kind: b"".join(client.admin[USERS[kind]].find_raw_batches()) for kind in _ACCOUNTS}
    for kind in _ACCOUNTS:
        write_atomic(directory / f"{kind}.wanted", wanted[kind])
        write_atomic(directory / f"{kind}.before", before[kind])
    there = {kind: _by_id(before[kind]) for kind in _ACCOUNTS}
    given = {kind: _by_id(wanted[kind]) for kind in _ACCOUNTS}
    own = f"{server.auth_database}.{server.user}" if server.user else ""
    left = {"users": {own}, "roles": _roles_of(there["users"].get(own), there["roles"])}
    names = {kind: [one for one in given[kind] if one not in left[kind]] for kind in _ACCOUNTS}
    write_atomic(directory / "names.json", json.dumps(names).encode())
    other = [
        f"{kind.removesuffix('s')} {one}"
        for kind in _ACCOUNTS
        for one in sorted(left[kind] & given[kind].keys())
        if given[kind][one] != there[kind].get(one)
    ]
    return [f"{one} is another one here; it was left so, since it does the restore" for one in other]


def _roles_of(user: bytes | None, roles: dict[str, bytes]) -> set[str]:
    """Return the ids of those of `roles` that a user has, also through one another."""
    from bson import decode

    found: set[str] = set()
    left = [user] if user else []
    while left:
        for one in decode(left.pop()).get("roles", ()):
            name = f"{one['db']}.{one['role']}"
            if name in roles and name not in found:
                found.add(name)
                left.append(roles[name])
    return found


def _by_id(raw: bytes) -> dict[str, bytes]:
    return {_id(one): bytes(one) for one in fingerprint.documents(raw)}


def _id(raw: Any) -> str:
    from bson import decode

    return str(decode(raw)["_id"])


def _put_accounts(client: Any, directory: Path, side: str) -> None:
    """Bring the point's users and roles to the side `wanted` or `before`; others stay. SourceError when one differs.

    The roles `restore` and `root` may write these documents, which is how hashes of passwords come back.
    """
    from bson.raw_bson import RawBSONDocument

    if not (directory / "names.json").exists():
        return
    named = json.loads((directory / "names.json").read_text())
    for kind in _ACCOUNTS:
        accounts = client.admin[USERS[kind]]
        documents = _by_id((directory / f"{kind}.{side}").read_bytes())
        for name in named[kind]:
            if name in documents:
                accounts.replace_one({"_id": name}, RawBSONDocument(documents[name]), upsert=True)
            else:
                accounts.delete_one({"_id": name})
        there = {_id(one): bytes(one) for batch in accounts.find_raw_batches() for one in fingerprint.documents(batch)}
        if wrong := [name for name in named[kind] if there.get(name) != documents.get(name)]:
            raise SourceError(
                f"the {kind} {', '.join(wrong)} are not as they were", where="database admin", fix="restaura undo"
            )
