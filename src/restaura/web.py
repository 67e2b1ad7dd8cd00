# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP services whose data is backed up through their API: limited in time, retried where safe, never redirected.

Headers may hold keys: they go only to the address that was configured, and stand in no error.
"""

import contextlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from restaura.errors import SourceError

CONNECT_SECONDS = 10.0
SHOWN = 300  # characters of an answer that an error quotes
RETRIED = (429, 500, 502, 503, 504)
LONGEST_PAUSE = 60.0
CHUNK = 1 << 18


class AnswerError(SourceError):
    """A service answered with a status that says no: `status`, and the beginning of what it `said`."""

    def __init__(self, status: int, said: str, *, where: str, fix: str = "") -> None:
        super().__init__(f"HTTP status {status}" + (f": {said}" if said else ""), where=where, fix=fix)
        self.status, self.said = status, said


class UnreachedError(SourceError):
    """No connection could be made: the request never arrived."""


@dataclass(frozen=True)
class Service:
    """One HTTP service. `read_seconds` bounds the wait for each part of an answer.

    GET and HEAD (and what is called `repeatable`) are asked again when the service cannot be reached, or answers 429
    or 5xx, until `patience` seconds are over; `Retry-After` is heeded. `ca_file` (PEM) then is the only one trusted.
    `fix` is what an error tells a person to do when the service cannot be reached.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca_file: str = ""
    read_seconds: float = 60.0
    patience: float = 30.0
    fix: str = ""

    def json(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        read_seconds: float | None = None,
        repeatable: bool | None = None,
    ) -> Any:
        """Send `body` as JSON and return the answer's JSON (None for an empty one).

        AnswerError for a status of 300 and above; SourceError when the service cannot be reached, or sends no JSON.
        """
        with self.answer(
            method, path, params=params, body=body, read_seconds=read_seconds, repeatable=repeatable
        ) as answer:
            try:
                text = answer.content
                return json.loads(text) if text else None
            except ValueError as error:
                raise SourceError(f"the answer is no JSON: {error}", where=self._where(method, path)) from error
            except OSError as error:
                raise self._lost(method, path, error) from error

    @contextlib.contextmanager
    def answer(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        data: Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        read_seconds: float | None = None,
        repeatable: bool | None = None,
    ) -> Iterator[Any]:
        """Yield the answer (a `requests.Response`, its content not read yet); errors as with `json`.

        `body` is sent as JSON, `data` as it is, streamed.
        """
        import requests

        may_repeat = (method in ("GET", "HEAD")) if repeatable is None else repeatable
        deadline = time.monotonic() + (self.patience if may_repeat and data is None else 0)
        pause = 0.2
        with requests.Session() as session:
            # Neither proxies nor .netrc of the environment: keys go where they were configured to go.
            session.trust_env = False
            while True:
                wait = pause
                try:
                    answer = session.request(
                        method,
                        self.url.rstrip("/") + path,
                        params=params,
                        json=body,
                        data=data,
                        headers={**self.headers, **(headers or {})},
                        timeout=(CONNECT_SECONDS, read_seconds or self.read_seconds),
                        verify=self.ca_file or True,
                        allow_redirects=False,
                        stream=True,
                    )
                except (requests.RequestException, OSError, ValueError) as error:
                    if isinstance(error, ValueError | requests.exceptions.SSLError) or time.monotonic() > deadline:
                        raise self._lost(method, path, error) from error
                else:
                    if answer.status_code < 300:
                        break
                    problem = self._problem(method, path, answer)
                    wait = max(pause, _retry_after(answer.headers))
                    if answer.status_code not in RETRIED or time.monotonic() + wait > deadline:
                        raise problem
                time.sleep(wait)
                pause = min(pause * 2, LONGEST_PAUSE)
            with answer:
                yield answer

    @contextlib.contextmanager
    def download(
        self, path: str, *, params: Mapping[str, Any] | None = None, read_seconds: float | None = None
    ) -> Iterator[IO[bytes]]:
        """Yield the answer to a GET as a stream; SourceError also when it ends before its announced length."""
        with self.answer(
            "GET", path, params=params, headers={"Accept-Encoding": "identity"}, read_seconds=read_seconds
        ) as answer:
            length = answer.headers.get("Content-Length")
            stream = _Counted(answer.raw)
            yield stream  # type: ignore[misc]
            if length is not None and stream.ended and stream.bytes != int(length):
                raise SourceError(
                    f"the answer broke off after {stream.bytes} of {length} bytes", where=self._where("GET", path)
                )

    def upload(
        self,
        path: str,
        stream: IO[bytes],
        size: int,
        *,
        field_name: str,
        file_name: str = "",
        params: Mapping[str, Any] | None = None,
        read_seconds: float | None = None,
    ) -> Any:
        """Send the `size` bytes of a stream as a file (multipart/form-data) by POST, and return the answer's JSON.

        What the stream itself raises is raised as it is.
        """
        mark = "restaura-boundary-8f1d0c6b5a3e49a7b2c4"
        head = (
            f'--{mark}\r\nContent-Disposition: form-data; name="{field_name}"; filename="{file_name or field_name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        tail = f"\r\n--{mark}--\r\n".encode()

        def body() -> Iterator[bytes]:
            yield head
            while chunk := stream.read(CHUNK):
                yield chunk
            yield tail

        headers = {
            "Content-Type": f"multipart/form-data; boundary={mark}",
            "Content-Length": str(len(head) + size + len(tail)),
        }
        with self.answer(
            "POST",
            path,
            params=params,
            data=_Sized(body(), int(headers["Content-Length"])),
            headers=headers,
            read_seconds=read_seconds,
        ) as answer:
            text = answer.content
            return json.loads(text) if text else None

    def _where(self, method: str, path: str) -> str:
        return f"{method} {self.url.rstrip('/')}{path}"

    def _lost(self, method: str, path: str, error: Exception) -> SourceError:
        from requests import ConnectTimeout
        from urllib3.exceptions import NewConnectionError

        inner = getattr(error.args[0] if error.args else None, "reason", None)
        unreached = isinstance(error, ConnectTimeout) or isinstance(inner, NewConnectionError)
        kind = UnreachedError if unreached else SourceError
        return kind(f"does not answer: {_plain(error)}", where=self._where(method, path), fix=self.fix)

    def _problem(self, method: str, path: str, answer: Any) -> AnswerError:
        with contextlib.suppress(Exception), answer:
            said = answer.raw.read(4 * SHOWN, decode_content=True).decode(errors="replace").strip()[:SHOWN]
            return AnswerError(answer.status_code, said, where=self._where(method, path), fix=self.fix)
        return AnswerError(answer.status_code, "", where=self._where(method, path), fix=self.fix)


class _Counted:
    """A stream that counts what is read from it."""

    def __init__(self, raw: Any) -> None:
        self._raw, self.bytes, self.ended = raw, 0, False

    def read(self, size: int = -1) -> bytes:
        try:
            data: bytes = self._raw.read(size if size >= 0 else None)
        except Exception as error:
            raise SourceError(f"the answer broke off after {self.bytes} bytes: {_plain(error)}") from error
        self.bytes += len(data)
        self.ended = not data or size < 0
        return data


class _Sized:
    """An iterator whose length is known, so that it is not sent in chunks."""

    def __init__(self, chunks: Iterator[bytes], size: int) -> None:
        self._chunks, self._size = chunks, size

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks

    def __len__(self) -> int:
        return self._size


def _retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds that `Retry-After` asks for (RFC 9110, 10.2.3); its date form counts as nothing."""
    try:
        return min(float(headers.get("Retry-After", "0")), LONGEST_PAUSE)
    except ValueError:
        return 0.0


def _plain(error: Exception) -> str:
    """Return the innermost reason of a network error, in one line."""
    while isinstance(reason := getattr(error, "reason", None) or (error.args[0] if error.args else None), Exception):
        error = reason
    text = str(error).split(": ", 1)[-1] if "object at 0x" in str(error) else str(error)
    return " ".join(text.split()) or type(error).__name__
