# SPDX-License-Identifier: GPL-3.0-or-later
"""Blobs below an S3 prefix, through boto3 (1.26, as in Debian 12, and newer)."""

import base64
import contextlib
import hashlib
import io
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
import urllib3.exceptions
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from restaura.config.schema import Store as StoreConfig
from restaura.errors import DamagedError, StoreError
from restaura.stores.blobs import MIB, Blob, BlobWriter, checked

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from restaura.host import Host

# S3 takes 10,000 parts of 5 MiB to 5 GiB. Parts of one size as long as possible: Cloudflare R2 refuses others.
PART_BYTES = 5 * MIB
PART_BYTES_UNKNOWN = 64 * MIB
PARTS_OF_ONE_SIZE = 5000
PARTS_BEFORE_DOUBLING = 1000
PAGE_KEYS = 1000
THREADS = 16
READ_ATTEMPTS = 4
CONFLICT_PAUSES = (0.2, 0.5, 1.0, 2.0)


class S3Blobs:
    """Blobs as objects below `s3:ENDPOINT/BUCKET/PREFIX`, through boto3, whose clients are thread-safe.

    Without `s3_access_key`, boto3's own search for credentials applies (an instance's role).
    """

    def __init__(self, config: StoreConfig, host: "Host") -> None:
        url = urlsplit(config.location.removeprefix("s3:"))
        self.bucket, _, prefix = url.path.strip("/").partition("/")
        self.where = f"store {config.name} ({config.location})"
        self._endpoint = f"{url.scheme}://{url.netloc}"
        self._prefix = f"{prefix}/" if prefix else ""
        self._config = config
        self._host = host
        self._session: Any = None
        self._clients: dict[str, Any] = {}
        weakref.finalize(self, _close, self._clients)
        self._lock = threading.Lock()

    def create(self) -> bool:
        """Make the bucket when there is none."""
        region = self._config.s3_region
        place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        with self.talk() as client:
            if _unless_gone(client.head_bucket, Bucket=self.bucket) is not None:
                return False
            client.create_bucket(Bucket=self.bucket, **place)
        return True

    def probe(self) -> int | None:
        """Ask once, with little patience, whether the bucket answers."""
        with self.talk("probe") as client:
            client.list_objects_v2(Bucket=self.bucket, Prefix=self._prefix, MaxKeys=1)
        return None

    def get(self, key: str) -> bytes | None:
        """Return an object's bytes, or None when there is none."""
        with self.talk() as client:
            answer = _unless_gone(client.get_object, **self.address(key))
            return None if answer is None else bytes(answer["Body"].read())

    def put(self, key: str, data: bytes) -> None:
        """Write an object in one request."""
        with self.talk() as client:
            client.put_object(**self.address(key), Body=data, ContentMD5=_md5(data))

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write an object with `If-None-Match: *`.

        A server that ignores the header or refuses it (501) leaves a race of one round trip between the look before
        and the write; the look after it tells the one whose bytes were replaced.
        """
        if self.size(key) is not None:
            return False
        for pause in CONFLICT_PAUSES:
            code = self._put_conditionally(key, data)
            if code == "NotImplemented":
                self.put(key, data)
            if code != "ConditionalRequestConflict":
                break
            # Another conditional write of this key is under way, and may yet fail.
            time.sleep(pause)
        # Read back also after a refusal: a repeated request is refused by its own first try whose answer was lost.
        return self.get(key) == data

    def _put_conditionally(self, key: str, data: bytes) -> str:
        """Try a conditional write; return "" or the code of the refusal."""
        with self.talk("conditional") as client:
            try:
                client.put_object(**self.address(key), Body=data, ContentMD5=_md5(data))
            except ClientError as error:
                if (code := _code(error)) not in ("PreconditionFailed", "NotImplemented", "ConditionalRequestConflict"):
                    raise
                return code
        return ""

    def size(self, key: str) -> int | None:
        """Return an object's size, or None when there is none."""
        with self.talk() as client:
            answer = _unless_gone(client.head_object, **self.address(key))
            return None if answer is None else int(answer["ContentLength"])

    def listing(self, prefix: str) -> list[Blob]:
        """Return every object below a folder."""
        folder = f"{self._prefix}{checked(prefix)}/" if prefix else self._prefix
        found = []
        with self.talk() as client:
            pages = client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=folder, PaginationConfig={"PageSize": PAGE_KEYS}
            )
            for page in pages:
                found += [Blob(one["Key"][len(self._prefix) :], one["Size"]) for one in page.get("Contents", [])]
        return sorted(found, key=lambda blob: blob.key)

    @contextlib.contextmanager
    def open(self, key: str, start: int = 0) -> Iterator[IO[bytes]]:
        """Yield an object's bytes; a connection that breaks is taken up again where it broke."""
        with io.BufferedReader(_S3Reader(self, key, start), MIB) as stream:
            yield stream

    def write(self, key: str, expected: int | None = None, begun: Callable[[str], None] = lambda _: None) -> BlobWriter:
        """Begin an object: one request when it is small, a multipart upload when it is not."""
        return _S3Writer(self, checked(key), expected, begun)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects one by one: the bulk request needs a checksum on whose kind servers disagree."""

        def delete(key: str) -> None:
            with self.talk() as client:
                client.delete_object(**self.address(key))

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(delete, keys))

    def delete_all(self, prefix: str, begun: Iterable[str] = ()) -> None:
        """Abort uploads and delete objects. MinIO lists uploads by their whole key only, hence `begun`."""
        with self.talk() as client:
            for place in (f"{checked(prefix)}/", *begun):
                pages = client.get_paginator("list_multipart_uploads")
                for page in pages.paginate(Bucket=self.bucket, Prefix=self._prefix + place):
                    for one in page.get("Uploads", []):
                        upload = {"Bucket": self.bucket, "Key": one["Key"], "UploadId": one["UploadId"]}
                        _unless_gone(client.abort_multipart_upload, **upload)
        self.delete([blob.key for blob in self.listing(prefix)])

    def address(self, key: str) -> dict[str, str]:
        """Return the request arguments that name the object of `key`."""
        return {"Bucket": self.bucket, "Key": self._prefix + checked(key)}

    @contextlib.contextmanager
    def talk(self, purpose: str = "work") -> Iterator[Any]:
        """Yield a client (`work`, `probe`: impatient, `conditional`: puts only where nothing is); raise StoreError."""
        try:
            with self._lock:
                if purpose not in self._clients:
                    self._clients[purpose] = self._client(purpose)
            yield self._clients[purpose]
        except ClientError as error:
            raise StoreError(str(error), where=self.where, fix=_S3_FIXES.get(_code(error), _S3_FIX)) from error
        except (BotoCoreError, urllib3.exceptions.HTTPError, OSError) as error:
            raise StoreError(str(error), where=self.where, fix=f"see that {self._endpoint} answers") from error

    def _client(self, purpose: str) -> Any:
        # Since 1.36 boto3 sends checksums that other vendors' servers do not know, unless told otherwise.
        checksums = ("request_checksum_calculation", "response_checksum_validation")
        known = {name: "when_required" for name in checksums if name in Config.OPTION_DEFAULTS}
        impatient = purpose == "probe"
        config = Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            retries={"mode": "standard", "total_max_attempts": 2 if impatient else 4},
            connect_timeout=5,
            read_timeout=7 if impatient else 60,
            max_pool_connections=2 * THREADS,
            **known,
        )
        if self._session is None:
            # One for all clients: each session reads S3's whole model anew, 10 MiB in memory.
            keys = [self._host.secret("stores", self._config.name, name) for name in ("s3_access_key", "s3_secret_key")]
            access, secret = [one.read_text().strip() if one else None for one in keys]
            self._session = boto3.session.Session(access, secret, region_name=self._config.s3_region)
        client = self._session.client("s3", endpoint_url=self._endpoint, config=config)
        client.meta.events.register("before-sign.s3.PutObject", _await_no_empty_body)
        if purpose == "conditional":
            # As a plain header: boto3 before 1.35 has no such argument.
            client.meta.events.register("before-call.s3.PutObject", _only_if_absent)
        return client


_S3_FIX = "see the store's s3_ settings and what its server logged"
_S3_FIXES = {
    "NoSuchBucket": "run setup_backup.yml, which makes the bucket, or correct the store's location",
    "AccessDenied": "give the store's key the right to read, list and write the bucket",
    "403": "correct s3_access_key and s3_secret_key, or what they may do, and run setup_backup.yml",
    "InvalidAccessKeyId": "correct s3_access_key and run setup_backup.yml",
    "SignatureDoesNotMatch": "correct s3_secret_key and run setup_backup.yml",
    "RequestTimeTooSkewed": "set this host's clock",
}


def _close(clients: dict[str, Any]) -> None:
    for client in clients.values():
        client.close()


def _await_no_empty_body(request: Any, **_: Any) -> None:
    """Send no `Expect: 100-continue` with an empty body.

    A server may answer at once then; botocore takes that for the leave to go on, and is one answer behind ever after.
    """
    if not request.data.getbuffer().nbytes:
        del request.headers["Expect"]


def _only_if_absent(params: dict[str, Any], **_: Any) -> None:
    params["headers"]["If-None-Match"] = "*"


def _code(error: Any) -> str:
    """Return the S3 error code of a ClientError; the HTTP status stands in where the answer had no body."""
    code = str(error.response["Error"]["Code"])
    return {"412": "PreconditionFailed", "501": "NotImplemented"}.get(code, code)


def _unless_gone(method: Callable[..., Any], **arguments: Any) -> Any:
    """Call a client's method; None when the object or upload (for head_bucket: the bucket) is not there."""
    try:
        return method(**arguments)
    except ClientError as error:
        if _code(error) in ("404", "NoSuchKey", "NoSuchUpload"):
            return None
        raise


def _md5(data: bytes | bytearray) -> str:
    """Return the Content-MD5 by which a server refuses bytes that were bent on the way."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def part_bytes(number: int, expected: int | None) -> int:
    """Return the size of part `number` (from 1) of an upload of about `expected` bytes."""
    fitting = -(-(expected or 0) // (PARTS_OF_ONE_SIZE * MIB)) * MIB
    first = PART_BYTES_UNKNOWN if expected is None else max(PART_BYTES, fitting)
    doublings = max(0, -(-(number - PARTS_OF_ONE_SIZE) // PARTS_BEFORE_DOUBLING))
    return first << doublings


class _S3Writer:
    """An object that is being uploaded: a part is held in memory until it is full."""

    def __init__(self, blobs: S3Blobs, key: str, expected: int | None, begun: Callable[[str], None]) -> None:
        self._blobs = blobs
        self._key = key
        self._expected = expected
        self._begun = begun
        self._address = blobs.address(key)
        self._upload: dict[str, str] = {}
        self._parts: list[dict[str, Any]] = []
        # Of its bytes no copy is made, neither here nor in botocore.
        self._held = io.BytesIO()
        self._size = 0

    def write(self, data: bytes) -> None:
        """Hold bytes, and send a part when it is full."""
        self._size += len(data)
        view = memoryview(data)
        while (room := part_bytes(len(self._parts) + 1, self._expected) - self._held.tell()) <= len(view):
            self._held.write(view[:room])
            view = view[room:]
            self._send()
        self._held.write(view)

    def commit(self) -> None:
        """Send what is left and make the object visible."""
        if not self._upload:
            self._blobs.put(self._key, self._held.getvalue())
            return
        if self._held.tell():
            self._send()
        with self._blobs.talk() as client:
            parts = {"Parts": self._parts}
            answer = _unless_gone(
                client.complete_multipart_upload, **self._address, **self._upload, MultipartUpload=parts
            )
        # A repeated request finds no upload when the first one was done and only its answer was lost.
        if answer is None and self._blobs.size(self._key) != self._size:
            raise StoreError(f"the upload of {self._key} is gone", where=self._blobs.where, fix="run the plan again")

    def abort(self) -> None:
        """Abort the upload; where the server does not answer, the journal still names it."""
        self._held = io.BytesIO()
        if self._upload:
            with contextlib.suppress(StoreError), self._blobs.talk() as client:
                _unless_gone(client.abort_multipart_upload, **self._address, **self._upload)

    def _send(self) -> None:
        part, self._held = self._held.getvalue(), io.BytesIO()
        if not self._upload:
            self._begun(self._key)
            with self._blobs.talk() as client:
                self._upload = {"UploadId": client.create_multipart_upload(**self._address)["UploadId"]}
        number = len(self._parts) + 1
        with self._blobs.talk() as client:
            answer = client.upload_part(
                **self._address, **self._upload, PartNumber=number, Body=part, ContentMD5=_md5(part)
            )
        self._parts.append({"PartNumber": number, "ETag": answer["ETag"]})


class _S3Reader(io.RawIOBase):
    """An object's bytes in order; a request that breaks is followed by one for the rest of the same object."""

    def __init__(self, blobs: S3Blobs, key: str, start: int) -> None:
        self._blobs = blobs
        self._address = blobs.address(key)
        self._body: Any = None
        with blobs.talk() as client:
            answer = _unless_gone(client.head_object, **self._address)
        if answer is None:
            raise DamagedError(f"{key} is missing", where=blobs.where)
        self._same = {"IfMatch": answer["ETag"]}
        self._at = start
        self._end = int(answer["ContentLength"])

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer).cast("B")
        for _ in range(READ_ATTEMPTS - 1):
            with contextlib.suppress(StoreError):
                return self._read(view)
            self._drop()
        return self._read(view)

    def _read(self, view: memoryview) -> int:
        if self._at >= self._end:
            return 0
        with self._blobs.talk() as client:
            if self._body is None:
                rest = f"bytes={self._at}-"
                self._body = client.get_object(**self._address, **self._same, Range=rest)["Body"]
            data = self._body.read(len(view))
            if not data:
                raise ConnectionError(f"{self._address['Key']} broke off at byte {self._at}")
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _drop(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None

    def close(self) -> None:
        self._drop()
        super().close()
