#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand-ins for mongodump, mongorestore and mongoexport, by the name that this file is called by. Not MongoDB's tools.

They take the options named below, as https://www.mongodb.com/docs/database-tools/ has them, and write and read
mongodump's directory layout: DB/COLLECTION.bson with COLLECTION.metadata.json beside it, names escaped as Go's
url.PathEscape does, long ones cut (mongodump/prepare.go); a view is its metadata, a time series system.buckets.NAME.
Like the real mongorestore, documents that are refused make it exit 0, unless --stopOnError is given.
"""

import argparse
import base64
import hashlib
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from bson import json_util
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.errors import PyMongoError

VERSION = "100.18.0"
PLAIN = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~$&+=:@"


def main() -> int:
    program = Path(sys.argv[0]).name
    if log := os.environ.get("MONGO_TOOLS_LOG", "/run/mongo-tools.log"):
        told = " ".join([*sys.argv, *(f"{key}={value}" for key, value in os.environ.items())])
        with Path(log).open("a") as out:
            out.write(told.replace("\n", " ") + "\n")
    parser = argparse.ArgumentParser(prog=program)
    for word in ("--host", "--port", "--username", "--authenticationDatabase", "--config", "--nsFrom", "--nsTo"):
        parser.add_argument(word)
    parser.add_argument("--db", "-d")
    parser.add_argument("--collection", "-c")
    parser.add_argument("--out", "-o", default="dump")
    parser.add_argument("--dir")
    parser.add_argument("--jsonFormat", default="relaxed")
    for word in ("--drop", "--noIndexRestore", "--stopOnError", "--maintainInsertionOrder", "--quiet", "--version"):
        parser.add_argument(word, action="store_true")
    parser.add_argument("--bypassDocumentValidation", action="store_true")
    parser.add_argument("path", nargs="?")
    options = parser.parse_args()
    if options.version:
        print(f"{program} version: {VERSION}\ngit version: stand-in")
        return 0
    try:
        client = connect(options)
        return {"mongodump": dump, "mongorestore": restore, "mongoexport": export}[program](client, options)
    except (PyMongoError, OSError) as error:
        print(f"Failed: {str(error).split(', full error')[0]}", file=sys.stderr)
        return 1


def connect(options: argparse.Namespace) -> Any:
    login: dict[str, Any] = {}
    if options.username:
        # YAML of one line, whose text in double quotes is JSON too.
        config = json_util.loads(Path(options.config).read_text()) if options.config else {}
        login = {"username": options.username, "password": config.get("password", "")}
        login["authSource"] = options.authenticationDatabase or "admin"
    port = int(options.port or 27017)
    return MongoClient(options.host or "localhost", port, directConnection=True, appname="mongo-tools", **login)


def escape(name: str) -> str:
    text = "".join(one if one in PLAIN else quote(one, safe="") for one in name)
    if len(text) <= 238:
        return text
    digest = base64.urlsafe_b64encode(hashlib.sha1(name.encode()).digest()).decode().rstrip("=")
    return f"{text[:208]}%24{digest}"


def extended(value: Any) -> str:
    options = json_util.CANONICAL_JSON_OPTIONS
    return json_util.dumps(value, json_options=options, separators=(",", ":"), ensure_ascii=False)


def raw(collection: Any) -> bytes:
    return b"".join(collection.find_raw_batches())


def dump(client: Any, options: argparse.Namespace) -> int:
    if options.out == "-":
        listed = next(client[options.db].list_collections(filter={"name": options.collection}))
        name = ("system.buckets." if listed["type"] == "timeseries" else "") + options.collection
        for batch in client[options.db][name].find_raw_batches():
            sys.stdout.buffer.write(batch)
        return 0
    for database in [options.db] if options.db else client.list_database_names():
        if database in ("local", "config"):
            continue
        for one in client[database].list_collections():
            if one["name"].startswith("system.") and database != "admin":
                continue
            folder = Path(options.out) / database
            folder.mkdir(parents=True, exist_ok=True)
            found: dict[str, Any] = {"options": one["options"]} if one["options"] else {}
            view = one["type"] == "view"
            found["indexes"] = [] if view else list(client[database][one["name"]].list_indexes())
            found["uuid"] = bytes(one["info"]["uuid"]).hex() if "uuid" in one["info"] else ""
            found |= {"collectionName": one["name"], "type": one["type"]}
            (folder / f"{escape(one['name'])}.metadata.json").write_text(extended(found))
            if not view:
                name = ("system.buckets." if one["type"] == "timeseries" else "") + one["name"]
                (folder / f"{escape(name)}.bson").write_bytes(raw(client[database][name]))
    return 0


def restore(client: Any, options: argparse.Namespace) -> int:
    done = failed = 0
    if options.path == "-":
        done, failed = insert(client[options.db][options.collection], sys.stdin.buffer.read(), options)
    else:
        root = Path(options.dir or options.path or "dump")
        files = sorted(root.glob("*/*.metadata.json"), key=lambda path: b'"type":"view"' in path.read_bytes())
        for path in files:
            good, bad = restore_one(client, path, options)
            done, failed = done + good, failed + bad
    print(f"{done} document(s) restored successfully. {failed} document(s) failed to restore.", file=sys.stderr)
    return 1 if failed and options.stopOnError else 0


def restore_one(client: Any, path: Path, options: argparse.Namespace) -> tuple[int, int]:
    found = json_util.loads(path.read_bytes(), json_options=json_util.CANONICAL_JSON_OPTIONS)
    database, name = path.parent.name, found["collectionName"]
    assert escape(name) == path.name.removesuffix(".metadata.json"), path
    assert unquote(path.name).startswith(name[:30]), path
    handle = client[database]
    if not name.startswith("system."):
        if options.drop:
            handle.drop_collection(name)
        handle.command({"create": name, **found.get("options", {})})
    kind = found.get("type", "collection")
    if kind == "view":
        return 0, 0
    stored = f"system.buckets.{name}" if kind == "timeseries" else name
    counted = insert(handle[stored], (path.parent / f"{escape(stored)}.bson").read_bytes(), options)
    wanted = [one for one in found["indexes"] if one["name"] != "_id_"]
    if wanted and not options.noIndexRestore:
        handle.command("createIndexes", name, indexes=wanted)
    return counted


def insert(collection: Any, data: bytes, options: argparse.Namespace) -> tuple[int, int]:
    done = failed = at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "little")
        try:
            collection.insert_one(RawBSONDocument(data[at : at + size]))
            done += 1
        except PyMongoError as error:
            failed += 1
            print(f"continuing through error: {str(error).split(', full error')[0]}", file=sys.stderr)
            if options.stopOnError:
                break
        at += size
    return done, failed


def export(client: Any, options: argparse.Namespace) -> int:
    for document in client[options.db][options.collection].find():
        print(extended(document) if options.jsonFormat == "canonical" else json_util.dumps(document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
