# SPDX-License-Identifier: GPL-3.0-or-later
"""A stream out of a store is held against what the manifest says of it."""

import hashlib
import io

import pytest

from restaura.errors import DamagedError
from restaura.point import StoredArtifact
from restaura.stores.checked import checked_stream

DATA = bytes(range(256)) * 9999
ARTIFACT = StoredArtifact("app.dump", "stream", len(DATA), hashlib.sha256(DATA).hexdigest())


def test_what_was_stored_passes_read_to_the_end_or_to_its_last_byte() -> None:
    with checked_stream(io.BytesIO(DATA), ARTIFACT, "store main") as stream:
        assert stream.read() == DATA
    with checked_stream(io.BytesIO(DATA), ARTIFACT, "store main") as stream:
        assert stream.read(len(DATA)) == DATA


def read_all(data: bytes) -> None:
    with checked_stream(io.BytesIO(data), ARTIFACT, "store main") as stream:
        while stream.read(1000):
            pass


@pytest.mark.parametrize("damaged", [DATA[:-1], DATA + b"x", b"x" + DATA[1:], b""])
def test_anything_else_is_refused_with_its_name(damaged: bytes) -> None:
    with pytest.raises(DamagedError, match=r"app\.dump"):
        read_all(damaged)


def test_a_body_that_leaves_early_has_nothing_checked() -> None:
    with checked_stream(io.BytesIO(b"x" * len(DATA)), ARTIFACT, "store main") as stream:
        assert stream.read(10) == b"x" * 10
