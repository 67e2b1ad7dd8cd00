# SPDX-License-Identifier: GPL-3.0-or-later
"""What is measured: three kinds of data, each backed up and restored by every contestant with scripts of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.bench import data
from tools.bench.data import DATABASE, PLACE, SMALL, TREE
from tools.bench.running import NAME, untimed

STORES = ("dated", "restic")
DEPTHS = ("catalog", "content")
ACTS = ("first", "changed", "restore")
PROGRAM = "/usr/local/bin/restaura"
BORGMATIC = "PYTHONPATH=/opt/borgmatic exec python3 -m borgmatic.commands.borgmatic -c"
OUT, SUFFIX = PLACE / "out", "_restored"
_RESTIC = f"restic --cache-dir {PLACE}/restic-cache --password-file {PLACE}/password -q"


@dataclass(frozen=True)
class Subject:
    """One kind of data: how it is made and changed, and how each contestant handles it.

    `bare` maps store and `backup` or `restore` to a script, in which {place} is the store's folder.
    """

    name: str
    make: Callable[[float], None]
    change: Callable[[float], None]
    bare: dict[str, dict[str, str]]
    components: Callable[[], dict[str, Any]]
    restore: Callable[[], str]
    borgmatic: Callable[[], dict[str, Any]]
    borgmatic_restore: str
    clear: Callable[[], None]


def small_names() -> list[str]:
    """Return the small databases that were made."""
    return (PLACE / "small").read_text(encoding="utf-8").split()


def _make_small(scale: float) -> None:
    data.make_small(scale)
    names = SMALL[: max(3, int(len(SMALL) * scale))]
    (PLACE / "small").write_text("\n".join(names) + "\n", encoding="utf-8")


def _drop_restored(names: list[str]) -> None:
    untimed("\n".join(f"dropdb --if-exists --force {name}{SUFFIX}" for name in names))


def _clear_out() -> None:
    untimed(f"rm -rf {OUT}; mkdir {OUT}")


def _postgres(names: list[str]) -> dict[str, Any]:
    return {"postgres": [{"name": "data", "cluster": f"17/{NAME}", "databases": names, "terminate_sessions": True}]}


def _borgmatic_databases(names: list[str]) -> dict[str, Any]:
    # Uncompressed, as everybody's dumps here: borg and restic find nothing in compressed ones.
    return {"postgresql_databases": [{"name": name, "format": "custom", "compression": "none"} for name in names]}


_DUMP, _PACK, _UNPACK = "pg_dump -Fc -Z0", "zstd -q -T1 -c", "zstd -q -d -c"
# As Postgres' manual has it, a restore ends with ANALYZE.
_LOAD = "r=${{d}}{suffix}; createdb $r && {read} | pg_restore --exit-on-error -d $r && psql -qXc ANALYZE $r"
_EACH = f"while read -r d; do %s; done < {PLACE}/small"

SUBJECTS = {
    "database": Subject(
        "database",
        data.make_database,
        data.change_database,
        {
            "dated": {
                "backup": f"{_DUMP} {DATABASE} | {_PACK} > {{place}}/dump.zst; sync {{place}}/dump.zst {{place}}",
                "restore": f"d={DATABASE}; " + _LOAD.format(suffix=SUFFIX, read=f"{_UNPACK} {{place}}/dump.zst"),
            },
            "restic": {
                "backup": f"{_DUMP} {DATABASE} | {_RESTIC} -r {{place}} backup --stdin --stdin-filename dump",
                "restore": f"d={DATABASE}; "
                + _LOAD.format(suffix=SUFFIX, read=f"{_RESTIC} -r {{place}} dump latest /dump"),
            },
        },
        lambda: _postgres([DATABASE]),
        lambda: f"--path {DATABASE} --to name:{DATABASE}{SUFFIX}",
        lambda: _borgmatic_databases([DATABASE]),
        f"restore --archive latest --database {DATABASE}",
        lambda: _drop_restored([DATABASE]),
    ),
    "tree": Subject(
        "tree",
        data.make_tree,
        data.change_tree,
        {
            "dated": {
                "backup": f"tar -C / -c {str(TREE)[1:]} | {_PACK} > {{place}}/tree.tar.zst; "
                "sync {place}/tree.tar.zst {place}",
                "restore": f"{_UNPACK} {{place}}/tree.tar.zst | tar -C {OUT} -x",
            },
            "restic": {
                "backup": f"{_RESTIC} -r {{place}} backup {TREE}",
                "restore": f"{_RESTIC} -r {{place}} restore latest --target {OUT}",
            },
        },
        lambda: {"files": [{"name": "data", "paths": [str(TREE)]}]},
        lambda: f"--to dir:{OUT}",
        lambda: {"source_directories": [str(TREE)]},
        f"extract --archive latest --destination {OUT}",
        _clear_out,
    ),
    "databases": Subject(
        "databases",
        _make_small,
        data.change_small,
        {
            "dated": {
                "backup": _EACH % f"{_DUMP} $d | {_PACK} > {{place}}/$d.zst" + "; sync {place}/* {place}",
                "restore": _EACH % _LOAD.format(suffix=SUFFIX, read=f"{_UNPACK} {{place}}/$d.zst"),
            },
            "restic": {
                # One restic for all: a loop of pg_dump into restic would start it a hundred times.
                "backup": "mkdir -p {place}.spool; "
                + _EACH % f"{_DUMP} $d > {{place}}.spool/$d"
                + f"; {_RESTIC} -r {{place}} backup {{place}}.spool; rm -r {{place}}.spool",
                "restore": f"{_RESTIC} -r {{place}} restore latest --target {{place}}.spool; "
                + _EACH % _LOAD.format(suffix=SUFFIX, read="cat {place}.spool{place}.spool/$d")
                + "; rm -r {place}.spool",
            },
        },
        lambda: _postgres(small_names()),
        lambda: "--to live",
        lambda: _borgmatic_databases(small_names()),
        "restore --archive latest --database all",
        lambda: _drop_restored(small_names()),
    ),
}


@dataclass(frozen=True)
class Contestant:
    """One way of doing it: `bare`, `catalog` or `content` (Restaura, by its fingerprints), or `borgmatic`."""

    who: str
    store: str

    @property
    def name(self) -> str:
        """The contestant's name in results."""
        return f"{self.store}-{self.who}" if self.store else self.who

    def place(self, subject: Subject) -> Path:
        """Return the folder of its store, and of its program's state."""
        return PLACE / "stores" / f"{subject.name}-{self.name}"

    def script(self, subject: Subject, act: str) -> str:
        """Return the script of an act."""
        place = self.place(subject)
        kind = "restore" if act == "restore" else "backup"
        if self.who == "bare":
            return subject.bare[self.store][kind].replace("{place}", str(place))
        if self.who == "borgmatic":
            words = subject.borgmatic_restore if kind == "restore" else "create"
            return f"{BORGMATIC} {place}.yaml {words}"
        words = f"restore --component data {subject.restore()} --yes" if kind == "restore" else "run all"
        return f"RESTAURA_ROOT={place}/host exec {PROGRAM} {words}"

    def begin(self, subject: Subject) -> None:
        """Make its store anew."""
        place = self.place(subject)
        untimed(f"rm -rf {place} {place}.*; mkdir -p {place}; echo bench > {PLACE}/password")
        if self.who == "bare" and self.store == "restic":
            untimed(f"{_RESTIC} -r {place} init")
        elif self.who == "borgmatic":
            told = {
                "repositories": [{"path": f"{place}/repository"}],
                "encryption_passphrase": "bench",
                "compression": "zstd",
                "borg_base_directory": str(place),
                **subject.borgmatic(),
            }
            place.with_suffix(".yaml").write_text(json.dumps(told), encoding="utf-8")
            untimed(f"{BORGMATIC} {place}.yaml repo-create --encryption repokey-blake2")
        elif self.who in DEPTHS:
            declaration = {
                "settings": {"host": "bench", "reserve_percent": 1},
                "stores": [{"name": "store", "type": self.store, "location": f"{place}/store"}],
                "plans": [{"name": "all", "fingerprint": self.who, "drill": "never"}],
                "components": subject.components(),
            }
            place.with_suffix(".json").write_text(json.dumps(declaration), encoding="utf-8")
            untimed(f"RESTAURA_ROOT={place}/host {PROGRAM} configure < {place}.json")

    def end(self, subject: Subject) -> None:
        """Clear away what a restore left, so that the next one begins alike."""
        if self.who in DEPTHS:
            undo = f"RESTAURA_ROOT={self.place(subject)}/host {PROGRAM} undo"
            # Below two lines of heading, a restore a line; none of them where none was swapped in.
            untimed(f"for id in $({undo} | awk 'NR > 2 {{print $1}}'); do {undo} $id --discard; done")
        subject.clear()


CONTESTANTS = (
    *(Contestant(who, store) for store in STORES for who in ("bare", *DEPTHS)),
    Contestant("borgmatic", ""),
)
