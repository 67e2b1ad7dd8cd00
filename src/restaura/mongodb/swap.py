# SPDX-License-Identifier: GPL-3.0-or-later
"""The swap of restored collections by renaming, back again, and the deletion of what is not live.

Names: `restaura_stage_ID_N` is what is being restored, `restaura_kept_ID_N` what was live before, `…_Nr` what was
restored, after an undo, and `…_Nl` what an application made under the live name between two renames. Every step looks
at which of these names there are, so that it can be done again after any interruption.
"""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from restaura.errors import RefusedError, SourceError
from restaura.mongodb import catalog, fingerprint, restore
from restaura.mongodb.catalog import KEPT, STAGE, USERS
from restaura.mongodb.restore import Entry
from restaura.mongodb.server import APPLICATION, Server, connected
from restaura.paths import private_dir, write_atomic

_ACCOUNTS = ("users", "roles")


def plan(client: Any, server: Server, number: str, found: Iterable[Entry], whole: Iterable[str]) -> dict[str, Any]:
    """Return what swap, undo and discard need. What else is in the databases `whole` is moved away.

    RefusedError when something is live under the name of what cannot be renamed.
    """
    moves, taken = [], set()
    for position, one in enumerate(found):
        there = catalog.described(client, one.home, one.final)
        if there and (there.moves_by_copy or one.collection.moves_by_copy):
            raise RefusedError(
                f"{one.home}.{one.final} is there, and MongoDB cannot rename this {there.type} out of the way",
                where=server.where,
                fix=f"drop it in mongosh, or restore beside it: --path {one.collection.database} --to name:DB",
            )
        copied = one.collection.moves_by_copy or (one.collection.type == "view" and there is None)
        moves.append(_move(one.home, one.final, number, position, one.built, copied=copied))
        taken.add((one.home, one.final))
    for other in catalog.collections(client, whole):
        if (other.database, other.name) not in taken:
            if other.moves_by_copy:
                raise RefusedError(
                    f"{other.namespace} is not in the point, and MongoDB cannot rename it out of the way",
                    where=server.where,
                    fix="drop it in mongosh, or restore what you need of the database: --path DB.COLLECTION",
                )
            moves.append(_move(other.database, other.name, number, len(moves), ""))
    return {"server": server.to_json(), "moves": moves, "directory": ""}


def _move(database: str, final: str, number: str, position: int, stage: str, *, copied: bool = False) -> dict[str, Any]:
    kept = f"{KEPT}{number}_{position}"
    names = {"stage": stage, "kept": kept, "undone": f"{kept}r", "late": f"{kept}l"}
    return {"database": database, "final": final, "copied": copied, **names}


def swap(record: dict[str, Any]) -> None:
    """Rename what is live away and what was restored to its name; then bring users and roles to the point's state."""
    with connected(Server.from_json(record["server"]), patient=True) as client:
        for one in record["moves"]:
            present = catalog.names_in(client, one["database"])
            if one["kept"] in present if not one["stage"] else one["stage"] not in present:
                continue
            if one["final"] in present:
                # A copy that was cut off is made again, and what else has the live name by now is not lost.
                again = one["copied"] or one["kept"] in present
                _rename(client, one, "final", "late" if again else "kept")
            if one["stage"]:
                _rename(client, one, "stage", "final")
        if record["directory"]:
            _put_accounts(client, Path(record["directory"]), "wanted")


def undo(record: dict[str, Any]) -> None:
    """Rename back; what was restored is kept. Users and roles that were there get their old definitions."""
    with connected(Server.from_json(record["server"]), patient=True) as client:
        for one in record["moves"]:
            present = catalog.names_in(client, one["database"])
            swapped = one["stage"] not in present
            if one["copied"] and one["final"] in present:
                _rename(client, one, "final", "undone" if swapped else "late")
            elif one["stage"] and swapped and one["undone"] not in present:
                _rename(client, one, "final", "undone")
            present = catalog.names_in(client, one["database"])
            if one["kept"] in present:
                if one["final"] in present:
                    _rename(client, one, "final", "late")
                _rename(client, one, "kept", "final")
        if record["directory"] and Path(record["directory"]).exists():
            _put_accounts(client, Path(record["directory"]), "before")


def discard(record: dict[str, Any]) -> None:
    """Delete the side that is not live."""
    with connected(Server.from_json(record["server"]), patient=True) as client:
        for one in record["moves"]:
            for key in ("stage", "kept", "undone", "late"):
                if one[key]:
                    restore.drop(client, one["database"], one[key])
    if record["directory"]:
        shutil.rmtree(record["directory"], ignore_errors=True)


def take_back(server: Server, number: str, homes: Iterable[str], directory: str) -> None:
    """Delete what a restore built and no swap made live. Nothing while something is kept: then a swap has begun."""
    with connected(server) as client:
        there = {home: catalog.names_in(client, home) for home in homes}
        kept = f"{KEPT}{number}_"
        if any(name.startswith(kept) and name[-1].isdigit() for names in there.values() for name in names):
            return
        for home, names in there.items():
            for name in names:
                if name.startswith((f"{STAGE}{number}_", kept)):
                    restore.drop(client, home, name)
    if directory:
        shutil.rmtree(directory, ignore_errors=True)


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
    """Give a collection another name; what cannot be renamed is copied, or defined again, and then dropped."""
    database, source, name = one["database"], one[old], one[new]
    found = catalog.described(client, database, source)
    if found is None:
        return
    if found.type == "view":
        client[database].drop_collection(name)
        restore.create(client, database, catalog.Collection(database, name, "view", found.options))
    elif found.moves_by_copy or name.startswith("system."):
        restore.copy(client, database, found, name)
    else:
        client.admin.command("renameCollection", f"{database}.{source}", to=f"{database}.{name}")
        return
    client[database].drop_collection(source)


# Users and roles


def keep_accounts(client: Any, directory: Path, wanted: dict[str, bytes]) -> None:
    """Write the accounts of the point, and those that there are, to files that root alone reads."""
    private_dir(directory)
    for kind in _ACCOUNTS:
        write_atomic(directory / f"{kind}.wanted", wanted[kind])
        before = b"".join(client.admin[USERS[kind]].find_raw_batches())
        write_atomic(directory / f"{kind}.before", before)
    names = {kind: [_id(one) for one in fingerprint.documents(wanted[kind])] for kind in _ACCOUNTS}
    write_atomic(directory / "names.json", json.dumps(names).encode())


def _id(raw: Any) -> str:
    from bson import decode

    return str(decode(raw)["_id"])


def _put_accounts(client: Any, directory: Path, side: str) -> None:
    """Bring the point's users and roles to the side `wanted` or `before`; others stay. SourceError when one differs.

    The roles `restore` and `root` may write these documents, which is how hashes of passwords come back.
    """
    from bson.raw_bson import RawBSONDocument

    named = json.loads((directory / "names.json").read_text())
    for kind in _ACCOUNTS:
        accounts = client.admin[USERS[kind]]
        documents = {_id(one): bytes(one) for one in fingerprint.documents((directory / f"{kind}.{side}").read_bytes())}
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
