# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds a stack together: Compose files, `.env`, Kubernetes manifests, scripts, and which images ran exactly."""

import contextlib
import json
import posixpath
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from restaura import process, trees
from restaura.config.schema import setting
from restaura.errors import RestauraError
from restaura.named_files import SUFFIXES, Folder, NamedFiles, NamedFilesComponent, walk
from restaura.others_yaml import Document
from restaura.runners.container import docker_api
from restaura.sources import SourceKind, Tree
from restaura.sources.files import ROOT
from restaura.volumes.projects import bound_paths, extended_files, includes, named_files

SCRIPTS, IMAGES = "etl_scripts", "images.json"
WORKING_DIR = "com.docker.compose.project.working_dir"
TRY_SECONDS = 60
# Compose's interpolation (docs.docker.com/reference/compose-file/interpolation): $$ is a dollar; `:-`, `-`, `:+` and
# `+` say what to put where there is no value, `:?` and `?` that there must be one.
VARIABLE = re.compile(r"\$(?:\$|\{(?P<braced>[A-Za-z_]\w*)(?P<rest>[^}]*)\}|(?P<plain>[A-Za-z_]\w*))")
# What Compose fetches: docs.docker.com/reference/compose-file/include (OCI artifacts, Git repositories).
REMOTE = re.compile(r"[a-z][a-z0-9+.-]*://|git@|github\.com/")
ASSIGNMENT = re.compile(r"\s*(?:export\s+)?([A-Za-z_][\w.-]*)\s*(=.*)?")


@dataclass(frozen=True)
class InfraComponent(NamedFilesComponent):
    """The files that a stack is deployed with."""

    compose: tuple[str, ...] = setting(
        "Compose files, as they are given to `docker compose -f`. `NAME.override.yaml` beside the first goes with it. "
        "What they name (`include`, `extends`, `env_file`, `secrets`, `configs`) goes along.",
        default=("docker-compose.yaml",),
    )
    env: tuple[str, ...] = setting("Files of variables; always encrypted.", default=(".env",))
    variables: tuple[str, ...] = setting(
        "Variables of the Compose files that are given in another way than by `env`.", default=(), example=["TAG"]
    )
    kubernetes: tuple[str, ...] = setting(
        "Kubernetes manifests and directories of them. Those of a Secret are encrypted.", default=(), example=["k8s"]
    )
    scripts: tuple[str, ...] = setting(
        "Directories of scripts, kept as `etl_scripts.tar.gz`.", default=(), example=["/opt/etl"]
    )
    images: bool = setting(
        "Whether the digests of the images that the stack runs are kept, where there is a Docker daemon.", default=True
    )


class Infra(NamedFiles):
    """Files of a deployment."""

    def __init__(self, options: InfraComponent, host: Any) -> None:
        self._own = options
        self._scripts: list[str] = []
        super().__init__(options, host)

    def look(self, folder: Folder) -> None:
        """Take the files, follow what they name, and hold their variables against the environment files."""
        scripts = folder.further(self._own.scripts, "scripts")
        if folder.live:
            self._scripts = scripts
        known = set(self._own.variables)
        for one in self._own.env:
            if path := folder.named(one, "env", secret=True):
                known |= _variables(folder, path)
        for one in folder.further(self._own.kubernetes, "kubernetes", whole=True):
            for path in folder.files(one):
                if path.endswith((*SUFFIXES, "/Kustomization")):
                    _look_at_manifests(folder, path)
        # Last: what these mount is in the point when anything before took it.
        for path in self._compose_files(folder):
            self._follow(folder, path, folder.directory, known, set())

    def _compose_files(self, folder: Folder) -> list[str]:
        """Return the Compose files in the order in which Compose reads them."""
        found = [one for path in self._own.compose if (one := folder.named(path, "compose"))]
        stem = posixpath.splitext(found[0])[0] if found else ""
        beside = [f"{stem}.override{end}" for end in (".yml", ".yaml")]
        return [*found[:1], *(one for one in beside if folder.is_file(one) and one not in found), *found[1:]]

    def _follow(self, folder: Folder, path: str, base: str, known: set[str], seen: set[str]) -> None:
        """Take a Compose file, and what it names relative to `base`."""
        if path in seen:
            return
        seen.add(path)
        folder.take(path)
        document = folder.document(path)
        if document is None:
            return
        if not isinstance(document.data, dict):
            folder.wrong(path, "is no Compose file", "it must be a mapping with `services`", 1)
            return
        _look_at_variables(folder, path, document, known)
        for one, directory in includes(document.data):
            inner = posixpath.normpath(posixpath.join(base, one))
            within = posixpath.join(base, directory) if directory else posixpath.dirname(inner)
            if _there(folder, path, document, one, inner):
                self._follow(folder, inner, within, known, seen)
        for one in extended_files(document.data):
            inner = posixpath.normpath(posixpath.join(base, one))
            if _there(folder, path, document, one, inner):
                self._follow(folder, inner, posixpath.dirname(inner), known, seen)
        configs = {str(one.get("file")) for one in _mappings(document.data.get("configs"))}
        for one, required in named_files(document.data):
            inner = posixpath.normpath(posixpath.join(base, one))
            if (required or folder.is_file(inner)) and _there(folder, path, document, one, inner):
                folder.take(inner, secret=one not in configs)
        _look_at_bound_paths(folder, path, document.data, base)

    def try_out(self, folder: Folder) -> None:
        """Have Docker Compose, where it is installed, read the files; it prints nothing, and fills in no value."""
        files = self._compose_files(folder)
        # A drill has no network, and needs none: what Compose would fetch is not what was restored.
        fetches = any(REMOTE.match(one) for path in files for one in _included(folder, path))
        if not files or not _has_compose() or (fetches and not folder.live):
            return
        with self._standing(folder, files) as root:
            argv = [*([] if folder.live else process.without_network()), "docker", "compose"]
            for one in files:
                argv += ["-f", f"{root}{one}"]
            for one in self._own.env:
                argv += ["--env-file", f"{root}{folder.absolute(one)}"]
            argv += ["--project-directory", f"{root}{folder.directory}", "config", "-q", "--no-interpolate"]
            code, _, errors = process.run(argv, timeout=TRY_SECONDS, accept=range(-64, 256))
        if code:
            folder.wrong(*_complaint(folder, files[0], errors.replace(root, "")))

    @contextlib.contextmanager
    def _standing(self, folder: Folder, files: list[str]) -> Iterator[str]:
        """Yield the directory that stands for `/`, with copies where restored files are in several places."""
        if len(folder.places) == 1:
            yield folder.places[0][0]
            return
        with self._host.spool("compose") as spool:
            for one in dict.fromkeys([*files, *folder.found]):
                if (here := folder.at(one)) and here.is_file():
                    target = Path(f"{spool}{one}")
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(here, target)
            yield str(spool)

    def made(self) -> dict[str, bytes]:
        """Say which images the stack runs, by digest, or why that is not known: the file is in every point."""
        if not self._own.images:
            return {}
        told: dict[str, Any]
        try:
            told = {"images": _images(self._named.directory)}
        except RestauraError as error:
            told = {"images": [], "problem": error.what}
        return {IMAGES: json.dumps(told, indent=2, sort_keys=True).encode() + b"\n"}

    def group(self, path: str) -> str:
        """Keep the scripts apart; what is secret among them is with the secrets."""
        found = super().group(path)
        return SCRIPTS if found != "secrets" and trees.below(path, self._scripts) else found

    def tree(self, name: str, index: trees.Index) -> Tree:
        """Store the scripts as one archive that any program unpacks."""
        return Tree(SCRIPTS, ROOT, index, gzip=True) if name == SCRIPTS else super().tree(name, index)


def _there(folder: Folder, path: str, document: Document, name: str, inner: str) -> bool:
    """Whether a file that a Compose file names is there; note it when not."""
    if REMOTE.match(name):
        folder.warnings.append(f"{path}: {name!r}, which it includes, is kept elsewhere and is no part of the backup")
        return False
    if "$" in name:
        folder.warnings.append(f"{path}: {name!r}, which it names, depends on a variable: name it in `files`")
    elif not folder.is_file(inner):
        line = next((document.lines.get(keys) for keys, value in walk(document.data) if value == name), None)
        folder.wrong(path, f"{name!r} leads nowhere", "create the file, or correct the reference", line)
    return "$" not in name and folder.is_file(inner)


def _look_at_bound_paths(folder: Folder, path: str, data: dict[Any, Any], base: str) -> None:
    """Tell which bind mounts and build contexts of the deployment are in no path that is taken: they may be files."""
    told = {one for one in bound_paths(data) if one[:1] not in ("", "/", "~") and not REMOTE.match(one)}
    lacking = sorted(
        one for one in told if not trees.below(posixpath.normpath(posixpath.join(base, one)), folder.found)
    )
    if lacking:
        what = "(bind mounts, build contexts) are not in the point: name them in `files`, or back them up as data"
        folder.warnings.append(f"{path}: {', '.join(lacking)} {what}")


def _included(folder: Folder, path: str) -> list[str]:
    document = folder.document(path)
    return [one for one, _ in includes(document.data)] if document and isinstance(document.data, dict) else []


def _complaint(folder: Folder, path: str, errors: str) -> tuple[str, str, str, int | None]:
    """Return file, problem, fix and line of what Compose says without what it quotes of environment files.

    It quotes values that it cannot read, and warns of what follows a dollar in one (compose-go, dotenv/parser.go).
    """
    said = "\n".join(line for line in errors.splitlines() if "level=warning" not in line)
    if quoted := max((one for one in folder.secret if one in said), key=len, default=None):
        number = re.match(r": line (\d+)", said.partition(quoted)[2])
        fix = "close its quotes, and write $$ or single quotes for a dollar in a value"
        return quoted, "docker compose cannot read it", fix, int(number[1]) if number else None
    return path, f"docker compose config says {said}", "correct it", None


def _has_compose() -> bool:
    try:
        process.run(["docker", "compose", "version"], timeout=TRY_SECONDS)
    except RestauraError:
        return False
    return True


def _images(directory: str) -> list[dict[str, Any]]:
    """Return service, name, id and digests of the images that the containers of a Compose project were made from."""
    with contextlib.closing(docker_api()) as client:
        from docker.errors import DockerException, ImageNotFound

        found: dict[str, dict[str, Any]] = {}
        try:
            for one in client.containers(all=True, filters={"label": f"{WORKING_DIR}={directory}"}):
                service = one["Labels"].get("com.docker.compose.service", "")
                digests: list[str] = []
                # The image of a container that still runs may have been removed.
                with contextlib.suppress(ImageNotFound):
                    digests = client.inspect_image(one["ImageID"]).get("RepoDigests") or []
                found[service] = {
                    "service": service,
                    "image": one["Image"],
                    "id": one["ImageID"],
                    "digests": sorted(digests),
                }
        except DockerException as error:
            raise RestauraError(f"the Docker daemon: {error}", fix="docker info") from error
    return [found[name] for name in sorted(found)]


def _variables(folder: Folder, path: str) -> set[str]:
    """Return the names that an environment file gives; values are shown nowhere."""
    found: set[str] = set()
    quote = ""
    for number, line in enumerate((folder.text(path) or "").splitlines(), 1):
        if quote:
            # A value in quotes may be several lines long.
            quote = "" if quote in line else quote
            continue
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = ASSIGNMENT.fullmatch(line)
        if not match:
            folder.wrong(path, "is no NAME=VALUE", "correct it, or make it a comment with #", number)
            continue
        found.add(match[1])
        value = (match[2] or "=")[1:].strip()
        if value[:1] in ("'", '"') and value.count(value[0]) == 1:
            quote = value[0]
    return found


def _look_at_variables(folder: Folder, path: str, document: Document, known: set[str]) -> None:
    """Note each variable without a value of its own that no environment file gives: Compose would put nothing there."""
    told: set[str] = set()
    for keys, value in walk(document.data):
        for match in VARIABLE.finditer(value) if isinstance(value, str) else ():
            name = match["braced"] or match["plain"]
            given = (match["rest"] or "").lstrip(":")[:1] in ("-", "+")
            if name and name not in known and name not in told and not given:
                told.add(name)
                fix = "add it to a file of `env`, or to `variables` of the component when it comes from elsewhere"
                folder.wrong(path, f"the variable {name} has no value", fix, document.lines.get(keys))


def _look_at_manifests(folder: Folder, path: str) -> None:
    """Look at Kubernetes manifests; one of a Secret is taken as secret: what is in it is only base64."""
    plain = posixpath.basename(path).startswith(("kustomization.", "Kustomization", "values.", "Chart."))
    for document in folder.documents(path) or ():
        if isinstance(document.data, dict):
            _look_at_generators(folder, path, document.data.get("secretGenerator"))
        if document.data is None or plain:
            continue
        line = document.lines.get(())
        data = document.data
        if not isinstance(data, dict) or not all(isinstance(data.get(one), str) for one in ("apiVersion", "kind")):
            folder.wrong(path, "is no manifest: `apiVersion` or `kind` is missing", "correct it", line)
            continue
        items = data.get("items")
        several = [one for one in items if isinstance(one, dict)] if isinstance(items, list) else []
        if any(one.get("kind") == "Secret" for one in (data, *several)):
            folder.secret.add(path)


def _look_at_generators(folder: Folder, path: str, generators: Any) -> None:
    """Take as secret what Kustomize makes Secrets of: the kustomization, which has `literals`, and the files it names.

    kubectl.docs.kubernetes.io/references/kustomize/kustomization/secretgenerator
    """
    for one in generators if isinstance(generators, list) else ():
        folder.secret.add(path)
        given = [one.get(key) or [] for key in ("files", "envs", "env")] if isinstance(one, dict) else []
        for name in (name for names in given for name in (names if isinstance(names, list) else [names])):
            inner = posixpath.normpath(posixpath.join(posixpath.dirname(path), str(name).rpartition("=")[2]))
            if folder.is_file(inner):
                folder.take(inner, secret=True)


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in value.values() if isinstance(one, dict)] if isinstance(value, dict) else []


SOURCE = SourceKind("infra", InfraComponent, Infra, ("python3-docker",), tier="files")
