# SPDX-License-Identifier: GPL-3.0-or-later
"""A real S3 server (SeaweedFS, from PyPI) in a container of its own, which controller and hosts reach alike."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tools.lab import images
from tools.lab.common import CACHE, CLONE, CLONE_LABEL, ROOT, LabError, lock, run

CONTAINER = f"restaura-{CLONE}-s3"
PORT = 8333
START_SECONDS = 40
WEED = ROOT / ".venv/bin/weed"
# The address is known only inside. Small volumes, as many as needed: each bucket takes several, and tests make many.
SERVE = (
    'exec weed -logtostderr=true server -s3 -dir=/srv -ip="$(hostname -I | tr -d " ")" -s3.config=/run/identities.json '
    f"-s3.port={PORT} -s3.port.iceberg=0 -s3.port.lance=0 "
    "-master.volumeSizeLimitMB=64 -volume.max=0 -master.telemetry=false"
)


@dataclass(frozen=True)
class Server:
    """A running S3 server; its keys stand in a file of the AWS tools' format (profile `default`)."""

    endpoint: str
    region: str
    credentials: str
    container: str


def up() -> Server:
    """Start this clone's S3 server, or return the one that runs. Raises LabError when it does not answer."""
    with lock("s3"):
        if server := _running():
            return server
        if not WEED.exists():
            raise LabError(f"{WEED} is not there: run make venv")
        down()
        identities, _ = _keys()
        run(
            *("docker", "run", "--detach", "--init", "--name", CONTAINER, "--label", CLONE_LABEL),
            *("--volume", f"{WEED}:/usr/local/bin/weed:ro", "--volume", "/srv"),
            *("--volume", f"{identities}:/run/identities.json:ro", images.tag("bare13"), "/bin/sh", "-c", SERVE),
        )
        deadline = time.monotonic() + START_SECONDS
        while not (server := _running()):
            if time.monotonic() > deadline:
                log = subprocess.run(["docker", "logs", "--tail", "20", CONTAINER], capture_output=True, check=False)
                raise LabError(f"the S3 server did not start: {log.stderr.decode(errors='replace')}")
            time.sleep(0.1)
        return server


def down() -> None:
    """Stop this clone's S3 server and remove what it held."""
    subprocess.run(["docker", "rm", "--force", "--volumes", CONTAINER], capture_output=True, check=False)


def _running() -> Server | None:
    command = ["docker", "inspect", "--format", "{{.NetworkSettings.IPAddress}}", CONTAINER]
    address = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    endpoint = f"http://{address}:{PORT}"
    if not address or not _answers(endpoint):
        return None
    return Server(endpoint, "us-east-1", str(_keys()[1]), CONTAINER)


def _answers(endpoint: str) -> bool:
    try:
        with urllib.request.urlopen(endpoint, timeout=2):  # noqa: S310 - our own endpoint, always http
            return True
    except urllib.error.HTTPError as refused:
        # Without a signature it refuses, once it serves; before that it says 5xx.
        return refused.code < 500
    except OSError:
        return False


def _keys() -> tuple[Path, Path]:
    """Make the server's key once; return the server's identities file and the clients' credentials file."""
    identities, credentials = CACHE / "s3-identities.json", CACHE / "s3-credentials"
    if not (identities.exists() and credentials.exists()):
        access, secret = secrets.token_hex(10), secrets.token_hex(20)
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        identity = {"name": "lab", "credentials": [{"accessKey": access, "secretKey": secret}], "actions": actions}
        _write_secret(identities, json.dumps({"identities": [identity]}))
        _write_secret(credentials, f"[default]\naws_access_key_id = {access}\naws_secret_access_key = {secret}\n")
    return identities, credentials


def _write_secret(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as handle:
        handle.write(text)
