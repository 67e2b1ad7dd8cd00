# SPDX-License-Identifier: GPL-3.0-or-later
"""What Grafana's HTTP API gives and takes: everything of one organisation that a person set up, but for users.

grafana.com/docs/grafana/latest/developers/http_api/ has every path here. The API never gives the secrets of data
sources, and those of contact points only to an organisation's admin. Documents are kept as they are sent back; what the
server makes up itself (ids, times, versions) is left out where that can be.
"""

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from restaura.errors import SourceError
from restaura.paths import private_dir, read_secret, write_atomic
from restaura.point import safe_name
from restaura.web import AnswerError, Service

# In the order in which they are put back: each needs those before it.
KINDS = (
    "datasources",
    "folders",
    "library-elements",
    "dashboards",
    "templates",
    "mute-timings",
    "contact-points",
    "policies",
    "alert-rules",
)
# What is exported besides: the interval of each group of alert rules.
DOCUMENTS = (*KINDS, "rule-groups")
DASHBOARDS = "dashboards"
# Never exported: what a database gives for a restore.
SECRETS = "secrets-of-datasources.json"
ALERTING = "/api/v1/provisioning"
PAGE, MOST_PAGES = 500, 400
PATIENCE = 10.0  # seconds that an export, and with it the pause, waits for a server that is down or busy
_THREADS = 4
_MADE_UP = ("id", "orgId", "orgID", "updated", "provenance", "readOnly", "typeLogoUrl", "typeName", "accessControl")
_REDACTED = "[REDACTED]"
_FIX = "give the component a token (or user) with the role Admin"
# How Grafana refuses to change what it reads from files, or what Terraform made.
_FIXED = ("provisioned", "provenance", "read-only", "readonly")
_PROVISIONED = "it is provisioned there by files, or by another program: have those make it what the point holds"

Document = dict[str, Any]


def login(url: str, token: Path | None, user: str, password: Path | None, ca_file: str, org: int) -> Service:
    """Return the API with its credentials, which are read from files; SourceError when they cannot be read."""
    headers = {"X-Disable-Provenance": "true", "Accept": "application/json"}
    if org:
        headers["X-Grafana-Org-Id"] = str(org)
    if token:
        headers["Authorization"] = f"Bearer {read_secret(token, str(token), 'token').strip()}"
    elif password:
        pair = f"{user}:{read_secret(password, str(password))}".encode()
        headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
    return Service(url, headers, ca_file, patience=PATIENCE, fix=f"see whether it answers: curl {url}/api/health")


@dataclass
class Export:
    """The documents of one organisation, by kind and key, as files below `folder`."""

    folder: Path
    notes: list[str] = field(default_factory=list)

    def read(self, kind: str) -> Mapping[str, Document]:
        """Return the documents of a kind by their keys; none where the kind was not exported.

        Dashboards are many and large: each is read when it is asked for.
        """
        if kind == DASHBOARDS:
            return _Dashboards(self.folder / DASHBOARDS, self.places())
        path = self.folder / f"{kind}.json"
        if not path.exists():
            return {}
        told = json.loads(path.read_bytes())
        return {key_of(kind, one): one for one in (told if isinstance(told, list) else [told])}

    def keys(self, kind: str) -> list[str]:
        """Return the keys of a kind's documents."""
        return list(self.places() if kind == DASHBOARDS else self.read(kind))

    def places(self) -> dict[str, str]:
        """Return the uid of every dashboard, and of the folder that it is in (empty: none)."""
        path = self.folder / "dashboard-folders.json"
        found: dict[str, str] = json.loads(path.read_bytes()) if path.exists() else {}
        return found

    def secrets(self) -> dict[str, dict[str, str]]:
        """Return the secrets of data sources by their keys, where a database gave them."""
        path = self.folder / SECRETS
        found: dict[str, dict[str, str]] = json.loads(path.read_bytes()) if path.exists() else {}
        return found

    def write(self, kind: str, documents: Any) -> None:
        """Keep the documents of a kind."""
        write_atomic(self.folder / f"{kind}.json", to_json(documents))


class _Dashboards(Mapping[str, Document]):
    """Dashboards as they are sent back: model and folder."""

    def __init__(self, folder: Path, places: dict[str, str]) -> None:
        self._folder, self._places = folder, places

    def __getitem__(self, uid: str) -> Document:
        where = self._places[uid]
        return {"dashboard": json.loads((self._folder / f"{safe_name(uid)}.json").read_bytes()), "folderUid": where}

    def __contains__(self, uid: object) -> bool:
        return uid in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def key_of(kind: str, document: Document) -> str:
    """Return what names a document among those of its kind."""
    if kind == "policies":
        return "tree"
    if kind == "rule-groups":
        return f"{document['folderUid']}/{document['title']}"
    return str(document["name"] if kind in ("templates", "mute-timings") else document["uid"])


def to_json(value: Any) -> bytes:
    """Return JSON whose bytes say only what it holds."""
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"


# -- reading --------------------


def health(service: Service) -> str:
    """Return the version of a Grafana that answers (empty where it hides that); SourceError when it is not well."""
    told = service.json("GET", "/api/health")
    if not isinstance(told, dict) or told.get("database") != "ok":
        raise SourceError("is not well: its database is not ok", where=f"{service.url}/api/health")
    return str(told.get("version") or "")


def organisation(service: Service) -> int:
    """Return the id of the organisation that the credentials are for; SourceError when they are not taken."""
    try:
        return int(service.json("GET", "/api/org")["id"])
    except AnswerError as error:
        if error.status in (401, 403):
            raise SourceError("the token or password is not taken", where=service.url, fix=_FIX) from error
        raise
    except (TypeError, KeyError, ValueError) as error:
        raise SourceError("is not Grafana's API", where=f"{service.url}/api/org") from error


def export(service: Service, folder: Path) -> Export:
    """Write everything of an organisation to files below `folder`."""
    made = Export(folder)
    private_dir(folder / DASHBOARDS)
    made.write("datasources", [_clean(one) for one in _list(service, "/api/datasources")])
    made.write("folders", list(_folders(service)))
    elements = _pages(service, "/api/library-elements", "perPage", {}, lambda told: told["result"]["elements"])
    wanted = ("uid", "name", "kind", "type", "description", "model", "folderUid", "version")
    made.write("library-elements", [{name: one[name] for name in wanted if name in one} for one in elements])
    listed = [
        str(one["uid"]) for one in _pages(service, "/api/search", "limit", {"type": "dash-db"}, lambda told: told)
    ]

    def fetch(uid: str) -> tuple[str, str]:
        told = service.json("GET", f"/api/dashboards/uid/{quote(uid, safe='')}")
        model = {name: value for name, value in told["dashboard"].items() if name != "id"}
        write_atomic(made.folder / DASHBOARDS / f"{safe_name(uid)}.json", to_json(model))
        return uid, str((told.get("meta") or {}).get("folderUid") or "")

    with ThreadPoolExecutor(_THREADS) as pool:
        made.write("dashboard-folders", dict(pool.map(fetch, listed)))
    _export_alerting(service, made)
    return made


def _export_alerting(service: Service, made: Export) -> None:
    try:
        rules = _list(service, f"{ALERTING}/alert-rules")
    except AnswerError as error:
        if error.status != 404:
            raise
        made.notes.append("the server has no alerting: no alert rules, contact points and policies were exported")
        return
    made.write("alert-rules", [_clean(one) for one in rules])
    groups = sorted({(str(one["folderUID"]), str(one["ruleGroup"])) for one in rules})
    made.write("rule-groups", [_group(service, *one) for one in groups])
    made.write("contact-points", _contact_points(service, made.notes))
    made.write("policies", _clean(service.json("GET", f"{ALERTING}/policies")))
    for kind in ("mute-timings", "templates"):
        made.write(kind, [_clean(one, "version") for one in _list(service, f"{ALERTING}/{kind}", none=404)])


def _group(service: Service, folder: str, title: str) -> Document:
    told = service.json("GET", _group_path({"folderUid": folder, "title": title}))
    return {"folderUid": folder, "title": title, "interval": told["interval"]}


def _group_path(group: Document) -> str:
    return f"{ALERTING}/folder/{quote(group['folderUid'], safe='')}/rule-groups/{quote(group['title'], safe='')}"


def _contact_points(service: Service, notes: list[str]) -> list[Document]:
    """Return the contact points with their secrets, or without where the credentials do not give them."""
    path = f"{ALERTING}/contact-points/export"
    try:
        told = service.json("GET", path, params={"decrypt": "true", "format": "json"})
    except AnswerError as error:
        if error.status != 403:
            raise
        notes.append("the secrets of contact points are not in the export: its credentials are no admin's")
        told = service.json("GET", path, params={"format": "json"})
    found = [
        {"name": point["name"], **receiver}
        for point in told.get("contactPoints") or ()
        for receiver in point.get("receivers") or ()
    ]
    return [{"disableResolveMessage": False, **one} for one in found]


def _folders(service: Service, parent: str = "", seen: set[str] | None = None) -> Iterator[Document]:
    """Yield every folder, parents first. Before folders could be nested, every question gave all of them."""
    seen = set() if seen is None else seen
    asked = {"parentUid": parent} if parent else {}
    for one in list(_pages(service, "/api/folders", "limit", asked, lambda told: told)):
        if one["uid"] not in seen:
            seen.add(one["uid"])
            yield {"uid": one["uid"], "title": one["title"], "parentUid": parent}
            yield from _folders(service, one["uid"], seen)


def _pages(
    service: Service, path: str, size: str, asked: Mapping[str, str], items: Callable[[Any], Any]
) -> Iterator[Document]:
    """Yield what all pages of a list hold; SourceError when it never ends, or says the same again."""
    known: set[str] = set()
    for page in range(1, MOST_PAGES + 1):
        try:
            found = items(service.json("GET", path, params={**asked, size: PAGE, "page": page}))
            new = [one for one in found if one["uid"] not in known]
        except (TypeError, KeyError) as error:
            raise SourceError("the answer is not what the API says", where=f"GET {service.url}{path}") from error
        known |= {one["uid"] for one in new}
        yield from new
        if len(found) < PAGE:
            return
        if not new:
            break
    raise SourceError("the list never ends: page after page is full", where=f"GET {service.url}{path}")


def _list(service: Service, path: str, none: int = 0) -> list[Document]:
    try:
        found = service.json("GET", path)
    except AnswerError as error:
        if error.status == none:
            return []
        raise
    if not isinstance(found, list | None):
        raise SourceError("the answer is not what the API says", where=f"GET {service.url}{path}")
    return found or []


def _clean(document: Document, *more: str) -> Document:
    return {name: value for name, value in document.items() if name not in (*_MADE_UP, *more)}


# -- writing --------------------


def put_back(service: Service, wanted: Export, there: Export) -> None:
    """Write every document of `wanted` to the API, over what is `there`; SourceError names the first that fails.

    What is there already is left alone: of what files provision, Grafana refuses every change.
    """
    for kind in KINDS:
        known = there.read(kind)
        secrets = wanted.secrets() if kind == "datasources" else {}
        for key, document in wanted.read(kind).items():
            if secrets.get(key):
                document["secureJsonData"] = secrets[key]
            elif key in known and _same(kind, document, known[key]):
                continue
            try:
                _put(service, kind, key, document, known)
            except AnswerError as error:
                fix = _PROVISIONED if any(one in error.said.lower() for one in _FIXED) else _FIX
                raise SourceError(error.what, where=f"{kind} {key}: {error.where}", fix=fix) from error
    rules, groups = wanted.read("alert-rules"), there.read("rule-groups")
    for key, group in wanted.read("rule-groups").items():
        if groups.get(key) == group:
            continue
        own = [
            one
            for one in rules.values()
            if (one["folderUID"], one["ruleGroup"]) == (group["folderUid"], group["title"])
        ]
        service.json("PUT", _group_path(group), body={**group, "rules": own}, repeatable=True)


def _put(service: Service, kind: str, key: str, document: Document, known: Mapping[str, Any]) -> None:
    path, name = _path(kind), quote(key, safe="")
    if kind == "dashboards":
        service.json("POST", "/api/dashboards/db", body={**document, "overwrite": True}, repeatable=True)
    elif kind == "policies":
        service.json("PUT", path, body=document, repeatable=True)
    elif kind == "templates":
        service.json("PUT", f"{path}/{name}", body=document, repeatable=True)
    elif key not in known:
        service.json("POST", path, body=document)
    elif kind == "library-elements":
        body = {**document, "version": known[key]["version"]}
        service.json("PATCH", f"{path}/{name}", body=body)
    elif kind == "folders":
        service.json("PUT", f"{path}/{name}", body={"title": document["title"], "overwrite": True}, repeatable=True)
        # Servers without nested folders know no such path.
        if document["parentUid"] != known[key]["parentUid"]:
            service.json("POST", f"{path}/{name}/move", body={"parentUid": document["parentUid"]}, repeatable=True)
    else:
        item = f"/uid/{name}" if kind == "datasources" else f"/{name}"
        service.json("PUT", path + item, body=document, repeatable=True)


def remove(service: Service, made: Export, there: Export) -> None:
    """Delete what `made` has and `there` has not, last things first; what is gone already is no error.

    A folder that somebody uses by now stays.
    """
    for kind in reversed(KINDS):
        if kind == "policies":
            continue
        before = set(there.keys(kind))
        for key in reversed(made.keys(kind)):
            # With a folder go the dashboards in it: somebody may have made one there since.
            kept = kind == "folders" and service.json("GET", "/api/search", params={"folderUIDs": key, "limit": 1})
            if key not in before and not kept:
                item = (
                    f"/uid/{quote(key, safe='')}"
                    if kind in ("datasources", "dashboards")
                    else f"/{quote(key, safe='')}"
                )
                try:
                    service.json("DELETE", _path(kind) + item, repeatable=True)
                except AnswerError as error:
                    if error.status != 404:
                        raise


def _path(kind: str) -> str:
    return f"/api/{kind}" if kind in KINDS[:4] else f"{ALERTING}/{kind}"


def differences(wanted: Export, found: Export, kinds: Sequence[str] = DOCUMENTS) -> list[str]:
    """Name every document of `wanted` that `found` has not, or has otherwise. Secrets are not compared."""
    wrong = []
    for kind in kinds:
        there = found.read(kind)
        for key, document in wanted.read(kind).items():
            if key not in there:
                wrong.append(f"{kind} {key}: missing")
            elif _compared(kind, document) != _compared(kind, there[key]):
                wrong.append(f"{kind} {key}: differs")
    return wrong


def _same(kind: str, wanted: Document, there: Document) -> bool:
    """Whether a document need not be written; one whose secrets the API did not give need be."""
    alike = _compared(kind, wanted) == _compared(kind, there)
    return alike and wanted.get("settings") == there.get("settings") and _REDACTED not in json.dumps(wanted)


def _compared(kind: str, document: Document) -> Document:
    if kind == "dashboards":
        return {**document, "dashboard": {**document["dashboard"], "version": 0}}
    if kind == "contact-points":
        return {name: value for name, value in document.items() if name != "settings"}
    return {name: value for name, value in document.items() if name != "version"}


def redacted(documents: Mapping[str, Document]) -> list[str]:
    """Return the keys of the documents whose secrets the API did not give."""
    return [key for key, one in documents.items() if _REDACTED in json.dumps(one)]
