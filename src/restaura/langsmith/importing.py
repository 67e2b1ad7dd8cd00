# SPDX-License-Identifier: GPL-3.0-or-later
"""Importing into a workspace: built under other names, compared, and swapped in; back again, and away.

Datasets with their examples are built anew and change names with what is live. A prompt has no other name, and a
history that only grows: one that is missing is made with all its commits, one that differs gets the point's newest
commit on top. Projects and annotation queues hold runs, which cannot be imported: they are only set up as they were.
Feedback and runs are not imported: the API takes no run whose times are more than 24 hours off.
"""

import json
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from restaura.errors import MismatchError, RefusedError, SourceError
from restaura.langsmith import facts
from restaura.langsmith.api import Address, Api
from restaura.langsmith.archive import Archive
from restaura.langsmith.capture import Reader, commit_tags, now
from restaura.point import safe_name

Item = dict[str, Any]
UPLOAD_EXAMPLES, UPLOAD_BYTES = 50, 16 << 20
MARK = "restaura-boundary-1c7d5e0f9a8b4c3d"
CHUNK = 1 << 18
SECONDS = 3600.0


class Import:
    """One import of `archive` into the workspace of `api`. `token` is part of every name that it makes up.

    `reader` reads back what is in the workspace, into an archive that is thrown away.
    """

    def __init__(self, api: Api, archive: Archive, reader: Reader, token: str, folder: Path) -> None:
        self.api, self.archive, self.reader, self.id, self.folder = api, archive, reader, token, folder
        self.notes: list[str] = []
        self._parts = archive.importable()

    def names(self) -> list[list[str]]:
        """Return (kind, name) of all that may stand in the workspace under a name of ours, to be journaled before."""
        kinds = {"dataset": "datasets", "queue": "annotation_queues", "project": "projects"}
        found = [[kind, self._named(one["name"])] for kind, kept in kinds.items() for one in self.archive.objects(kept)]
        return found + [["prompt", self._handle(one["repo_handle"])] for one in self.archive.objects("prompts")]

    def build(self) -> list[Item]:
        """Build datasets and prompts beside what is live; return the items of the swap's record."""
        items = [item for one in self.archive.objects("datasets") if (item := self._dataset(one))]
        items += [item for one in self.archive.objects("prompts") if (item := self._prompt(one))]
        items += [item for one in self.archive.objects("annotation_queues") if (item := self._queue(one))]
        projects = [one for one in self.archive.objects("projects") if facts.is_tracing(one)]
        return items + [item for one in projects if (item := self._project(one))]

    def compare(self, items: list[Item]) -> None:
        """Read back what was built; MismatchError names what is not as the point has it.

        Queues, projects and the card of a prompt are set by the swap, which reads them back itself.
        """
        wrong = []
        for item in items:
            if item["kind"] == "dataset":
                if self._dataset_digest(item["new"], item["name"]) != self._wanted(f"import/datasets/{item['name']}"):
                    wrong.append(f"dataset {item['name']}")
            elif item["kind"] == "prompt":
                wanted = _prompt_of(self.archive, item)
                told = facts.prompt(self._read_prompt(item["temp"])) | facts.prompt_card(wanted)
                if told | {"handle": item["name"]} != facts.prompt(wanted):
                    wrong.append(f"prompt {item['name']}")
        if wrong:
            raise MismatchError(f"LangSmith gave back something else: {', '.join(wrong)}", where=self.api.where)

    # Datasets

    def _dataset(self, wanted: Item) -> Item | None:
        name = wanted["name"]
        live = self._by_name("/v1/datasets", name)
        if live and self._dataset_digest(live["id"], name) == self._wanted(f"import/datasets/{name}"):
            self.notes.append(f"dataset {name} is as in the point, and was left as it is")
            return None
        taken = self.api.find(f"/v1/datasets/{wanted['id']}") is not None
        key = str(uuid.uuid4()) if taken else wanted["id"]
        self.api.change("POST", "/v1/datasets", self._dataset_body(wanted) | {"name": self._named(name), "id": key})
        self._examples(wanted["id"], key, taken)
        if taken:
            self.notes.append(f"dataset {name} and its examples got new ids: theirs are in use")
        return {
            "kind": "dataset",
            "name": name,
            "temp": self._named(name),
            "new": key,
            "live": live["id"] if live else "",
            "kept": f"{name} (kept by restaura {self.id})",
            "tags": _newest_tags(wanted),
        }

    @staticmethod
    def _dataset_body(wanted: Item) -> Item:
        body = {
            name: wanted[name]
            for name in (*facts.DATASET.split(), "description", "transformations")
            if wanted.get(name)
        }
        return body | {"extra": {"metadata": wanted.get("metadata") or {}}}

    def _examples(self, dataset: str, key: str, taken: bool) -> None:
        batch: list[Item] = []
        size = 0
        for example in self.archive.objects("examples", dataset):
            number = sum(one["bytes"] for one in (example.get("attachments") or {}).values()) + len(json.dumps(example))
            if batch and (len(batch) == UPLOAD_EXAMPLES or size + number > UPLOAD_BYTES):
                self._upload(key, batch, taken)
                batch, size = [], 0
            batch.append(example)
            size += number
        if batch:
            self._upload(key, batch, taken)

    def _upload(self, dataset: str, batch: list[Item], taken: bool) -> None:
        """Send examples with their attachments (docs.langchain.com/langsmith/smith-api/examples/upload-examples)."""
        body = self.folder / "upload"
        with body.open("wb") as out:
            for one in batch:
                key = str(uuid.uuid4()) if taken else one["id"]
                self._example(out, one, key)
            out.write(f"--{MARK}--\r\n".encode())
        answer = self.api.upload(
            f"/v1/platform/datasets/{dataset}/examples", body, f"multipart/form-data; boundary={MARK}"
        )
        body.unlink()
        if answer.get("count") != len(batch):
            raise SourceError(f"took {answer.get('count')} of {len(batch)} examples", where=self.api.where)

    def _example(self, out: BinaryIO, one: Item, key: str) -> None:
        metadata = dict(one.get("metadata") or {})
        split = metadata.pop("dataset_split", None)
        told = {"metadata": metadata, "created_at": one.get("created_at")} | ({"split": split} if split else {})
        _part(out, key, "application/json", json.dumps(told).encode())
        _part(out, f"{key}.inputs", "application/json", json.dumps(one.get("inputs") or {}).encode())
        if one.get("outputs") is not None:
            _part(out, f"{key}.outputs", "application/json", json.dumps(one["outputs"]).encode())
        for name, file in (one.get("attachments") or {}).items():
            mime = file.get("mime_type") or "application/octet-stream"
            _head(out, f"{key}.attachment.{name}", f"{mime}; length={file['bytes']}")
            place = self.archive.attachments / "examples" / safe_name(one["id"]) / safe_name(name)
            with place.open("rb") as stream:
                while chunk := stream.read(CHUNK):
                    out.write(chunk)
            out.write(b"\r\n")

    def _dataset_digest(self, key: str, name: str) -> str:
        found = self.api.get(f"/v1/datasets/{key}")
        examples = facts.Sum(facts.example(one) for one in self.reader.examples(key))
        return facts.digest([facts.dataset(found) | {"name": name}, examples.text])

    # Prompts

    def _prompt(self, wanted: Item) -> Item | None:
        name = wanted["repo_handle"]
        live = self._repo(name)
        before = self._read_prompt(name) if live else None
        if before and facts.digest(facts.prompt(before)) == self._wanted(f"import/prompts/{name}"):
            self.notes.append(f"prompt {name} is as in the point, and was left as it is")
            return None
        temp = self._handle(name)
        fill_prompt(self.api, temp, wanted, public=False)
        if before and not _is_within(wanted, before):
            self.notes.append(
                f"prompt {name} keeps its live history, with the point's newest commit on top; the point's own is in "
                "prompts.json"
            )
        newest = before["commits"][-1] if before and before["commits"] else None
        return {
            "kind": "prompt",
            "name": name,
            "of": wanted["id"],
            "temp": temp,
            "card": facts.prompt_card(wanted),
            "before": facts.prompt_card(before) if before else None,
            "newest": newest["manifest"] if newest else None,
        }

    def _read_prompt(self, handle: str) -> Item:
        repo = self._repo(handle)
        if repo is None:
            raise SourceError(f"there is no prompt {handle}", where=self.api.where)
        return self.reader.prompt(repo)

    def _repo(self, handle: str) -> Item | None:
        return _repo(self.api, handle)

    def _handle(self, name: str) -> str:
        return f"{name[:60]}-restaura-{self.id}"

    # Annotation queues and projects

    def _queue(self, wanted: Item) -> Item | None:
        live = self._by_name("/v1/annotation-queues", wanted["name"])
        before = facts.queue(self.reader.queue(live["id"])) if live else None
        if items := wanted.get("items"):
            self.notes.append(f"annotation queue {wanted['name']}: the {len(items)} runs in it are only archived")
        return self._set_up("queue", facts.queue(wanted), before, live["id"] if live else "")

    def _project(self, wanted: Item) -> Item | None:
        live = self._by_name("/v1/sessions", wanted["name"])
        before = facts.project(live) if live else None
        item = self._set_up("project", facts.project(wanted), before, live["id"] if live else "")
        if item and not live and self.api.find(f"/v1/sessions/{wanted['id']}") is None:
            # The id that the archived runs name.
            item["id"] = wanted["id"]
        return item

    def _set_up(self, kind: str, wanted: Item, before: Item | None, key: str) -> Item | None:
        if before == wanted:
            return None
        return {
            "kind": kind,
            "name": wanted["name"],
            "temp": self._named(wanted["name"]),
            "id": key or str(uuid.uuid4()),
            "wanted": wanted,
            "before": before,
        }

    def _by_name(self, path: str, name: str) -> Item | None:
        return next((one for one in self.api.pages(path, name=name) if one["name"] == name), None)

    def _named(self, name: str) -> str:
        return f"{name} (restaura {self.id})"

    def _wanted(self, part: str) -> str:
        return self._parts[part]


def _newest_tags(dataset: Item) -> list[str]:
    """Return the tags of a dataset's newest version, which is the one that is imported."""
    versions = sorted(dataset.get("versions") or [], key=lambda one: str(one.get("as_of")))
    return list(versions[-1].get("tags") or []) if versions else []


def _is_within(wanted: Item, live: Item) -> bool:
    """Whether the live history of a prompt begins with the point's, or the other way round."""
    one, other = ([commit["manifest"] for commit in prompt["commits"]] for prompt in (wanted, live))
    return other[: len(one)] == one


def _repo(api: Api, handle: str) -> Item | None:
    found = api.find(f"/v1/repos/-/{handle}")
    return found["repo"] if found else None


def fill_prompt(api: Api, handle: str, wanted: Item, *, public: bool) -> None:
    """Make a prompt with every commit and tag, or go on with one that was begun."""
    card = facts.prompt_card(wanted)
    if _repo(api, handle) is None:
        body = {name: card[name] for name in ("description", "readme", "tags")}
        api.change("POST", "/v1/repos/", body | {"repo_handle": handle, "is_public": public and card["is_public"]})
    there = list(api.pages(f"/v1/commits/-/{handle}/", "commits"))[::-1]
    hashes = [one["commit_hash"] for one in there]
    ids = [one["id"] for one in there]
    for commit in wanted["commits"][len(there) :]:
        made = push(api, handle, commit["manifest"], hashes[-1] if hashes else None, commit.get("description"))
        hashes.append(made["commit_hash"])
        ids.append(made["id"])
    places = {commit["commit_hash"]: number for number, commit in enumerate(wanted["commits"])}
    known = {one["tag_name"] for one in commit_tags(api, handle)}
    for tag in wanted.get("commit_tags_list") or []:
        place = places.get(tag.get("commit_hash"))
        if place is not None and tag["tag_name"] not in known:
            body = {"tag_name": tag["tag_name"], "commit_id": ids[place]}
            api.change("POST", f"/v1/repos/-/{handle}/tags", body)
    if card["is_archived"]:
        api.change("PATCH", f"/v1/repos/-/{handle}", {"is_archived": True})


def push(api: Api, handle: str, manifest: Any, parent: str | None, description: str | None = None) -> Item:
    """Add a commit to a prompt and return it."""
    body = {"manifest": manifest, "parent_commit": parent, "skip_webhooks": True}
    answer = api.change("POST", f"/v1/commits/-/{handle}", body | ({"description": description} if description else {}))
    found: Item = answer["commit"]
    return found


def _prompt_of(archive: Archive, item: Item) -> Item:
    """Return the point's prompt that an item is about."""
    found = archive.get("prompts", item["of"])
    if found is None:
        raise SourceError(f"the archive holds no prompt {item['name']}", where=str(archive.folder))
    return found


# The swap. Each function is idempotent: it looks at the names that things have now.


def swap(api: Api, item: Item, prompts: Archive) -> None:
    """Put one item in its place."""
    if item["kind"] == "dataset":
        if item["live"]:
            _rename(api, "datasets", item["live"], item["name"], item["kept"])
        _rename(api, "datasets", item["new"], item["temp"], item["name"])
        versions = list(api.pages(f"/v1/datasets/{item['new']}/versions")) if item["tags"] else []
        for tag in item["tags"] if versions else ():
            body = {"as_of": max(str(one["as_of"]) for one in versions), "tag": tag}
            api.change("PUT", f"/v1/datasets/{item['new']}/tags", body)
    elif item["kind"] == "prompt":
        wanted = _prompt_of(prompts, item)
        if item["before"] is None:
            fill_prompt(api, item["name"], wanted, public=True)
        else:
            _on_top(api, item["name"], wanted["commits"][-1]["manifest"] if wanted["commits"] else None, item["card"])
        _check_prompt(api, item["name"], wanted)
        remove(api, "prompt", item["temp"])
    else:
        _put(api, item)


def undo(api: Api, item: Item, prompts: Archive) -> None:
    """Put back what was in its place; what was restored gets the name back under which it was built."""
    if item["kind"] == "dataset":
        _rename(api, "datasets", item["new"], item["name"], item["temp"])
        if item["live"]:
            _rename(api, "datasets", item["live"], item["kept"], item["name"])
    elif item["kind"] == "prompt":
        if item["before"] is not None:
            _on_top(api, item["name"], item["newest"], item["before"])
        elif _repo(api, item["name"]) is not None:
            wanted = _prompt_of(prompts, item)
            if len(list(api.pages(f"/v1/commits/-/{item['name']}/", "commits"))) > len(wanted["commits"]):
                raise RefusedError(
                    f"prompt {item['name']} has commits since the restore that made it",
                    where=api.where,
                    fix="keep it, or delete it in LangSmith, and undo again",
                )
            fill_prompt(api, item["temp"], wanted, public=False)
            api.change("DELETE", f"/v1/repos/-/{item['name']}")
    elif item["before"] is not None:
        body = _settings(api, item["kind"], item["before"])
        api.change("PATCH", f"/v1/{_PATHS[item['kind']]}/{item['id']}", body)
    else:
        _rename(api, _PATHS[item["kind"]], item["id"], item["name"], item["temp"])


def discard(api: Api, item: Item) -> None:
    """Delete the side that is not live. A project that runs were traced to is left, under the name that `undo` gave."""
    if item["kind"] == "dataset":
        for key in filter(None, (item["new"], item["live"])):
            found = api.find(f"/v1/datasets/{key}")
            if found and found["name"] in (item["temp"], item["kept"]):
                api.change("DELETE", f"/v1/datasets/{key}")
    else:
        remove(api, item["kind"], item["temp"])


def remove(api: Api, kind: str, name: str) -> None:
    """Delete what stands under a name of ours, if it is there; a project that runs were traced to is left."""
    if kind == "prompt":
        if _repo(api, name) is not None:
            api.change("DELETE", f"/v1/repos/-/{name}")
        return
    for one in list(api.pages(f"/v1/{_PATHS[kind]}", name=name)):
        if one["name"] == name and not (kind == "project" and _has_runs(api, one)):
            api.change("DELETE", f"/v1/{_PATHS[kind]}/{one['id']}")


_PATHS = {"dataset": "datasets", "queue": "annotation-queues", "project": "sessions"}


def _rename(api: Api, path: str, key: str, old: str, new: str) -> None:
    found = api.find(f"/v1/{path}/{key}")
    if found and found["name"] == old:
        api.change("PATCH", f"/v1/{path}/{key}", {"name": new})


def _put(api: Api, item: Item) -> None:
    """Set up a queue or a project as the point has it, and read it back."""
    path, key = f"/v1/{_PATHS[item['kind']]}", item["id"]
    body = _settings(api, item["kind"], item["wanted"])
    if api.find(f"{path}/{key}") is None:
        api.change("POST", path, body | {"id": key})
    else:
        api.change("PATCH", f"{path}/{key}", body)
    found = api.get(f"{path}/{key}")
    if item["kind"] == "queue" and found.get("default_dataset"):
        found["default_dataset_name"] = api.get(f"/v1/datasets/{found['default_dataset']}")["name"]
    told = facts.queue(found) if item["kind"] == "queue" else facts.project(found)
    if told != item["wanted"]:
        wrong = sorted(name for name in {*told, *item["wanted"]} if told.get(name) != item["wanted"].get(name))
        raise MismatchError(f"{item['kind']} {item['name']}: {', '.join(wrong)} did not come back", where=api.where)


def _settings(api: Api, kind: str, wanted: Item) -> Item:
    """Return what sets up a queue or project: its dataset by the id it has now, and nothing where nothing was."""
    if kind == "project":
        return dict(wanted)
    body = {"description": None, "rubric_instructions": None, "default_dataset": None} | wanted
    name = body.pop("default_dataset_name", None)
    datasets: list[Item] = list(api.pages("/v1/datasets", name=name)) if name else []
    for one in datasets:
        if one["name"] == name:
            body["default_dataset"] = one["id"]
    return body


def _on_top(api: Api, handle: str, manifest: Any, card: Item) -> None:
    """Make a manifest a prompt's newest, and its card what it was."""
    commits = list(api.pages(f"/v1/commits/-/{handle}/", "commits"))
    newest = api.get(f"/v1/commits/-/{handle}/{commits[0]['commit_hash']}")["manifest"] if commits else None
    if manifest is not None and newest != manifest:
        push(api, handle, manifest, commits[0]["commit_hash"] if commits else None, "Restored")
    api.change("PATCH", f"/v1/repos/-/{handle}", card)


def _check_prompt(api: Api, handle: str, wanted: Item) -> None:
    commits = list(api.pages(f"/v1/commits/-/{handle}/", "commits"))
    newest = api.get(f"/v1/commits/-/{handle}/{commits[0]['commit_hash']}")["manifest"] if commits else None
    card = facts.prompt_card(_repo(api, handle) or {})
    last = wanted["commits"][-1]["manifest"] if wanted["commits"] else newest
    if newest != last or card != facts.prompt_card(wanted):
        raise MismatchError(f"prompt {handle} did not come back as it was", where=api.where)


def _has_runs(api: Api, project: Item) -> bool:
    return api.count_runs(project["id"], now()) != 0


def _head(out: BinaryIO, name: str, content_type: str) -> None:
    quoted = name.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "%0D").replace("\n", "%0A")
    head = f'--{MARK}\r\nContent-Disposition: form-data; name="{quoted}"\r\nContent-Type: {content_type}\r\n\r\n'
    out.write(head.encode())


def _part(out: BinaryIO, name: str, content_type: str, content: bytes) -> None:
    _head(out, name, content_type)
    out.write(content + b"\r\n")


def open_api(record: Item) -> Api:
    """Return the API that a record's swap uses."""
    return Address(**record["address"]).open(SECONDS)


def record_of(address: Address) -> Item:
    """Return an address as JSON values."""
    return asdict(address)
