# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbooks are run from a copy of this tree that nobody edits meanwhile, against lab hosts."""

import configparser
import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import boto3
import pytest

from tools.lab import hosts, s3

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git knows or would know."""
    copy = tmp_path_factory.mktemp("project")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        source = ROOT / name
        if source.exists() or source.is_symlink():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy / name, follow_symlinks=False)
    return copy


@pytest.fixture(scope="module")
def make_host() -> Iterator[Callable[..., hosts.Host]]:
    """Make hosts that go with the module; each worker's have a name of their own."""
    made: list[str] = []

    def make(name: str, image: str, mounts: Sequence[str] = ()) -> hosts.Host:
        full = f"{name}-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
        made.append(full)
        return hosts.create(full, image, mounts=mounts)

    yield make
    for name in made:
        hosts.destroy(name)


@pytest.fixture(scope="module")
def bucket() -> Any:
    """A bucket of its own on the lab's S3 server: its `place` is a location, its `keys` are settings of a store."""
    server = s3.up()
    keys = configparser.ConfigParser()
    keys.read(server.credentials)
    access, secret = keys["default"]["aws_access_key_id"], keys["default"]["aws_secret_access_key"]
    client = boto3.resource(
        "s3",
        endpoint_url=server.endpoint,
        region_name=server.region,
        aws_access_key_id=access,
        aws_secret_access_key=secret,
    )
    made = client.create_bucket(Bucket=f"plays-{uuid.uuid4().hex[:8]}")
    made.place = f"s3:{server.endpoint}/{made.name}"
    made.keys = {"s3_access_key": access, "s3_secret_key": secret}
    return made
