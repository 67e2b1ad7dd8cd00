# SPDX-License-Identifier: GPL-3.0-or-later
"""File trees: scanned into an index, settled against what a store kept of them, applied and compared after a restore.

Every path of an entry is relative to the tree's base. Bytes of a name that are not UTF-8 are surrogates (PEP 383).
"""

from restaura.trees.applying import Applied, apply
from restaura.trees.compare import differences, fingerprint, fingerprint_parts
from restaura.trees.copying import Copy, can_clone, located
from restaura.trees.index import Entry, EntryType, Index, below, merge, subset
from restaura.trees.patterns import Selection
from restaura.trees.scanning import flush, scan
from restaura.trees.settling import settle

__all__ = [
    "Applied",
    "Copy",
    "Entry",
    "EntryType",
    "Index",
    "Selection",
    "apply",
    "below",
    "can_clone",
    "differences",
    "fingerprint",
    "fingerprint_parts",
    "flush",
    "located",
    "merge",
    "scan",
    "settle",
    "subset",
]
