# SPDX-License-Identifier: GPL-3.0-or-later
"""What every store keeps at its root: whose it is, who writes into it, and what a bare machine needs.

`store.json` (layout version, type, id, layout switches) and `writers/<host>.json` (identity, plans) are signed. Only
setup creates them; a run never does, so that an unmounted disk is never taken for a new store.
"""

import dataclasses
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from restaura.config.schema import Store as StoreConfig
from restaura.errors import DamagedError, IdentityError, StoreError
from restaura.point import safe_name
from restaura.stores import LAYOUT_VERSION, Writer
from restaura.stores.blobs import Blobs

if TYPE_CHECKING:
    from restaura.host import Host

STORE = "store.json"
WRITERS = "writers"
SETUP = "ansible-playbook setup_backup.yml"


class Root:
    """The root documents of one store. `switches` are the layout's settings, fixed when the store is made."""

    def __init__(self, config: StoreConfig, host: "Host", blobs: Blobs) -> None:
        self._config = config
        self._host = host
        self._blobs = blobs
        dated = config.type == "dated"
        self._switches = {one: getattr(config, one) for one in ("host_segment", "plan_segment")} if dated else {}

    def create(self, writer: Writer) -> bool:
        """Make the root documents that are not there, and bring the writer's plans up to date; return any change.

        IdentityError when another identity writes as this host, or when the layout has no room for a second host or
        plan. StoreError when another kind of store, or another layout, is there.
        """
        made = self._blobs.create()
        if self._blobs.get(STORE) is None:
            identity = {"layout": LAYOUT_VERSION, "type": self._config.type, "id": secrets.token_hex(8)}
            made |= self._blobs.put_if_absent(STORE, self._host.signer.sign({**identity, **self._switches}))
        self._check_layout()
        writers = self.writers()
        old = self._own(writers, writer)
        self._admit(writers, writer)
        if old is None and not self._blobs.put_if_absent(self._key(writer.host), self._signed(writer)):
            raise self._taken(writer.host)
        if old is not None and old.plans != writer.plans:
            self._blobs.put(self._key(writer.host), self._signed(writer))
        return made or old is None or old.plans != writer.plans

    def adopt(self, writer: Writer) -> None:
        """Let `writer` go on under its host's name, whoever wrote under it before."""
        self._check_layout()
        self._admit(self.writers(), writer)
        self._blobs.put(self._key(writer.host), self._signed(writer))

    def check(self, writing: bool) -> tuple[Writer, ...]:
        """Return the writers once the store proved to be this one and, when `writing`, to take this host's writes.

        The writing is tried on the host's own writer document: nothing is left behind and no right to delete needed.
        """
        self._check_layout()
        writers = self.writers()
        if writing:
            me = Writer(self._host.name, self._host.identity)
            own = self._own(writers, me)
            if own is None:
                raise StoreError(f"the store does not know host {me.host}", where=self._blobs.where, fix=SETUP)
            self._admit(writers, own)
            signed = self._signed(own)
            self._blobs.put(self._key(own.host), signed)
            if self._blobs.get(self._key(own.host)) != signed:
                raise StoreError(
                    "what was written is not what is read", where=self._blobs.where, fix="look at its disk"
                )
        return tuple(writers)

    def writers(self) -> list[Writer]:
        """Return who writes into the store, by host."""
        found = []
        for blob in self._blobs.listing(WRITERS):
            data = self._document(blob.key)
            if data is not None:
                try:
                    found.append(Writer(data["host"], data["identity"], tuple(data["plans"])))
                except (KeyError, TypeError) as error:
                    raise DamagedError("not a writer's document", where=f"{self._blobs.where}: {blob.key}") from error
        return found

    def put_kit_files(self, files: Mapping[str, bytes], check: bool = False) -> list[str]:
        """Write the files that differ, with `check` none; return their names."""
        changed = [name for name, data in sorted(files.items()) if self._blobs.get(name) != data]
        for name in [] if check else changed:
            self._blobs.put(name, files[name])
        return changed

    @staticmethod
    def _key(host: str) -> str:
        return f"{WRITERS}/{safe_name(host)}.json"

    def _signed(self, writer: Writer) -> bytes:
        return self._host.signer.sign(dataclasses.asdict(writer))

    def _document(self, key: str) -> dict[str, Any] | None:
        raw = self._blobs.get(key)
        return None if raw is None else self._host.signer.open(raw, f"{self._blobs.where}: {key}")

    def _check_layout(self) -> None:
        try:
            data = self._document(STORE)
        except DamagedError as error:
            raise DamagedError(
                f"{error.what}; the store was made by a host with other keys, or was tampered with",
                where=error.where,
                fix="give this host that host's manifest.key (from its recovery kit), or a location of its own",
            ) from error
        where = self._blobs.where
        if data is None:
            raise StoreError("there is no store here", where=where, fix=f"mount its disk if it has one; else {SETUP}")
        if data.get("layout") != LAYOUT_VERSION:
            raise StoreError(
                f"the store has layout {data.get('layout')}; this program writes {LAYOUT_VERSION}",
                where=where,
                fix="use the program that is kept in the store",
            )
        if data.get("type") != self._config.type:
            raise StoreError(
                f"this is a {data.get('type')} store, not a {self._config.type} one",
                where=where,
                fix="correct its type",
            )
        for name, value in self._switches.items():
            if data.get(name) != value:
                raise StoreError(
                    f"{name} was {data.get(name)} when the store was made and cannot change",
                    where=where,
                    fix=f"set {name} back, or give the store a new location",
                )

    def _own(self, writers: list[Writer], writer: Writer) -> Writer | None:
        """Return the registered writer of this host; IdentityError when it is another machine."""
        for one in writers:
            if one.host == writer.host:
                if one.identity != writer.identity:
                    raise self._taken(writer.host)
                return one
        return None

    def _admit(self, writers: list[Writer], writer: Writer) -> None:
        """Refuse a second host, or a second plan, where the layout has no folder to tell them apart."""
        others = sorted(one.host for one in writers if one.host != writer.host)
        if others and not self._switches.get("host_segment", True):
            raise IdentityError(
                f"a store without host folders admits one host, and {others[0]} writes here",
                where=self._blobs.where,
                fix="give this host a store with host_segment, or a location of its own",
            )
        plans = {*writer.plans, *(plan for one in writers if one.host == writer.host for plan in one.plans)}
        if len(plans) > 1 and not self._switches.get("plan_segment", True):
            raise IdentityError(
                f"a store without plan folders admits one plan, and {', '.join(sorted(plans))} would write here",
                where=self._blobs.where,
                fix="give the second plan a store with plan_segment, or a location of its own",
            )

    def _taken(self, host: str) -> IdentityError:
        return IdentityError(
            f"another machine writes here as {host}",
            where=self._blobs.where,
            fix=f"restaura adopt {self._config.name}, after restoring what that machine left; or rename this host",
        )
