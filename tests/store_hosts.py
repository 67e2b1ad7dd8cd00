# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts with one store, for tests of stores: real keys, real places, no configuration on disk."""

import configparser
import hashlib
import io
import os
import subprocess
from collections.abc import Mapping
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

from restaura.config.schema import Config, Settings, Store
from restaura.host import Host
from restaura.paths import Paths
from restaura.point import ComponentRecord, Manifest, StoredArtifact, new_id
from restaura.sources import Stream
from restaura.stores import PointWriter, StoredPoint
from restaura.stores import Store as OpenStore

COMPONENT = "app"


def make_host(root: Path, config: Store, name: str = "web1", identity: str = "first", key: str = "ab" * 32) -> Host:
    """Return a host below `root` whose configuration is one store; its reserve is nothing unless `reserve` is set."""
    keys = root / "etc/restaura/keys"
    keys.mkdir(parents=True, exist_ok=True)
    (root / "etc/restaura/identity").write_text(identity)
    (keys / "manifest.key").write_text(key)
    if not (keys / "age.key").exists():
        subprocess.run(["age-keygen", "-o", str(keys / "age.key")], check=True, capture_output=True)
    if config.location.startswith("s3:"):
        profile = configparser.ConfigParser()
        profile.read(os.environ["AWS_SHARED_CREDENTIALS_FILE"])
        (keys / f"stores.{config.name}.s3_access_key").write_text(profile["default"]["aws_access_key_id"] + "\n")
        (keys / f"stores.{config.name}.s3_secret_key").write_text(profile["default"]["aws_secret_access_key"] + "\n")
    return Host(Paths(root), Config(Settings(host=name, reserve_bytes=0, reserve_percent=0), (config,)))


def write_stream(writer: PointWriter, name: str, data: bytes, *, secret: bool = False) -> StoredArtifact:
    """Store one stream as the pipeline does, in chunks."""
    stream = writer.stream(COMPONENT, Stream(name, lambda: nullcontext(io.BytesIO(data)), secret))
    for start in range(0, len(data), 1 << 18):
        stream.write(data[start : start + (1 << 18)])
    return stream.commit(len(data), hashlib.sha256(data).hexdigest())


def make_manifest(host: Host, point_id: str, label: str, plan: str, artifacts: list[StoredArtifact]) -> Manifest:
    """Return the manifest of a point with one good component."""
    now = datetime.now(UTC).isoformat()
    component = ComponentRecord(COMPONENT, "files", "complete", artifacts=artifacts)
    return Manifest(point_id, label, host.name, host.identity, plan, now, now, "0", 1, {}, [component])


def take_point(
    store: OpenStore,
    host: Host,
    streams: Mapping[str, bytes],
    *,
    label: str = "2025-09-22",
    plan: str = "nightly",
    at: datetime = datetime(2025, 9, 22, 6, tzinfo=UTC),
    secret: bool = False,
) -> StoredPoint:
    """Take a point of a few streams."""
    point_id = new_id(at)
    writer = store.begin(point_id, host.name, plan, label)
    artifacts = [write_stream(writer, name, data, secret=secret) for name, data in streams.items()]
    return writer.seal(make_manifest(host, point_id, writer.label, plan, artifacts))
