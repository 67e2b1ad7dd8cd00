# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets in Grafana's database are opened, to prove that a point's database and its secret key belong together.

As grafana/grafana has it: pkg/services/secrets/manager (`#ID#` stands before what a data key encrypts; those are in the
table `data_keys`, encrypted themselves) and pkg/services/encryption (`*ALGORITHM*`, a salt of 8 bytes, the initial
vector or nonce, the rest; AES-256 by CFB or GCM; PBKDF2 with SHA-256 makes the key).
"""

import base64
import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from restaura.errors import SourceError

PACKAGE = "python3-cryptography"
_SALT, _BLOCK, _NONCE = 8, 16, 12
_ROUNDS = 10_000
_LOCAL = ("", "secretKey", "secretKey.v1")


class SealedError(Exception):
    """A secret does not open with the key at hand."""


class ElsewhereError(SealedError):
    """A secret's key is with a key management service, and not at hand."""


def available() -> bool:
    """Whether this host can open secrets at all."""
    try:
        import cryptography  # noqa: F401
    except ImportError:
        return False
    return True


def decrypt(payload: bytes, secret: bytes) -> bytes:
    """Return what `payload` holds; SealedError when it cannot be, or its key is another. CFB takes any key."""
    try:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as error:
        raise SourceError("Python's cryptography is not installed", fix=f"apt-get install {PACKAGE}") from error
    algorithm = b""
    if payload[:1] == b"*" and b"*" in payload[1:]:
        name, _, payload = payload[1:].partition(b"*")
        algorithm = _decoded(name)
    salt, rest = payload[:_SALT], payload[_SALT:]
    key = hashlib.pbkdf2_hmac("sha256", secret, salt, _ROUNDS, 32)
    if algorithm == b"aes-gcm":
        try:
            return AESGCM(key).decrypt(rest[:_NONCE], rest[_NONCE:], None)
        except (InvalidTag, ValueError) as error:
            raise SealedError from error
    if algorithm not in (b"", b"aes-cfb") or len(rest) < _BLOCK:
        raise SealedError
    # CFB by hand (NIST SP 800-38A, 6.3): the library gives it up.
    sealed = rest[_BLOCK:]
    before = rest[: len(rest) // _BLOCK * _BLOCK]
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305
    stream = encryptor.update(before) + encryptor.finalize()
    return bytes(a ^ b for a, b in zip(sealed, stream, strict=False))


@dataclass
class Opener:
    """Opens the secrets of one database with one secret key."""

    database: sqlite3.Connection
    secret_key: str = field(repr=False)
    _keys: dict[str, bytes] = field(default_factory=dict, repr=False)

    def open(self, payload: bytes) -> str:
        """Return one secret; SealedError when it does not open, or is no text: a wrong key makes noise of it."""
        secret = self.secret_key.encode()
        if payload[:1] == b"#":
            name, _, payload = payload[1:].partition(b"#")
            secret = self._data_key(_decoded(name).decode(errors="replace"))
        try:
            text = decrypt(payload, secret).decode()
        except UnicodeDecodeError as error:
            raise SealedError from error
        if any(ord(one) < 32 and one not in "\t\r\n" for one in text):
            raise SealedError
        return text

    def _data_key(self, name: str) -> bytes:
        if name not in self._keys:
            row = self.database.execute(
                "SELECT provider, encrypted_data FROM data_keys WHERE name = ?", (name,)
            ).fetchone()
            if row is None:
                raise SealedError
            if row[0] not in _LOCAL:
                raise ElsewhereError
            self._keys[name] = decrypt(bytes(row[1]), self.secret_key.encode())
        return self._keys[name]

    def secrets(self) -> Iterator[tuple[str, bytes]]:
        """Yield every secret that belongs to something a person set up: what it is called, and as it is stored."""
        for table, name in (("data_source", "uid"), ("plugin_setting", "plugin_id")):
            for org, uid, sealed in self._rows(f"SELECT org_id, {name}, secure_json_data FROM {table}"):  # noqa: S608
                for key, value in _object(sealed).items():
                    yield f"{table} {org}/{uid}: {key}", _decoded(value)
        for org, namespace, kind, value in self._rows("SELECT org_id, namespace, type, value FROM secrets"):
            yield f"secrets {org}/{namespace}: {kind}", _decoded(value)
        for org, config in self._rows("SELECT org_id, alertmanager_configuration FROM alert_configuration"):
            for uid, key, value in _receivers(_object(config)):
                yield f"contact point {org}/{uid}: {key}", _decoded(value)

    def data_source(self, org: int, uid: str) -> dict[str, str]:
        """Return the secrets of a data source; what does not open is left out."""
        prefix, found = f"data_source {org}/{uid}: ", {}
        for label, sealed in self.secrets():
            if label.startswith(prefix):
                try:
                    found[label.removeprefix(prefix)] = self.open(sealed)
                except SealedError:
                    continue
        return found

    def _rows(self, query: str) -> list[Any]:
        try:
            return self.database.execute(query).fetchall()
        except sqlite3.OperationalError:
            # An older Grafana has no such table yet.
            return []


def _receivers(config: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    told = config.get("alertmanager_config") or {}
    for receiver in told.get("receivers") or ():
        for one in receiver.get("grafana_managed_receiver_configs") or ():
            for key, value in (one.get("secureSettings") or {}).items():
                yield str(one.get("uid")), key, value


def _object(text: Any) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except (ValueError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _decoded(text: str | bytes) -> bytes:
    """Decode base64 with or without its `=` (Go's RawStdEncoding); nothing where it is none."""
    raw = text if isinstance(text, bytes) else str(text).encode()
    try:
        return base64.b64decode(raw + b"=" * (-len(raw) % 4))
    except ValueError:
        return b""
