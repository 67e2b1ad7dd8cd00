# SPDX-License-Identifier: GPL-3.0-or-later
"""The fingerprint of a tree, and the differences between two indexes, entry by entry.

What counts is what a restore must give back: path, type, permissions, owner, modification time, extended attributes,
link target, hard-link group, size and, at depth `content`, the SHA-256 of every file. An owner counts by name, and by
number only where the number has no name: another host may number its accounts otherwise; the same goes for the ids in
ACLs. Of an entry that is not whole only path, type, size and content count. Sockets and device nodes are not restored
and do not count.
"""

import hashlib
import json
import struct
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from restaura.point import Depth, Fingerprint
from restaura.trees.index import Entry, Index
from restaura.trees.scanning import ACL_GROUP, ACL_USER, ACL_XATTRS, acl_entries

ALGORITHM = "tree-1"
UNCOUNTED = ("socket", "char", "block")
_PARTS = 200


def fingerprint(index: Index, depth: Depth) -> Fingerprint:
    """Return the fingerprint of a tree, in parts by root and the first directory below it."""
    return Fingerprint(ALGORITHM, depth, *fingerprint_parts(index, depth))


def fingerprint_parts(index: Index, depth: Depth, loose: Collection[str] = ()) -> tuple[dict[str, str], dict[str, int]]:
    """Return the parts and counts of a tree's fingerprint; `loose` are entries to be taken as not whole."""
    names = _part_names(index)
    digests: dict[str, Any] = {}
    counts = {"files": 0, "directories": 0, "other": 0, "bytes": 0}
    for entry in index.entries:
        if entry.type in UNCOUNTED:
            continue
        name = names[entry.path]
        digest = digests.setdefault(name, hashlib.sha256())
        digest.update(json.dumps(facts(entry, index, depth, entry.path in loose), sort_keys=True).encode() + b"\n")
        counts[{"file": "files", "dir": "directories"}.get(entry.type, "other")] += 1
        counts["bytes"] += entry.size if entry.type == "file" else 0
    return {name: digest.hexdigest() for name, digest in sorted(digests.items())}, counts


def differences(wanted: Index, found: Index, depth: Depth, loose: Collection[str] = ()) -> list[str]:
    """Name every entry and fact in which `found` (what was restored) differs from `wanted` (what was stored)."""
    left = {one.path: one for one in wanted.entries if one.type not in UNCOUNTED}
    right = {one.path: one for one in found.entries if one.type not in UNCOUNTED}
    said = []
    for path in sorted({*left, *right}):
        if path not in right:
            said.append(f"/{path}: missing after restore")
        elif path not in left:
            said.append(f"/{path}: only there after restore")
        else:
            weak = path in loose or not left[path].whole
            before, after = facts(left[path], wanted, depth, weak), facts(right[path], found, depth, weak)
            said += [f"/{path}: {name} differs" for name in before if before[name] != after.get(name)]
    return said


def facts(entry: Entry, index: Index, depth: Depth, loose: bool = False) -> dict[str, Any]:
    """Return what counts of one entry, as JSON values."""
    known: dict[str, Any] = {"path": entry.path, "type": entry.type, "size": entry.size}
    if entry.type == "file" and depth == "content":
        known["content"] = entry.sha256
    if loose or not entry.whole:
        return known
    return {
        **known,
        "mode": entry.mode,
        "user": entry.user or entry.uid,
        "group": entry.group or entry.gid,
        "mtime": entry.mtime_ns,
        "link target": entry.link,
        "hard links": entry.hard_link,
        "extended attributes": {name: _xattr(name, value, index) for name, value in sorted(entry.xattrs.items())},
    }


def _xattr(name: str, value: bytes, index: Index) -> Any:
    if name not in ACL_XATTRS:
        return value.hex()
    names: dict[int, Mapping[str, str]] = {ACL_USER: index.users, ACL_GROUP: index.groups}
    try:
        rules = acl_entries(value)
    except struct.error:
        return value.hex()
    # The kernel keeps the rules sorted by id, which is another order where ids are others.
    return sorted([tag, rights, names.get(tag, {}).get(str(number)) or str(number)] for tag, rights, number in rules)


def _part_names(index: Index) -> dict[str, str]:
    """Return the part of every entry: its root and the first directory below it, or the root where those are many."""
    roots = sorted(index.roots, key=len, reverse=True)
    directories = {one.path for one in index.entries if one.type == "dir"}
    found: dict[str, tuple[str, str]] = {}
    # Parts are few, entries may be a great many.
    same: dict[tuple[str, str], tuple[str, str]] = {}
    for entry in index.entries:
        root = next((one for one in roots if entry.path == one or entry.path.startswith(f"{one}/")), "")
        first = entry.path[len(root) :].strip("/").split("/")[0]
        inner = f"{root}/{first}" if root and first and f"{root}/{first}" in directories else root
        found[entry.path] = same.setdefault((root, inner), (root, inner))
    many = Counter(root for root, _ in same)
    named = {(root, inner): f"/{root if many[root] > _PARTS else inner}" for root, inner in same}
    return {path: named[one] for path, one in found.items()}
