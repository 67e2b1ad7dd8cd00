# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the symbolic links of a tree lead, by its index alone: what is outside of it is in no restored tree."""

import posixpath
from collections.abc import Mapping
from types import MappingProxyType

from restaura.trees.index import Entry, Index, below

MOST = 40  # links on one way, as Linux has it (path_resolution(7))
WHOLE_HOST = MappingProxyType({"/": ""})


class Links:
    """Follows paths within an index.

    `places` maps absolute directories, as those see them who follow the links, to their paths in the tree.
    """

    def __init__(self, index: Index, places: Mapping[str, str] = WHOLE_HOST) -> None:
        self._entries = {one.path: one for one in index.entries}
        self._roots, self._places = index.roots, places

    def follow(self, path: str) -> Entry | None:
        """Return the entry that a relative path leads to; None when it is not below the roots of the tree."""
        waiting, there, links = path.split("/")[::-1], "", 0
        while waiting:
            name = waiting.pop()
            if name == ".." and not there and "/" not in self._places:
                return None
            there = posixpath.normpath(posixpath.join("/", there, name)).strip("/")
            entry = self._entries.get(there)
            if entry is None or entry.type != "link":
                continue
            links += 1
            target = self._relative(entry.link)
            if links > MOST or target is None:
                return None
            there = "" if entry.link.startswith("/") else posixpath.dirname(there)
            waiting += target.split("/")[::-1]
        return self._entries.get(there) if below(there, self._roots) else None

    def leading_out(self) -> list[Entry]:
        """Return the links below the roots that lead to what the index has not."""
        links = [one for one in self._entries.values() if one.type == "link" and below(one.path, self._roots)]
        return [one for one in links if self.follow(one.path) is None]

    def _relative(self, target: str) -> str | None:
        """Return what a link says as a path in the tree, or as it stands when it is relative; None when outside."""
        if not target.startswith("/"):
            return target
        for top, path in self._places.items():
            if target == top or target.startswith(f"{top.rstrip('/')}/"):
                return f"{path}/{target[len(top) :]}"
        return None
