# SPDX-License-Identifier: GPL-3.0-or-later
"""Language models as an application uses them: which exactly, their parameters, system prompts, and weights if local.

The shape of `model_config.json` is ours: no provider defines one. Parameters are named as in OpenAI's interface.
"""

import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from restaura import trees
from restaura.config.schema import setting
from restaura.errors import RestauraError
from restaura.named_files import SECRETS, Folder, NamedFiles, NamedFilesComponent
from restaura.others_yaml import Document
from restaura.point import Depth
from restaura.sources import SourceKind, Tree
from restaura.sources.files import ROOT
from restaura.trees.links import Links

WEIGHTS = "weights"
SECONDS = 30  # that an answer of Qdrant may take
CORRECT = "correct it"
# Words that mean another model tomorrow, and names that end in a date, which mean the same one for ever.
MOVING = ("", "main", "master", "head", "latest", "default", "stable")
DATED = re.compile(r".*[-@](\d{4}-?\d{2}-?\d{2}|\d{4})")
SHA256 = re.compile(r"(sha256:)?[0-9a-f]{64}")
NUMBERS: dict[str, tuple[type, float, float]] = {
    "temperature": (float, 0, 2),
    "top_p": (float, 0, 1),
    "min_p": (float, 0, 1),
    "top_k": (int, 0, 1 << 31),
    "max_tokens": (int, 1, 1 << 31),
    "n": (int, 1, 128),
    "seed": (int, -(1 << 63), (1 << 64) - 1),
    "presence_penalty": (float, -2, 2),
    "frequency_penalty": (float, -2, 2),
    "repetition_penalty": (float, 0, 10),
    "timeout": (float, 0, 86_400),
}


@dataclass(frozen=True)
class LlmComponent(NamedFilesComponent):
    """One model of an application, or several."""

    model_config: str = setting(
        "JSON file that says which model is used, and how (docs/sources/llm.md).", default="model_config.json"
    )
    system_prompts: str = setting(
        "JSON file of the system prompts by name. Empty: there are none.", default="system_prompts.json"
    )
    weights: tuple[str, ...] = setting(
        "Files and directories of the weights, where the model is local; absolute or relative to `directory`.",
        default=(),
        example=["weights/model.gguf"],
    )
    qdrant_component: str = setting(
        "Name of a `qdrant` component of this host: the dimension of embeddings is held against its collections.",
        default="",
    )


class Llm(NamedFiles):
    """Configuration, system prompts and weights of models."""

    def __init__(self, options: LlmComponent, host: Any) -> None:
        self._own = options
        self._weights: list[str] = []
        super().__init__(options, host)

    def look(self, folder: Folder) -> None:
        """Hold both files against what they must say."""
        weights = folder.further(self._own.weights, "weights", whole=True)
        if folder.live:
            self._weights = weights
        if (path := folder.named(self._own.model_config, "model_config")) and (document := folder.document(path)):
            for keys, model in models(folder, path, document):
                _look_at_model(folder, path, document, keys, model)
        if (path := folder.named(self._own.system_prompts, "system_prompts")) and (document := folder.document(path)):
            _look_at_prompts(folder, path, document)

    def judge(self, folder: Folder, scanned: Callable[[Depth], trees.Index]) -> None:
        """Hold the weights that are taken, and their hashes where they were read, against the configuration."""
        super().judge(folder, scanned)
        path = folder.absolute(self._own.model_config)
        document = folder.document(path) if self._own.model_config and folder.is_file(path) else None
        told = models(Folder(folder.directory), path, document) if document else []
        named = [one for keys, model in told for one in _weights(folder, keys, model)]
        if document is None or not named:
            return
        links = Links(scanned("content"))
        for file, sha256, keys in named:
            there, line = links.follow(file[1:]), document.lines.get((*keys, "sha256"))
            if there is None or there.type != "file":
                fix = "name them, and what holds them when they are a link, in `weights`; see to `exclude`"
                folder.wrong(path, f"the weights {file} are not in the point", fix, line)
            elif there.sha256 and there.sha256 != sha256.removeprefix("sha256:").lower():
                what = f"the weights {file} have the SHA-256 {there.sha256}, not {sha256}"
                folder.wrong(path, what, "get the right ones", line)

    def try_out(self, folder: Folder) -> None:
        """Hold the embeddings' dimension against Qdrant's collections; a restored file speaks of other servers."""
        if not self._own.qdrant_component or not folder.live:
            return
        path = folder.absolute(self._own.model_config)
        if self._host.config.kinds.get(self._own.qdrant_component) != "qdrant":
            what = f"there is no qdrant component {self._own.qdrant_component!r}"
            folder.wrong(
                f"component {self._own.name}", what, "declare it in backup_qdrant_components, or correct the name"
            )
            return
        document = folder.document(path)
        wanted = (
            [(keys, one) for keys, model in models(folder, path, document) if (one := model.get("embedding"))]
            if document
            else []
        )
        if not document or not wanted:
            folder.wrong(path, "names no embedding, which `qdrant_component` is to be compared with", "add `embedding`")
            return
        try:
            sizes = self._sizes([name for _, one in wanted for name in one.get("collections", ())])
        except RestauraError as error:
            folder.warnings.append(f"the dimension of embeddings was not compared with Qdrant: {error}")
            return
        for keys, one in wanted:
            self._fits(folder, path, document.lines.get((*keys, "embedding", "dimension")), one, sizes)

    def _fits(
        self,
        folder: Folder,
        path: str,
        line: int | None,
        embedding: Mapping[str, Any],
        sizes: dict[str, dict[str, int]],
    ) -> None:
        dimension, vector, named = embedding["dimension"], embedding.get("vector"), embedding.get("collections")
        fix = "name the embedding model that the collection was made with"

        def fits(there: dict[str, int]) -> bool:
            return dimension in ([there.get(vector)] if vector else there.values())

        if not named:
            fix += ", or in `embedding.collections` those that it fills"
            if any(map(fits, sizes.values())):
                # The others may be of other models.
                return
        for name in named or sizes:
            there = sizes.get(name)
            if there is None:
                gone = f"the collection {name!r} is not in Qdrant"
                folder.wrong(path, gone, "correct `collections`, or restore the collection", line)
            elif not fits(there):
                said = ", ".join(f"{key or 'the vector'} {size}" for key, size in sorted(there.items())) or "no vector"
                what = f"embeddings of {dimension} dimensions do not fit the collection {name!r}: {said}"
                folder.wrong(path, what, fix, line)

    def _sizes(self, named: list[str]) -> dict[str, dict[str, int]]:
        """Return the size of each dense vector of Qdrant's collections; the unnamed vector is called ``."""
        from restaura.qdrant.server import Server

        options: Any = self._host.config.component(self._own.qdrant_component)
        url = options.url or ("" if options.container else f"http://127.0.0.1:{options.port}")
        key = self._host.secret("components", options.name, "api_key")
        server = Server(options.name, url, options.container, options.port, options.ca_file, str(key or ""), SECONDS)
        present = {*server.collections(), *server.aliases()}
        found = {}
        taken = options.collections or server.collections()
        for name in named or [one for one in taken if one not in options.exclude_collections]:
            if name in present:
                vectors = server.info(name)["config"]["params"].get("vectors") or {}
                single = isinstance(vectors.get("size"), int)
                found[name] = {"": vectors["size"]} if single else {one: of["size"] for one, of in vectors.items()}
        return found

    def group(self, path: str) -> str:
        """Keep the weights apart; what is secret among them is with the secrets."""
        found = super().group(path)
        return WEIGHTS if found != SECRETS and trees.below(path, self._weights) else found

    def tree(self, name: str, index: trees.Index) -> Tree:
        """Store weights below `weights`, at their paths in the folder that holds them all."""
        if name != WEIGHTS:
            return super().tree(name, index)
        folders = [one if self._found.is_dir(one) else posixpath.dirname(one) for one in self._weights]
        top = posixpath.commonpath(folders)
        return Tree(WEIGHTS, ROOT, index, expanded=WEIGHTS, top=top.strip("/"))


def models(folder: Folder, path: str, document: Document) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Return the models of a configuration with their keys: the whole file is one, or `models` are some by name."""
    data = document.data
    if isinstance(data, dict) and "models" not in data:
        return [((), data)]
    several = data.get("models") if isinstance(data, dict) else None
    rows: list[tuple[tuple[Any, ...], Any]] = []
    if isinstance(several, dict):
        rows = [(("models", str(name)), one) for name, one in several.items()]
    elif isinstance(several, list):
        rows = [(("models", number), one) for number, one in enumerate(several)]
    good = [(keys, one) for keys, one in rows if isinstance(one, dict)]
    if not good or len(good) != len(rows):
        folder.wrong(path, "is neither a model nor has it `models`", "write an object for each model", 1)
    return good


def _look_at_model(folder: Folder, path: str, document: Document, keys: tuple[Any, ...], model: dict[str, Any]) -> None:
    def wrong(what: str, fix: str, *inner: Any) -> None:
        line = next((document.lines[one] for one in ((*keys, *inner), keys, ()) if one in document.lines), None)
        folder.wrong(path, what, fix, line)

    for name in ("provider", "model"):
        if not isinstance(model.get(name), str) or not model[name].strip():
            wrong(f"`{name}` is not given", "name it as text", name)
    _look_at_revision(model, wrong)
    given = model.get("parameters", {})
    if not isinstance(given, dict):
        wrong("`parameters` is no object", CORRECT, "parameters")
        given = {}
    for place, values in (((), model), (("parameters",), given)):
        for name, value in values.items():
            if why := _unfit(name, value):
                wrong(f"`{name}` {why}", CORRECT, *place, name)
    if (embedding := model.get("embedding")) is not None:
        _look_at_embedding(embedding, wrong)
    _look_at_weights(folder, keys, model, wrong)


def _look_at_revision(model: Mapping[str, Any], wrong: Callable[..., None]) -> None:
    """A model that is named by a word which means another one tomorrow cannot be restored."""
    digest, revision = model.get("digest"), model.get("revision")
    if digest is not None and not (isinstance(digest, str) and SHA256.fullmatch(digest.lower())):
        wrong(f"`digest` {digest!r} is no SHA-256", "write it as sha256:HEX", "digest")
    elif digest is None and revision is None:
        if not DATED.fullmatch(str(model.get("model", ""))):
            wrong(
                "names no exact model: neither `revision` nor `digest`, and no date in `model`",
                "add `revision`",
                "model",
            )
    elif digest is None and (not isinstance(revision, str) or revision.strip().lower() in MOVING):
        wrong(f"`revision` {revision!r} is another model tomorrow", "name a commit, a version or a date", "revision")


def _look_at_weights(
    folder: Folder, keys: tuple[Any, ...], model: Mapping[str, Any], wrong: Callable[..., None]
) -> None:
    weights = model.get("weights") or []
    named = _weights(folder, keys, model)
    if not isinstance(weights, list) or len(named) != len(weights):
        wrong("`weights` is no list of objects with `path` and `sha256`", CORRECT, "weights")
    for file, sha256, _ in named:
        if not SHA256.fullmatch(sha256.lower()):
            wrong(f"{file} has no `sha256`, or one that is none", "write there what says: sha256sum FILE", "weights")
        # Of restored ones `judge` tells: a link among them may lead to where they are to be.
        if folder.live and not folder.is_file(file):
            wrong(f"the weights {file} are not there, or in no path of `weights`", "name them in `weights`", "weights")


def _look_at_embedding(embedding: Any, wrong: Callable[..., None]) -> None:
    if not isinstance(embedding, dict):
        wrong("`embedding` is no object", CORRECT, "embedding")
        return
    if not isinstance(embedding.get("model"), str) or not embedding["model"]:
        wrong("`embedding.model` is not given", "name it as text", "embedding", "model")
    dimension = embedding.get("dimension")
    if isinstance(dimension, bool) or not isinstance(dimension, int) or not 1 <= dimension <= 65_536:
        wrong("`embedding.dimension` is no number from 1 to 65536", CORRECT, "embedding", "dimension")
    collections = embedding.get("collections", [])
    if not isinstance(collections, list) or not all(isinstance(one, str) for one in collections):
        wrong("`embedding.collections` is no list of names", CORRECT, "embedding", "collections")


def _unfit(name: str, value: Any) -> str:
    """Say why a parameter cannot be; nothing when it can, or is none that we know."""
    if value is None or name not in (*NUMBERS, "stop"):
        return ""
    if name == "stop":
        texts = value if isinstance(value, list) else [value]
        return "" if all(isinstance(one, str) and one for one in texts) else "is neither text nor a list of texts"
    kind, least, most = NUMBERS[name]
    if isinstance(value, bool) or not isinstance(value, int if kind is int else (int, float)):
        return f"is {value!r}, no {'whole number' if kind is int else 'number'}"
    return "" if least <= value <= most else f"is {value!r}, not between {least:g} and {most:g}"


def _look_at_prompts(folder: Folder, path: str, document: Document) -> None:
    """A prompt is a text, or an object (or one of a list) with its text in `content`, `template` or `prompt`."""
    data = document.data
    rows = list(data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ())
    if not rows:
        folder.wrong(path, "holds no prompt", "write an object of prompts by name", 1)
    for name, value in rows:
        key = name if isinstance(name, int) else str(name)
        texts = value if isinstance(value, list) else [value]
        if not texts or not all(_has_text(one) for one in texts):
            folder.wrong(
                path,
                f"the prompt {name!r} has no text",
                "write it as text, or in `content`",
                document.lines.get((key,)),
            )


def _has_text(value: Any) -> bool:
    if isinstance(value, dict):
        value = next((value[one] for one in ("content", "template", "prompt") if one in value), None)
    return isinstance(value, str) and bool(value.strip())


def _weights(folder: Folder, keys: tuple[Any, ...], model: Mapping[str, Any]) -> list[tuple[str, str, tuple[Any, ...]]]:
    """Return the files of weights that a model names: absolute path, SHA-256 as it is written, keys."""
    rows = model.get("weights")
    return [
        (folder.absolute(one["path"]), str(one.get("sha256", "")), (*keys, "weights", number))
        for number, one in enumerate(rows if isinstance(rows, list) else [])
        if isinstance(one, dict) and isinstance(one.get("path"), str)
    ]


SOURCE = SourceKind("llm", LlmComponent, Llm, ("python3-requests",), tier="files")
