# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading a workspace into the archive: before the freeze, and once more, only what is new, after it."""

import bisect
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

from restaura.errors import SourceError
from restaura.langsmith import facts
from restaura.langsmith.api import GONE, Api, moment_of, text_of
from restaura.langsmith.archive import Archive
from restaura.point import safe_name
from restaura.web import AnswerError

WINDOW = timedelta(days=7)
TOGETHER = 20  # projects that one query of runs names
# What is traced may bear an earlier time than its project by as much as the API takes (24 h), and then some.
BEFORE = timedelta(days=2)
# Between the reading before the freeze and the freeze: what was on its way then.
ON_ITS_WAY = timedelta(minutes=15)
COMMIT = 500
SECTIONS = ("needs_my_review", "needs_others_review", "archived")
EXAMPLE_FIELDS = ("attachment_urls", "outputs", "metadata", "source_run_id")


@dataclass(frozen=True)
class Span:
    """How many runs of a project began after `since` and until `end`: those held, and those the server counts."""

    since: datetime
    end: datetime
    held: int
    counted: int


class Selection:
    """Which projects are read: those of `include` (all, when it is empty) that are not in `exclude`; shell patterns."""

    def __init__(self, include: Iterable[str], exclude: Iterable[str]) -> None:
        self.include, self.exclude = tuple(include), tuple(exclude)

    def takes(self, name: str) -> bool:
        """Whether the project called `name` is read."""
        wanted = not self.include or any(fnmatchcase(name, one) for one in self.include)
        return wanted and not any(fnmatchcase(name, one) for one in self.exclude)


class Reader:
    """Reads what `api` gives into `archive`. `room` raises SpaceError when that many bytes more do not fit."""

    def __init__(
        self,
        api: Api,
        archive: Archive,
        selection: Selection,
        since: datetime | None,
        late: timedelta,
        page: int,
        counts: bool,
        room: Callable[[int], None],
    ) -> None:
        self.api, self.archive, self.selection = api, archive, selection
        self.since, self.late, self.page, self.counts, self.room = since, late, page, counts, room
        self.notes: list[str] = []
        self._until: datetime | None = None
        self._put = 0

    def before(self, until: datetime) -> None:
        """Read what is long: the projects' runs until a moment, and every commit of every prompt."""
        self._runs(self._projects(), until, self.late)
        for _ in self._prompts():
            pass
        self.archive.commit()

    def after(self, until: datetime) -> None:
        """Read everything as of `until`; of runs what is newer than `before` read, and what came late."""
        self._until = until
        projects = self._projects()
        self._runs(projects, until, ON_ITS_WAY)
        self._count(projects, until)
        self._datasets(until)
        for prompt in self._prompts():
            self._keep("prompts", prompt)
        for one in self._feedback(projects, until):
            if facts.part_of("feedback", one) in projects or not (self.selection.include or self.selection.exclude):
                self._keep("feedback", facts.kept("feedback", one))
        self._queues()
        for kind in ("projects", "datasets", "examples", "prompts", "annotation_queues", "commits"):
            self.archive.sweep(kind)
        self.archive.commit()
        self._tidy()

    # Projects and runs

    def _projects(self) -> dict[str, dict[str, Any]]:
        found = {}
        for one in self.api.pages("/v1/sessions", sort_by="start_time", sort_by_desc="false", include_stats="false"):
            if self.selection.takes(str(one["name"])) and not self._later(one.get("start_time")):
                found[str(one["id"])] = facts.kept("projects", one)
                self._keep("projects", found[str(one["id"])])
        return found

    def _runs(self, projects: dict[str, dict[str, Any]], until: datetime, again: timedelta) -> None:
        """Read the runs of projects, those together that were read until the same moment, window by window."""
        groups: dict[datetime, list[str]] = {}
        for key, project in projects.items():
            groups.setdefault(self._from(key, project, until, again), []).append(key)
        for since, keys in sorted(groups.items()):
            for number in range(0, len(keys), TOGETHER):
                self._windows(keys[number : number + TOGETHER], since, until)

    def _from(self, key: str, project: dict[str, Any], until: datetime, again: timedelta) -> datetime:
        known = self.archive.mark(f"until {key}")
        begun = _begun(project)
        if known:
            return max(begun, min(moment_of(known), until) - again)
        return max(begun, self.since) if self.since else begun

    def _windows(self, keys: list[str], since: datetime, until: datetime) -> None:
        while since < until:
            end = min(since + WINDOW, until)
            for run in self.api.runs(keys, since, end, self.page):
                self._run(run)
            for key in keys:
                self.archive.mark(f"until {key}", text_of(end))
            self.archive.commit()
            since = end

    def _run(self, run: dict[str, Any]) -> None:
        key, project = str(run["id"]), facts.part_of("runs", run)

        def urls(found: dict[str, Any]) -> dict[str, tuple[str, str]]:
            direct = {name: (url, "") for name, url in (found.get("attachments") or {}).items()}
            return direct or _presigned(found.get("s3_urls"))

        def renew() -> dict[str, tuple[str, str]]:
            if self.api.v1:
                return urls(self.api.get(f"/v1/runs/{key}"))
            given = {"project_id": project, "start_time": run["start_time"], "selects": ["ATTACHMENTS"]}
            return urls(self.api.get(f"/v2/runs/{key}", **given))

        body = facts.kept("runs", run)
        if files := self._attach("runs", key, urls(run), renew, None):
            body["attachments"] = files
        self._keep("runs", body)

    def _count(self, projects: dict[str, dict[str, Any]], until: datetime) -> None:
        """Compare with what the server counts, where something was read; read the times anew that came out short."""
        if self.since or not self.counts:
            return
        for key, project in projects.items():
            if not self.archive.fresh("runs", key):
                continue
            begun = _begun(project)
            counts = self._counts(key, begun, until)
            if counts is None:
                self.notes.append("the server does not count runs (/runs/stats): their number was not compared")
                return
            short = [one for one in counts if one.held < one.counted]
            for one in short:
                self._windows([key], one.since, one.end)
            if short:
                self.archive.mark(f"until {key}", text_of(until))
                counts = self._counts(key, begun, until) or []
            if short := [one for one in counts if one.held < one.counted]:
                one = short[0]
                times = f"from {text_of(one.since)} to {text_of(one.end)}"
                raise SourceError(
                    f"the server counts {one.counted} runs {times}, and gave {one.held}",
                    where=f"{self.api.where}, project {project['name']}",
                    fix="run the plan again",
                )
            if gone := sum(one.held - one.counted for one in counts):
                what = f"{gone} runs of project {project['name']} are no longer on the server"
                self.notes.append(f"{what}: the archive keeps them")

    def _counts(self, key: str, begun: datetime, until: datetime) -> list[Span] | None:
        """Return what is held and what the server counts of the last weeks, and of spans twice as long each before.

        Of all time together, runs that the server has deleted would hide as many that were never read.
        """
        edges, span = [until], WINDOW
        while edges[0] - span > begun:
            edges.insert(0, edges[0] - span)
            span *= 2
        held = Counter(bisect.bisect_left(edges, moment_of(at)) for at in self.archive.moments("runs", key))
        found, before, since = [], 0, begun
        for number, end in enumerate(edges):
            counted = self.api.count_runs(key, end)
            if counted is None:
                return None
            found.append(Span(since, end, held[number], counted - before))
            before, since = counted, end
        return found

    def _feedback(self, projects: Iterable[str], until: datetime) -> Iterator[dict[str, Any]]:
        """Yield all feedback; project by project where the server does not list that of a whole workspace."""
        try:
            yield from self.api.pages("/v1/feedback", max_created_at=text_of(until))
        except AnswerError as error:
            if error.status not in (400, 422):
                raise
            for key in projects:
                yield from self.api.pages("/v1/feedback", session=key, max_created_at=text_of(until))

    # Datasets, prompts, queues

    def _datasets(self, until: datetime) -> None:
        for one in list(self.api.pages("/v1/datasets", sort_by="created_at", sort_by_desc="false")):
            if self._later(one.get("created_at")):
                continue
            try:
                # `latest` is no tag that anybody set: it goes with the newest.
                versions = [
                    version | {"tags": [tag for tag in version.get("tags") or [] if tag != "latest"]}
                    for version in self.api.pages(f"/v1/datasets/{one['id']}/versions")
                    if not self._later(version.get("as_of"))
                ]
                for example in self.examples(one["id"], until):
                    self._keep("examples", example)
            except AnswerError as error:
                if error.status != 404 or self.api.find(f"/v1/datasets/{one['id']}") is not None:
                    raise
                self.notes.append(f"dataset {one['name']} was deleted while it was read")
                continue
            self._keep("datasets", facts.kept("datasets", one) | {"versions": versions})

    def examples(self, dataset: str, until: datetime | None = None) -> Iterator[dict[str, Any]]:
        """Yield a dataset's examples as of `until` (now), their attachments downloaded."""
        given: dict[str, Any] = {"dataset": dataset, "select": EXAMPLE_FIELDS}
        moment = {"as_of": text_of(until)} if until else {}
        for one in self.api.pages("/v1/examples", **given, **moment):
            key = str(one["id"])

            def renew(key: str = key) -> dict[str, tuple[str, str]]:
                return _presigned(self.api.get(f"/v1/examples/{key}", **moment).get("attachment_urls"))

            body = facts.kept("examples", one) | {"dataset_id": dataset}
            urls = _presigned(one.get("attachment_urls"))
            if files := self._attach("examples", key, urls, renew, one.get("modified_at")):
                body["attachments"] = files
            yield body

    def _prompts(self) -> Iterator[dict[str, Any]]:
        """Yield the workspace's own prompts, each with its whole history; of that only what is new is read."""
        tenant = self.api.get("/v1/settings")["id"]
        given = {"tenant_id": tenant, "is_archived": "allow", "sort_field": "updated_at", "sort_direction": "asc"}
        for repo in self.api.pages("/v1/repos/", "repos", **given):
            if not self._later(repo.get("created_at")):
                yield self.prompt(repo)

    def prompt(self, repo: dict[str, Any]) -> dict[str, Any]:
        """Return a prompt with its commits, oldest first, and its commit tags."""
        handle, commits = repo["repo_handle"], []
        for listed in self.api.pages(f"/v1/commits/-/{handle}/", "commits"):
            if self._later(listed.get("created_at")):
                continue
            key = f"{repo['id']}:{listed['commit_hash']}"
            commit = self.archive.get("commits", key)
            if commit is None:
                whole = self.api.get(f"/v1/commits/-/{handle}/{listed['commit_hash']}", include_model="true")
                commit = facts.kept("commits", {**listed, **whole}) | {"id": key}
                self._keep("commits", commit)
            else:
                self.archive.keep("commits", key)
            commits.append({name: value for name, value in commit.items() if name != "id"})
        tags = commit_tags(self.api, handle)
        hashes = [{"tag_name": one["tag_name"], "commit_hash": one.get("commit_hash")} for one in tags]
        told = {"commits": commits[::-1], "commit_tags_list": sorted(hashes, key=lambda one: str(one["tag_name"]))}
        return facts.kept("prompts", repo) | told

    def _queues(self) -> None:
        for listed in list(self.api.pages("/v1/annotation-queues")):
            if self._later(listed.get("created_at")):
                continue
            self._keep("annotation_queues", self.queue(listed["id"]) | {"items": self._items(listed["id"])})

    def queue(self, key: str) -> dict[str, Any]:
        """Return how an annotation queue is set up; its dataset by name, as ids are given anew."""
        one = facts.kept("annotation_queues", self.api.get(f"/v1/annotation-queues/{key}"))
        if wanted := one.get("default_dataset"):
            dataset = self.api.find(f"/v1/datasets/{wanted}")
            one["default_dataset_name"] = dataset["name"] if dataset else None
        return one

    def _items(self, queue: str) -> list[dict[str, Any]]:
        """Return which runs (or threads) stand in a queue."""
        found = []
        try:
            for section in SECTIONS:
                given = {"status": section, "page_size": 100}
                listed = self.api.cursor_pages(f"/v1/platform/annotation-queues/{queue}/items", **given)
                found += [one | {"section": section} for one in listed]
        except AnswerError as error:
            if error.status not in GONE:
                raise
            wanted = ("added_at", "last_reviewed_time", "queue_run_id", "session_id", "start_time", "trace_id")
            found = [
                {"id": one["id"], "run_id": one["id"]} | {name: one[name] for name in wanted if name in one}
                for one in self.api.pages(f"/v1/annotation-queues/{queue}/runs")
            ]
        return sorted(found, key=lambda one: str(one.get("id")))

    def _later(self, begun: str | None) -> bool:
        """Whether something began after the freeze."""
        return bool(self._until and begun and moment_of(begun) > self._until)

    # What is put

    def _keep(self, kind: str, body: dict[str, Any]) -> None:
        self.archive.put(kind, body, part=facts.part_of(kind, body), at=facts.moment(kind, body))
        self._put += 1
        if self._put % COMMIT == 0:
            self.archive.commit()
            self.room(0)

    def _attach(
        self,
        kind: str,
        key: str,
        urls: dict[str, tuple[str, str]],
        renew: Callable[[], dict[str, tuple[str, str]]],
        version: str | None,
    ) -> dict[str, dict[str, Any]]:
        """Download what is not here yet, at once: presigned addresses expire. One that has is asked for anew."""
        known = (self.archive.get(kind, key) or {}) if urls else {}
        same = kind == "runs" or (version is not None and known.get("modified_at") == version)
        found = {}
        for name, (url, mime) in sorted(urls.items()):
            file = f"{kind}/{safe_name(key)}/{safe_name(name)}"
            path = self.archive.attachments / file
            before = (known.get("attachments") or {}).get(name)
            if same and before and path.is_file() and path.stat().st_size == before["bytes"]:
                found[name] = before
                continue
            try:
                size, sha256 = self.api.download(url, path, self.room)
            except AnswerError as error:
                if error.status not in (400, 401, 403, 404, 410):
                    raise
                size, sha256 = self.api.download(renew()[name][0], path, self.room)
            found[name] = {"file": f"attachments/{file}", "bytes": size, "sha256": sha256, "mime_type": mime or None}
        return found

    def _tidy(self) -> None:
        """Remove the files of examples that are gone, or changed."""
        folder = self.archive.attachments / "examples"
        for owner in sorted(folder.iterdir()) if folder.is_dir() else []:
            body = self.archive.get("examples", owner.name)
            wanted = {safe_name(name) for name in (body or {}).get("attachments") or {}}
            for file in owner.iterdir():
                if file.name not in wanted:
                    file.unlink()
            if not wanted:
                shutil.rmtree(owner)


def _presigned(found: dict[str, Any] | None) -> dict[str, tuple[str, str]]:
    """Return (address, type) of attachments, which v1 lists among other files as `attachment.NAME`."""
    return {
        name.removeprefix("attachment."): (one["presigned_url"], one.get("mime_type") or "")
        for name, one in (found or {}).items()
        if name.startswith("attachment.") and one.get("presigned_url")
    }


def _begun(project: dict[str, Any]) -> datetime:
    """Return before when a project cannot have runs."""
    return moment_of(project.get("start_time") or "1970-01-01T00:00:00") - BEFORE


def commit_tags(api: Api, handle: str) -> list[dict[str, Any]]:
    """Return a prompt's commit tags; none from a server that does not list them."""
    try:
        return list(api.get(f"/v1/repos/-/{handle}/tags") or [])
    except AnswerError as error:
        if error.status not in GONE:
            raise
        return []


def now() -> datetime:
    """Return the moment, in UTC."""
    return datetime.now(UTC)
