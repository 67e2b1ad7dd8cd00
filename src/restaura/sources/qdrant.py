# SPDX-License-Identifier: GPL-3.0-or-later
"""Qdrant: collections with their vectors, payloads, indexes and settings, and the aliases that lead to them.

The artifacts, of each collection: `snapshot.snapshot`, the server's own, and `export.json`, the same points as JSON;
and `aliases.json`. A component that names one collection has them side by side; otherwise each has a folder.
"""

import contextlib
import hashlib
import json
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restaura.config.schema import Component, setting
from restaura.errors import ConfigError, NoPointError, RefusedError, RestauraError, SourceError
from restaura.paths import private_dir
from restaura.point import Depth, Fingerprint
from restaura.qdrant import capture, fingerprint, swap
from restaura.qdrant.capture import ALIASES, OWNER, FrozenCollections
from restaura.qdrant.server import STAGE, Server, kept_out, same_or_next
from restaura.sources import UNLIMITED, PointReader, Probe, SourceKind, Staged, Target, Tree

if TYPE_CHECKING:
    from restaura.host import Host


@dataclass(frozen=True)
class QdrantComponent(Component):
    """Settings of a `qdrant` component."""

    url: str = setting(
        "Where the server answers by HTTP. Empty: in the `container`, or on this host at port 6333.",
        default="",
        example="https://qdrant.example.org:6333",
        pattern=r"(|https?://[^\s/@]+(/\S*)?)",
    )
    container: str = setting("Name of the container that the server runs in.", default="")
    port: int = setting("HTTP port of the server in the container.", default=6333, minimum=1)
    ca_file: str = setting("PEM file of the authority that signed the server's certificate.", default="")
    api_key: str | None = setting("API key that may manage the server.", default=None, secret=True)
    collections: tuple[str, ...] = setting(
        "Collections (or aliases of them) to back up. Empty: every one. One alone has its files in the component's own "
        "folder.",
        default=(),
    )
    exclude_collections: tuple[str, ...] = setting("Collections to leave out.", default=())
    export: bool = setting(
        "Whether the points are also kept as JSON, which any program reads and any version takes.", default=True
    )
    timeout: int = setting("Seconds that one answer of the server may take: a snapshot is one.", default=600, minimum=1)


class Qdrant:
    """One Qdrant server: a single node, reached by HTTP wherever it runs."""

    def __init__(self, options: QdrantComponent, host: "Host") -> None:
        self._options, self._host = options, host
        self._scratch = ""
        self._notes: list[str] = []

    # Capture

    def probe(self) -> Probe:
        """Say whether the server answers, whether the key suffices, and whether the collections are there."""
        server, warnings = self._server(), []
        problems: list[tuple[str, str]] = []
        try:
            versions = {"server": server.version()}
            names = self._names(server, problems)
            if (peers := server.peers()) > 1:
                problems.append((f"the server is one of {peers} peers of a cluster", _NO_CLUSTER))
            for name in names[:1]:
                # A key that may read alone is refused even where there is nothing to delete.
                server.delete_snapshot(name, f"{STAGE}none.snapshot")
        except RestauraError as error:
            return Probe(problems=[(error.what, error.fix)])
        if not names and not problems:
            warnings.append("the server holds no collection")
        return Probe(versions, 0, "snapshot", problems, warnings)

    def prepare(self, depth: Depth) -> Sequence[Tree]:  # noqa: ARG002 - the contract's
        """Remove what earlier runs of this component left on the server and could not be found then."""
        server, options = self._server(), self._options
        capture.drop_stages(server, self._mark)
        left = sorted({*server.collections()} - {*self._names(server, []), *options.exclude_collections})
        if options.collections and left:
            self._notes = [
                f"not in `collections`, and so not taken: {', '.join(left)} (or name it in `exclude_collections`)"
            ]
        return ()

    @contextlib.contextmanager
    def freeze(self, depth: Depth, stop_limit: float = UNLIMITED) -> Iterator[FrozenCollections]:  # noqa: ARG002
        """Have the server make a snapshot of every collection; they are removed as soon as they are copied."""
        server, options = self._server(), self._options
        problems: list[tuple[str, str]] = []
        self._names(server, problems)
        if problems:
            raise SourceError(problems[0][0], where=server.where, fix=problems[0][1])
        flat = len(options.collections) == 1
        frozen = FrozenCollections(server, self._host.journal, depth, self._new_id(), export=options.export, flat=flat)
        try:
            frozen.freeze(lambda: self._names(server, []), chosen=bool(options.collections))
            frozen.notes += self._notes
            yield frozen
        except BaseException:
            # What could not be removed now stays in the journal.
            with contextlib.suppress(RestauraError):
                frozen.close()
            raise
        frozen.close()

    # Restore

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Target]:
        """Make room for a drill: collections under names of their own on the same server, removed afterwards."""
        server, self._scratch = self._server(), self._new_id()
        debt = self._host.journal.write(OWNER, "scratch", {"server": server.to_json(), "stage": self._scratch})
        try:
            yield Target("scratch", server.where)
        finally:
            capture.drop_stages(server, self._scratch)
            self._host.journal.settle(debt)

    def stage(self, point: PointReader, target: Target) -> Staged:
        """Load the point's snapshots into collections beside the live ones, or write the artifacts as files."""
        if target.kind == "dir":
            return self._to_directory(point, target)
        if target.kind not in ("live", "name", "scratch"):
            raise ConfigError(
                f"a collection cannot be restored to {target.kind!r}", fix="--to live, name:X or dir:/PATH"
            )
        server = self._server()
        self._refuse_server(server, point)
        described = _description(point)
        chosen = self._chosen(described, target)
        present, aliases = set(server.all_collections()), server.aliases()
        stage_id = self._scratch or self._new_id()
        plan = []
        for number, one in enumerate(chosen):
            final = target.value if target.kind == "name" else str(one["name"])
            alias = target.kind != "scratch" and final in aliases
            stage = f"{final}_restored_{stage_id}" if alias else f"{STAGE}{stage_id}_{number}"
            if target.kind == "name" and (final in present or alias):
                fix = f"give another name, or restore {one['name']!r} to live"
                raise RefusedError(f"there is a collection {final!r} already", where=server.where, fix=fix)
            stored = point.component.artifact(one["snapshot"])
            plan.append(
                {
                    "name": one["name"],
                    "final": final,
                    "stage": stage,
                    "snapshot": one["snapshot"],
                    "bytes": stored.bytes,
                    "sha256": stored.sha256,
                    "alias": alias,
                    "old": aliases.get(final, ""),
                }
            )
        leading = {} if target.kind == "name" else _aliases(described, chosen)
        if taken := sorted(alias for alias in leading if alias in present and target.kind == "live"):
            raise RefusedError(
                f"the point has an alias {taken[0]!r}, and the server a collection of that name",
                where=server.where,
                fix="rename or drop that collection, or restore to name:X",
            )
        directory = self._host.paths.kept / f"qdrant-{stage_id}"
        data: dict[str, Any] = {
            "server": server.to_json(),
            "stage": stage_id,
            "directory": str(directory),
            "restored": [one["stage"] for one in plan if one["alias"]],
            "collections": plan,
            "leading": leading,
            "known": {one["name"]: one for one in chosen},
        }
        debt = None if target.kind == "scratch" else self._host.journal.write(OWNER, "stage", data)
        try:
            for one in plan:
                with point.open(one["snapshot"]) as stream:
                    keep = target.kind != "scratch" and not one["alias"]
                    server.recover(one["stage"], stream, one["bytes"], one["sha256"], keep=keep)
        except BaseException:
            if debt is not None:
                with contextlib.suppress(RestauraError):
                    swap.take_back(data)
                    self._host.journal.settle(debt)
            raise
        part = len(chosen) != len(described["collections"]) or target.kind == "name"
        return Staged(target, {**data, "debt": debt.id if debt else ""}, part=part)

    def _to_directory(self, point: PointReader, target: Target) -> Staged:
        """Write the artifacts as files; each is checked against the manifest as it is read."""
        folder = Path(target.value)
        if folder.exists() and any(folder.iterdir()):
            raise RefusedError("the directory is not empty", where=str(folder), fix="give another: --to dir:PATH")
        private_dir(folder)
        for name in point.names():
            path = folder / name
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with point.open(name) as stream, path.open("wb") as out:
                while chunk := stream.read(swap.CHUNK):
                    out.write(chunk)
        return Staged(target, {"directory": str(folder)}, compared=True)

    def _chosen(self, described: dict[str, Any], target: Target) -> list[dict[str, Any]]:
        """Return what the point says of the collections to restore; NoPointError for one that it lacks."""
        there = {str(one["name"]): one for one in described["collections"]}
        where = f"component {self._options.name}"
        if missing := [name for name in target.paths if name not in there]:
            raise NoPointError(f"the point holds no collection {missing[0]!r}", where=where, fix="restaura show POINT")
        chosen = [there[name] for name in dict.fromkeys(target.paths or there)]
        if target.kind == "name" and len(chosen) != 1:
            raise RefusedError(
                "only one collection can get another name", where=where, fix="name it: --path COLLECTION"
            )
        return chosen

    def _refuse_server(self, server: Server, point: PointReader) -> None:
        """Refuse a cluster, and a server that does not read snapshots of the one that the point is from."""
        if (peers := server.peers()) > 1:
            raise RefusedError(f"the server is one of {peers} peers of a cluster", where=server.where, fix=_NO_CLUSTER)
        old, new = point.component.versions.get("server", ""), server.version()
        if old and not same_or_next(old, new):
            raise RefusedError(
                f"the point is from Qdrant {old}, and this server is {new}: it reads snapshots of its own minor "
                "version and the one before",
                where=server.where,
                fix=f"restore to a server of version {old}, and upgrade that minor version by minor version; "
                "or --to dir:/PATH, and load export.json",
            )

    def fingerprint(self, staged: Staged, depth: Depth) -> Fingerprint:
        """Fingerprint what was staged. Aliases, which only the swap makes, are counted as the point has them.

        Of the configuration only what the point tells is compared: a newer server knows more settings.
        """
        server, data = Server.from_json(staged.data["server"]), staged.data
        parts, counts = fingerprint.alias_parts(data["leading"]), {}
        for one in data["collections"]:
            name, known = one["name"], fingerprint.structure(data["known"][one["name"]])
            found = fingerprint.structure(server.info(one["stage"]))
            more = [key for key in found if key not in known and key.startswith("config ")]
            parts |= fingerprint.structure_parts(name, {key: found[key] for key in found if key not in more})
            if depth == "content":
                points = fingerprint.summed(server.points(one["stage"]))
                parts |= fingerprint.point_parts(name, points)
                counts[f"{name}: points"] = points.count
            elif data["known"][name]["points"] is not None:
                counts[f"{name}: points"] = server.count(one["stage"])
        return Fingerprint(fingerprint.ALGORITHM, depth, parts, counts)

    def busy(self, staged: Staged) -> list[str]:  # noqa: ARG002 - the contract's
        """Name nobody: the server does not tell who uses it. The swap itself refuses what is being written to."""
        return []

    def plan_swap(self, staged: Staged) -> dict[str, Any]:
        """Return the record of the swap: collections, and where aliases lead before and after it."""
        data = staged.data
        server = Server.from_json(data["server"])
        before, finals = server.aliases(), {one["final"]: one for one in data["collections"]}
        wanted: dict[str, str | None] = {alias: None for alias, name in before.items() if name in finals}
        # What was a collection is an alias now, and no alias leads to another.
        instead = {one["name"]: one["stage"] for one in data["collections"] if one["alias"]}
        wanted |= {alias: instead.get(name, name) for alias, name in data["leading"].items()}
        wanted |= {one["final"]: one["stage"] for one in data["collections"] if one["alias"]}
        return {
            **{key: data[key] for key in ("server", "stage", "directory", "collections")},
            "aliases": wanted,
            "aliases_before": {alias: before.get(alias) for alias in wanted},
        }

    def checks(self, staged: Staged | None) -> dict[str, str]:
        """Return the server's URL and key, and by JSON each collection's name there in RESTAURA_COLLECTIONS."""
        if staged is not None and "server" not in staged.data:
            return {"RESTAURA_TARGET": staged.data["directory"]}
        server = self._server() if staged is None else Server.from_json(staged.data["server"])
        if staged is None:
            names = {name: name for name in self._names(server, [])}
        else:
            # After a swap to live the staged ones are gone.
            here = set(server.all_collections())
            named = ((one["name"], one["stage"], one["final"]) for one in staged.data["collections"])
            names = {name: stage if stage in here else final for name, stage, final in named}
        key = {"QDRANT_API_KEY": server.key} if server.key else {}
        return {"RESTAURA_TARGET": server.address, "RESTAURA_COLLECTIONS": json.dumps(names), **key}

    @staticmethod
    def swap(record: dict[str, Any]) -> None:
        """Make the restored collections live; what was live is kept."""
        swap.swap(record)

    @staticmethod
    def undo(record: dict[str, Any]) -> None:
        """Make live again what was live before; what was restored is kept."""
        swap.undo(record)

    @staticmethod
    def discard(record: dict[str, Any]) -> None:
        """Delete the side that is not live."""
        swap.discard(record)

    @staticmethod
    def take_back(act: str, data: dict[str, Any]) -> None:
        """Undo what a dead run left on the server: snapshots, copies, half restores."""
        if act == "freeze":
            capture.take_back(data)
        elif act == "scratch":
            capture.drop_stages(Server.from_json(data["server"]), data["stage"])
        elif act == "stage":
            swap.take_back(data)
        else:
            raise SourceError(f"nobody knows how to take back {act!r}", where=OWNER)

    def _server(self) -> Server:
        options = self._options
        key = self._host.secret("components", options.name, "api_key")
        url = options.url or ("" if options.container else f"http://127.0.0.1:{options.port}")
        return Server(
            options.name, url, options.container, options.port, options.ca_file, str(key or ""), options.timeout
        )

    @property
    def _mark(self) -> str:
        """What the names of this component's own collections begin with, so that no other host's are taken for them."""
        return hashlib.sha256(f"{self._host.name}/{self._options.name}".encode()).hexdigest()[:8]

    def _new_id(self) -> str:
        return f"{self._mark}_{secrets.token_hex(4)}"

    def _names(self, server: Server, problems: list[tuple[str, str]]) -> list[str]:
        """Return the collections to capture; a problem for each that is not there."""
        there, options = server.collections(), self._options
        aliases = server.aliases() if options.collections else {}
        found = []
        for name in options.collections or there:
            real = name if name in there else aliases.get(name, "")
            if real in there:
                found.append(real)
            else:
                fix = f"correct collections of component {options.name}"
                problems.append((f"there is no collection and no alias {name!r}", fix))
        return sorted({name for name in found if name not in options.exclude_collections and not kept_out(name)})


_NO_CLUSTER = "a cluster's collections are spread over its nodes; Restaura backs up and restores single nodes"


def _description(point: PointReader) -> dict[str, Any]:
    with point.open(ALIASES) as stream:
        found: dict[str, Any] = json.loads(stream.read())
    return found


def _aliases(described: dict[str, Any], chosen: list[dict[str, Any]]) -> dict[str, str]:
    names = {one["name"] for one in chosen}
    return {
        one["alias_name"]: one["collection_name"] for one in described["aliases"] if one["collection_name"] in names
    }


SOURCE = SourceKind("qdrant", QdrantComponent, Qdrant, packages=("python3-requests", "python3-docker"), files=False)
