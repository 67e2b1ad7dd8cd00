# SPDX-License-Identifier: GPL-3.0-or-later
"""LangSmith's HTTP API: paced, bounded in time, and paged to a certain end.

What was looked up: docs.langchain.com/langsmith (cloud-rate-limits, smithdb-sdk-migration-query-runs), the OpenAPI
document of github.com/langchain-ai/docs (langsmith-platform-openapi.json), and the SDK of PyPI, langsmith 0.15.0.
"""

import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

from restaura.errors import ConfigError, SourceError
from restaura.web import AnswerError, Service

T = TypeVar("T")
LIMIT = 100  # the most that v1 gives in one page
SMALLEST_PAGE = 2  # one item that the page before ended with, and one more
OVERLAP = 5
READ_AGAIN = 10
KEPT_IDENTITIES = 10_000
PAGE_BYTES = 4 << 20  # of an answer; what is larger is asked for again in smaller pages
PATIENCE = 120.0
CHUNK = 1 << 18
GONE = (404, 405, 410, 501)
# Everything but the previews, which inputs and outputs hold, and SHARE_URL, which opens a run to anybody.
SELECTS = (
    "ID NAME RUN_TYPE STATUS START_TIME END_TIME LATENCY_SECONDS FIRST_TOKEN_TIME ERROR EXTRA METADATA EVENTS INPUTS "
    "OUTPUTS MANIFEST PARENT_RUN_IDS PROJECT_ID TRACE_ID THREAD_ID DOTTED_ORDER IS_ROOT REFERENCE_EXAMPLE_ID "
    "REFERENCE_DATASET_ID TOTAL_TOKENS PROMPT_TOKENS COMPLETION_TOKENS TOTAL_COST PROMPT_COST COMPLETION_COST "
    "PROMPT_TOKEN_DETAILS COMPLETION_TOKEN_DETAILS PROMPT_COST_DETAILS COMPLETION_COST_DETAILS PRICE_MODEL_ID TAGS "
    "APP_PATH ATTACHMENTS THREAD_EVALUATION_TIME IS_IN_DATASET LAST_QUEUED_AT FEEDBACK_STATS LS_USER_ID"
)
SELECT_V1 = (
    "id name run_type status start_time end_time first_token_time error extra events inputs outputs serialized "
    "parent_run_id parent_run_ids session_id trace_id thread_id dotted_order reference_example_id "
    "reference_dataset_id total_tokens prompt_tokens completion_tokens total_cost prompt_cost completion_cost "
    "price_model_id tags app_path s3_urls in_dataset last_queued_at feedback_stats"
)


def text_of(moment: datetime) -> str:
    """Return a moment as RFC 3339 writes it, in UTC."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


def moment_of(text: str) -> datetime:
    """Return the moment that the API wrote; without an offset it is UTC."""
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _identity(item: Any) -> str:
    """Return what an item of a list is known by: its id, or what a commit or a dataset's version has instead."""
    named = next((item[one] for one in ("id", "commit_hash", "as_of") if item.get(one)), None)
    return str(named) if named else json.dumps(item, sort_keys=True)


@dataclass(frozen=True)
class Address:
    """Where a workspace is and how it is entered, without a secret: `key` is the file that holds the API key."""

    name: str
    url: str
    workspace: str
    ca_file: str
    key: str
    per_minute: int

    def open(self, seconds: float) -> "Api":
        """Return the API, to be used for `seconds`; ConfigError when its key is not there."""
        where = f"component {self.name}"
        try:
            key = Path(self.key).read_text().strip()
        except OSError as error:
            fix = f"set api_key of component {self.name}, and run setup_backup.yml"
            raise ConfigError("there is no API key", where=where, fix=fix) from error
        headers = {"x-api-key": key} | ({"X-Tenant-Id": self.workspace} if self.workspace else {})
        service = Service(
            self.root, headers, self.ca_file, patience=PATIENCE, fix=f"correct url of component {self.name}"
        )
        return Api(service, 60 / self.per_minute, time.monotonic() + seconds, seconds, where)

    @property
    def root(self) -> str:
        """The address without the `/api` or `/api/v1` that other clients are given."""
        url = self.url.rstrip("/")
        for ending in ("/api/v1", "/api"):
            url = url.removesuffix(ending)
        return url


@dataclass
class Api:
    """One workspace's API. Requests are `interval` seconds apart; none is begun after `deadline` (monotonic time)."""

    service: Service
    interval: float
    deadline: float
    seconds: float
    where: str
    v1: bool = False
    _next: float = field(default=0.0)

    def get(self, path: str, **params: Any) -> Any:
        """Return the JSON at `path` (below /api)."""
        return self._read("GET", path, params=params)

    def ask(self, path: str, body: Mapping[str, Any]) -> Any:
        """Return the JSON that a POST which changes nothing is answered with."""
        return self._read("POST", path, body=body)

    def change(self, method: str, path: str, body: Any = None, **params: Any) -> Any:
        """Change something. Only what was refused for its rate (429) is sent again."""
        pause = 1.0
        while True:
            try:
                return self._paced().json(method, f"/api{path}", body=body, params=params)
            except AnswerError as error:
                if error.status != 429 or time.monotonic() + pause > self.deadline:
                    raise self._told(error) from error
            time.sleep(pause)
            pause = min(2 * pause, 30.0)

    def find(self, path: str, **params: Any) -> Any:
        """Return the JSON at `path`, or None when nothing is there."""
        try:
            return self.get(path, **params)
        except AnswerError as error:
            if error.status == 404:
                return None
            raise

    def pages(self, path: str, key: str = "", **params: Any) -> Iterator[Any]:
        """Yield every item of a list that is paged by limit and offset (below `key`, or the answer itself).

        A page begins with the last items of the one before. Where others stand there, some were deleted, or changed and
        so moved elsewhere in the list, and those that took their places are perhaps unseen: it is read from its
        beginning again. What was given is not given twice then, but in lists of more than KEPT_IDENTITIES.
        """
        offset, size, last, again = 0, LIMIT, b"", 0
        tail: list[str] = []
        given = OrderedDict[str, None]()
        while True:
            asked = {**params, "limit": size, "offset": offset - len(tail)}
            answer = self._read("GET", path, params=asked, most=PAGE_BYTES if size > SMALLEST_PAGE else 0)
            if answer is None and size > SMALLEST_PAGE:
                size = max(SMALLEST_PAGE, size // 4)
                tail = tail[1 - size :]
                continue
            items = answer.get(key) if key and isinstance(answer, dict) else answer
            if not isinstance(items, list):
                raise SourceError("the answer is no list", where=f"{self.where}, {path}")
            digest = hashlib.sha256(json.dumps(items).encode()).digest()
            if items and digest == last:
                raise SourceError(
                    f"the API gives the same page again, at offset {asked['offset']}", where=self._at(path)
                )
            names = [_identity(one) for one in items]
            if names[: len(tail)] != tail:
                again += 1
                if again > READ_AGAIN:
                    what = "the list changes faster than it can be read"
                    raise SourceError(what, where=self._at(path), fix="run the plan again when less is changed")
                offset, last, tail = 0, b"", []
                continue
            for name, one in zip(names, items, strict=True):
                if name not in given:
                    given[name] = None
                    yield one
            while len(given) > KEPT_IDENTITIES:
                given.popitem(last=False)
            if len(items) < size:
                return
            offset += len(items) - len(tail)
            last, tail = digest, names[-min(OVERLAP, size - 1) :]

    def cursor_pages(self, path: str, **params: Any) -> Iterator[Any]:
        """Yield every item of a list that is paged by `next_cursor`."""
        seen: set[str] = set()
        while True:
            answer = self.get(path, **params)
            yield from answer.get("items") or []
            cursor = answer.get("next_cursor")
            if not cursor:
                return
            self._new(cursor, seen, path)
            params["cursor"] = cursor

    def runs(self, projects: Sequence[str], since: datetime, until: datetime, page: int) -> Iterator[dict[str, Any]]:
        """Yield the runs of `projects` that started from `since` to `until`.

        By v2, whose `selects` and `min_start_time` are always given: it leaves out all but ids and the last day
        otherwise. By v1 on a server that has no v2 (self-hosted before 0.16).
        """
        cursor, seen, size = "", set[str](), page
        while True:
            try:
                answer = self._runs_page(projects, since, until, cursor, size)
            except AnswerError as error:
                if self.v1 or cursor or error.status not in GONE:
                    raise
                self.v1 = True
                continue
            if answer is None:
                size = max(1, size // 4)
                continue
            yield from answer["runs" if self.v1 else "items"] or []
            cursor = str(((answer.get("cursors") or {}).get("next") if self.v1 else answer.get("next_cursor")) or "")
            if not cursor:
                return
            self._new(cursor, seen, "runs/query")

    def _runs_page(
        self, projects: Sequence[str], since: datetime, until: datetime, cursor: str, size: int
    ) -> dict[str, Any] | None:
        """Return one page, or None when it is too large to be held; a page of one run never is."""
        if self.v1:
            path, body = "/v1/runs/query", self._body_v1(projects, since, until, size)
        else:
            path = "/v2/runs/query"
            body = {
                "project_ids": list(projects),
                "min_start_time": text_of(since),
                "max_start_time": text_of(until),
                "page_size": size,
                "selects": SELECTS.split(),
            }
        if cursor:
            body["cursor"] = cursor
        answer = self._read("POST", path, body=body, most=PAGE_BYTES if size > 1 else 0)
        if answer is not None and not isinstance(answer.get("runs" if self.v1 else "items"), list):
            raise SourceError("the answer holds no list of runs", where=self._at(path))
        return answer  # type: ignore[no-any-return]

    @staticmethod
    def _body_v1(projects: Sequence[str], since: datetime, until: datetime, size: int) -> dict[str, Any]:
        return {
            "session": list(projects),
            "start_time": text_of(since),
            "filter": f'lte(start_time, "{text_of(until)}")',
            "limit": min(size, LIMIT),
            "select": SELECT_V1.split(),
        }

    def count_runs(self, project: str, until: datetime) -> int | None:
        """Return how many runs the server counts in a project until a moment; None where it does not count."""
        try:
            found = self.ask("/v1/runs/stats", {"session": [project], "end_time": text_of(until)})
        except AnswerError as error:
            if error.status in GONE:
                return None
            raise
        return found.get("run_count") if isinstance(found, dict) else None

    def download(self, url: str, path: Path, room: Callable[[int], None]) -> tuple[int, str]:
        """Write what a presigned address gives to `path`, and return its bytes and SHA-256.

        `room` is told how much is about to be written. AnswerError 403 when the address has expired.
        """
        return self._again(lambda: self._download(url, path, room))

    def _download(self, url: str, path: Path, room: Callable[[int], None]) -> tuple[int, str]:
        # The key is not sent along: such an address is its own key, and may be anybody's.
        whole = urlsplit(url if "://" in url else self._below_api(url))
        place = replace(
            self._paced(), url=f"{whole.scheme}://{whole.netloc}", headers={}, fix="", patience=min(PATIENCE, 30)
        )
        path.parent.mkdir(0o700, parents=True, exist_ok=True)
        part = path.with_name(f".{path.name[:200]}.part")
        # The address is a key: it stands in no message.
        digest, size, where = hashlib.sha256(), 0, f"{self.where}, attachment {path.name}"
        target = whole.path + (f"?{whole.query}" if whole.query else "")
        try:
            with place.download(target) as stream, part.open("wb") as out:
                while chunk := stream.read(CHUNK):
                    room(len(chunk))
                    digest.update(chunk)
                    size += len(chunk)
                    out.write(chunk)
            part.replace(path)
        except AnswerError as error:
            raise AnswerError(error.status, "", where=where, fix="run the plan again") from None
        except SourceError as error:
            raise SourceError("the answer broke off, or none came", where=where, fix="run the plan again") from error
        finally:
            part.unlink(missing_ok=True)
        return size, digest.hexdigest()

    def upload(self, path: str, body: Path, content_type: str) -> Any:
        """Send a multipart body that stands in a file."""
        headers = {"Content-Type": content_type, "Content-Length": str(body.stat().st_size)}
        with (
            body.open("rb") as stream,
            self._paced().answer("POST", f"/api{path}", data=stream, headers=headers) as answer,
        ):
            return json.loads(answer.content or b"null")

    def _below_api(self, url: str) -> str:
        return urljoin(f"{self.service.url}/", url.lstrip("/"))

    def _read(self, method: str, path: str, *, most: int = 0, **given: Any) -> Any:
        """Ask, again when the answer broke off half-way; None when it is larger than `most` bytes."""
        try:
            return self._again(lambda: self._answer(method, f"/api{path}", most, given))
        except AnswerError as error:
            raise self._told(error) from error

    def _again(self, act: Callable[[], T]) -> T:
        """Do something, and again when its answer broke off half-way."""
        for attempt in (1, 2):
            try:
                return act()
            except AnswerError:
                raise
            except SourceError:
                if time.monotonic() > self.deadline:
                    raise
                time.sleep(attempt)
        return act()

    def _answer(self, method: str, path: str, most: int, given: dict[str, Any]) -> Any:
        if not most:
            return self._paced().json(method, path, repeatable=True, **given)
        held = bytearray()
        with self._paced().answer(method, path, repeatable=True, **given) as answer:
            try:
                for chunk in answer.iter_content(CHUNK):
                    held += chunk
                    if len(held) > most:
                        return None
                return json.loads(held)
            except (OSError, ValueError) as error:
                raise SourceError(f"the answer broke off: {error}", where=self._at(path)) from error

    def _paced(self) -> Service:
        """Wait for the next request's turn and return the service, no more patient than time is left."""
        now = time.monotonic()
        wait = max(0.0, self._next - now)
        left = self.deadline - now - wait
        if left <= 0:
            raise SourceError(
                f"the API was not read within {self.seconds:.0f} s",
                where=self.where,
                fix="raise `deadline` (and the plan's freeze_timeout) or `requests_per_minute`",
            )
        time.sleep(wait)
        self._next = now + wait + self.interval
        return replace(self.service, patience=min(self.service.patience, left))

    def _new(self, cursor: str, seen: set[str], path: str) -> None:
        if cursor in seen:
            raise SourceError("the API gives the same page again and again", where=self._at(path))
        seen.add(cursor)

    def _told(self, error: AnswerError) -> AnswerError:
        if error.status in (401, 403):
            fix = f"make a key in LangSmith (Settings, API keys), and set api_key and workspace of {self.where}"
            return AnswerError(error.status, error.said, where=error.where, fix=fix)
        return error

    def _at(self, path: str) -> str:
        return f"{self.where}, {path}"
