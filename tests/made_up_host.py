# SPDX-License-Identifier: GPL-3.0-or-later
"""A made-up host below a directory: files, processes, units, and a Docker daemon that answers or keeps its files."""

import json
import os
import socket
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SQLITE = b"SQLite format 3\x00" + b"\0" * 84


@dataclass
class MadeUpHost:
    """Paths are the host's own; `root` is where it lies."""

    root: Path
    containers: list[dict[str, Any]] = field(default_factory=list)
    volumes: list[dict[str, Any]] = field(default_factory=list)
    inspected: dict[str, Any] = field(default_factory=dict)
    _listener: socket.socket | None = None
    _server: threading.Thread | None = None

    def at(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def put(self, path: str, content: str | bytes = b"x" * 10) -> Path:
        """Write a file, and the directories above it."""
        place = self.at(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content if isinstance(content, bytes) else os.fsencode(content))
        return place

    def folder(self, path: str) -> Path:
        """Make a directory."""
        self.at(path).mkdir(parents=True, exist_ok=True)
        return self.at(path)

    def process(self, pid: int, *arguments: str, works: str = "", group: str = "", holds: tuple[str, ...] = ()) -> None:
        """Let a process run: its command line, where it works, its control group, what it has open."""
        self.put(f"/proc/{pid}/cmdline", "\0".join(arguments) + "\0")
        self.put(f"/proc/{pid}/cgroup", f"0::{group or '/init.scope'}\n")
        if works:
            self.at(f"/proc/{pid}/cwd").symlink_to(self.at(works))
        for number, one in enumerate(holds):
            self.folder(f"/proc/{pid}/fd")
            self.at(f"/proc/{pid}/fd/{number}").symlink_to(self.at(one) if one.startswith("/") else one)

    def service(self, name: str, **keys: str) -> None:
        """Install a unit."""
        lines = "".join(f"{key}={value}\n" for key, value in keys.items())
        self.put(f"/etc/systemd/system/{name}.service", f"[Unit]\n[Service]\n{lines}")

    def cluster(self, name: str, data: str, text: str | None = None) -> str:
        """Make one of Debian's Postgres clusters."""
        self.put(f"{data}/PG_VERSION", f"{name.split('/', maxsplit=1)[0]}\n")
        self.put(f"{data}/global/pg_control")
        told = f"data_directory = '{data}'\t# moved\n" if text is None else text
        self.put(f"/etc/postgresql/{name}/postgresql.conf", f"# data_directory = '/elsewhere'\n{told}")
        return data

    def container(
        self,
        name: str,
        image: str,
        *mounts: tuple[str, str],
        running: bool = True,
        project: str = "",
        folder: str = "",
        environment: tuple[str, ...] = (),
    ) -> str:
        """Make a container as the daemon lists it; a mount is (volume or path, target)."""
        number = f"{len(self.containers) + 1:064x}"
        labels = {"com.docker.compose.service": name} if project else {}
        labels |= {"com.docker.compose.project": project} if project else {}
        if folder:
            labels |= {
                "com.docker.compose.project.working_dir": folder,
                "com.docker.compose.project.config_files": f"{folder}/compose.yml",
            }
        told = [
            {"Type": "bind", "Source": source, "Destination": target}
            if source.startswith("/")
            else {"Type": "volume", "Name": source, "Source": "", "Destination": target}
            for source, target in mounts
        ]
        state = "running" if running else "exited"
        self.containers.append(
            {"Id": number, "Names": [f"/{name}"], "Image": image, "State": state, "Labels": labels, "Mounts": told}
        )
        self.inspected[number] = {"Config": {"Env": list(environment)}}
        return number

    def volume(self, name: str, **more: Any) -> str:
        """Make a volume with something in it; returns where its data is."""
        path = f"/var/lib/docker/volumes/{name}/_data"
        self.put(f"{path}/file")
        self.volumes.append({"Name": name, "Driver": "local", "Mountpoint": path, "Labels": None, **more})
        return path

    def daemon_stopped(self) -> None:
        """Write what a daemon that is stopped leaves on the disk."""
        for one in self.containers:
            mounts = {
                mount["Destination"]: {"Name": mount.get("Name", ""), "Source": mount["Source"], "Type": mount["Type"]}
                for mount in one["Mounts"]
            }
            environment = self.inspected[one["Id"]]["Config"]["Env"]
            written = {
                "Name": one["Names"][0],
                "Config": {"Image": one["Image"], "Labels": one["Labels"], "Env": environment},
                "MountPoints": mounts,
            }
            self.put(f"/var/lib/docker/containers/{one['Id']}/config.v2.json", json.dumps(written))
        for one in self.volumes:
            if one.get("Options"):
                options = {"type": "MountType", "o": "MountOpts", "device": "MountDevice"}
                told = {options[key]: value for key, value in one["Options"].items()}
                self.put(f"/var/lib/docker/volumes/{one['Name']}/opts.json", json.dumps(told))

    def daemon(self, *, answers: bool = True) -> None:
        """Start a daemon at the usual socket: it answers, or takes connections and says nothing."""
        self.folder("/run")
        self.folder("/var/lib/docker")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.at("/run/docker.sock")))
        self._listener.listen(64)
        if answers:
            self._server = threading.Thread(target=self._serve, args=(self._listener,), daemon=True)
            self._server.start()

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                asked = connection.recv(65536).decode().split(" ")[1]
                answer: Any = {"Volumes": self.volumes} if asked == "/volumes" else self.containers
                if asked.endswith("/json"):
                    answer = self.inspected[asked.split("/")[2]]
                body = json.dumps(answer).encode()
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    def close(self) -> None:
        """Stop the daemon."""
        if self._listener:
            # A thread left in accept() would go on with the descriptor's number: another test's listener.
            if self._server:
                self._listener.shutdown(socket.SHUT_RDWR)
                self._server.join()
            self._listener.close()
