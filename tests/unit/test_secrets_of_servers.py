# SPDX-License-Identifier: GPL-3.0-or-later
"""A server's password or key is read from its file as it was given, and a lost file is told as one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from restaura.errors import SourceError
from restaura.grafana.api import login
from restaura.mongodb.server import Server as MongoDB
from restaura.paths import read_secret
from restaura.postgres.server import Server as Postgres
from restaura.qdrant.server import Server as Qdrant
from restaura.redis.server import Server as Redis

READ: dict[str, Callable[[Path], Any]] = {
    "grafana token": lambda file: login("http://127.0.0.1", file, "", None, "", 0),
    "grafana password": lambda file: login("http://127.0.0.1", None, "admin", file, "", 0),
    "mongodb": lambda file: MongoDB("one", passfile=str(file)).password(),
    "postgres": lambda file: Postgres("one", passfile=str(file)).environment("x"),
    "qdrant": lambda file: Qdrant("one", url="http://127.0.0.1", key_file=str(file)).key,
    "redis": lambda file: Redis("one", passfile=str(file)).password(),
}


@pytest.mark.parametrize("read", READ.values(), ids=list(READ))
def test_a_lost_file_is_told_with_what_to_do(read: Callable[[Path], Any], tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="file cannot be read: No such file") as raised:
        read(tmp_path / "lost")
    assert "setup_backup.yml" in raised.value.fix


def test_a_password_keeps_its_spaces_and_bytes_that_are_no_text_are_told_unseen(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(" pass word \n")
    assert read_secret(tmp_path / "key", "here") == " pass word "
    (tmp_path / "key").write_bytes(b"\xff\xfesecret")
    with pytest.raises(SourceError, match="it is no text") as raised:
        read_secret(tmp_path / "key", "here")
    assert "secret" not in str(raised.value)
