# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus: the data of a snapshot that the server makes, its configuration, its rules, and every file they name."""

from dataclasses import dataclass

from restaura.config.schema import Component, setting


@dataclass(frozen=True)
class PrometheusComponent(Component):
    """Settings of a `prometheus` component."""

    unit: str = setting(
        "systemd unit of a server on this host.", default="prometheus.service", pattern=r"[A-Za-z0-9:_.@\\-]+\.service"
    )
    container: str = setting("Name of the container that the server runs in.", default="")
    url: str = setting(
        "Where the server answers, with its path prefix. Empty: where the flags of the unit or of the container say.",
        default="",
        example="https://127.0.0.1:9090/prometheus",
        pattern=r"(|https?://[^\s/@]+(/[^\s?#]*)?)",
    )
    username: str = setting("User name for the server's basic authentication.", default="")
    password: str | None = setting("Password of that user.", default=None, secret=True)
    token: str | None = setting(
        "Bearer token, where a proxy in front of the server asks for one.", default=None, secret=True
    )
    ca_file: str = setting(
        "PEM file of the only authority that is trusted for `https`. Empty: the system's.",
        default="",
        pattern=r"(|/.+)",
    )
    data_directory: str = setting(
        "Where on this host the server keeps its data (`--storage.tsdb.path`). Empty: found by its flags. It must be "
        "given for a server that is only reached over the network, and then be mounted here.",
        default="",
        pattern=r"(|(/[^/\0]+)+)",
    )
    snapshot_timeout: int = setting("Seconds that the server may take for its snapshot.", default=600, minimum=1)
    start_timeout: int = setting(
        "Seconds that the server may take to be ready after a restore.", default=300, minimum=1
    )
