# SPDX-License-Identifier: GPL-3.0-or-later
"""Points: ids, names as path segments, manifests that come back whole, and signatures that let nothing by."""

import json
import secrets
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from restaura.errors import DamagedError
from restaura.point import ID_PATTERN, Fingerprint, Manifest, Signer, StoredArtifact, new_id, safe_name, started_at
from tests.points import make_point

HOSTILE = [
    "",
    ".",
    "..",
    "../x",
    "/etc/passwd",
    "-rf",
    "--",
    "a\nb",
    "a\0b",
    "$(id)",
    "a b",
    '"',
    "'",
    "\\",
    "é",
    "%2e",
    "\udcff",
]
NAMES = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(max_size=300),
    st.binary(max_size=300).map(lambda b: b.decode(errors="surrogateescape")),
)

# -- names --------------------------------------------------------------------------------------------------------


@given(NAMES)
@example("ü" * 300)
@example("-" * 300)
def test_a_safe_name_is_one_plain_segment(text):
    name = safe_name(text)
    assert 0 < len(name) <= 200
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.%")
    assert name[0] not in ".-"
    assert safe_name(text) == name


@given(st.sets(NAMES, min_size=2, max_size=2))
@example({".a", "%2Ea"})
@example({"-a", "%2Da"})
@example({"", "%"})
@example({"a" * 199, "a" * 200})
@example({"x" * 300, "x" * 301})
def test_two_names_are_never_the_same_segment(pair):
    first, second = pair
    assert safe_name(first) != safe_name(second)


@given(st.text(min_size=1, max_size=300))
def test_no_name_is_another_names_cut_form(text):
    cut = safe_name("x" * 300)
    assert text == cut or safe_name(text) != cut
    assert safe_name(cut) != cut


def test_plain_names_stay_as_they_are():
    assert [safe_name(one) for one in ("app", "App_1.dump", "a-b")] == ["app", "App_1.dump", "a-b"]


# -- ids ----------------------------------------------------------------------------------------------------------


def test_ids_carry_their_utc_start_and_differ():
    now = datetime(2026, 11, 21, 1, 2, 3, tzinfo=timezone(timedelta(hours=-3)))
    ids = {new_id(now) for _ in range(50)}
    assert len(ids) == 50
    assert all(one.startswith("20261121T040203Z-") and ID_PATTERN.match(one) for one in ids)
    assert {started_at(one) for one in ids} == {now}


def test_ids_of_one_second_are_in_the_order_of_time():
    begun = datetime(2026, 11, 21, 1, 2, 3, tzinfo=UTC)
    ids = [new_id(begun + timedelta(microseconds=step)) for step in range(0, 1_000_000, 500)]
    assert ids == sorted(ids)


@pytest.mark.parametrize(
    "text",
    [
        "20261121T040203Z-0000abcdef\n",
        "20261121T040203Z-0000abcdefa",
        "\u0662\u0660\u0662\u06661121T040203Z-0000abcdef",
        "../20261121T040203Z-0000abcdef",
    ],
)
def test_what_only_looks_like_an_id_is_none(text):
    assert not ID_PATTERN.match(text)


# -- manifests ----------------------------------------------------------------------------------------------------


def manifest() -> Manifest:
    found = make_point(datetime(2026, 11, 21, tzinfo=UTC), {"app": "complete", "db": "failed"}).manifest
    artifact = StoredArtifact("databases/a%20b.dump", "stream", 5, "00" * 32, True, {"snapshot": "abc"})
    fingerprint = Fingerprint("tree-1", "content", {"é": "1"}, {"files": 3})
    first = replace(found.components[0], artifacts=[artifact], fingerprint=fingerprint, freeze_seconds=1.5)
    return found.with_components([first, *found.components[1:]])


def test_a_manifest_comes_back_from_json_as_it_was():
    signer = Signer(b"k")
    assert Manifest.from_json(signer.open(signer.sign(manifest().to_json()), "x")) == manifest()


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"version": None},
        {"surprise": 1},
        {"components": None},
        {"components": [1]},
        {"components": [{"name": "app"}]},
        {"components": "ab"},
    ],
)
def test_a_manifest_of_another_form_is_damaged(change):
    with pytest.raises(DamagedError, match="manifest"):
        Manifest.from_json({**manifest().to_json(), **change})


def test_a_manifest_that_lacks_a_field_is_damaged():
    for name in manifest().to_json():
        data = manifest().to_json()
        del data[name]
        with pytest.raises(DamagedError):
            Manifest.from_json(data)


def test_what_a_manifest_does_not_hold_is_named():
    with pytest.raises(DamagedError, match="'cache'"):
        manifest().component("cache")
    with pytest.raises(DamagedError, match=r"'x\.dump'"):
        manifest().component("app").artifact("x.dump")


# -- signatures ---------------------------------------------------------------------------------------------------


def test_every_flipped_bit_is_found():
    signer = Signer(b"key" * 11)
    raw = signer.sign(manifest().to_json())
    for position in range(len(raw)):
        for bit in range(8):
            changed = bytearray(raw)
            changed[position] ^= 1 << bit
            try:
                opened = signer.open(bytes(changed), "store main")
            except DamagedError:
                continue
            # Only another spelling of the very same document: \u00e9 and \u00E9.
            assert opened == manifest().to_json()
            assert bytes([raw[position]]).isalpha()


@given(st.binary(max_size=200))
@example(b"[" * 100_000)
@example(b"null")
@example(b"[]")
@example(b'{"signature": 1}')
@example(b'{"signature": {"key": "x"}}')
@example(b'{"signature": null}')
@example(b"\xff\xfe")
@example(b"9" * 5000)
def test_what_is_no_signed_document_is_damaged(raw):
    with pytest.raises(DamagedError):
        Signer(b"k").open(raw, "store main")


@pytest.mark.parametrize("value", ["é", "\ud800", "", "0" * 64, 5, None, ["x"]])
def test_a_forged_signature_is_refused_whatever_it_is(value):
    signer = Signer(b"k")
    forged = {**manifest().to_json(), "signature": {"key": signer.key_id(b"k"), "value": value}}
    with pytest.raises(DamagedError, match="changed or forged"):
        signer.open(json.dumps(forged).encode(), "store main")


def test_signing_again_replaces_the_signature():
    signer = Signer(b"k")
    once = signer.sign(manifest().to_json())
    assert signer.sign(json.loads(once)) == once
    changed = {**json.loads(once), "host": "evil"}
    with pytest.raises(DamagedError):
        signer.open(json.dumps(changed).encode(), "x")
    assert signer.open(signer.sign(changed), "x")["host"] == "evil"


def test_older_keys_open_and_the_newest_signs():
    old, new = Signer(b"old"), Signer(b"new", [b"old"])
    raw = old.sign({"a": 1})
    assert new.open(raw, "x") == {"a": 1}
    with pytest.raises(DamagedError, match="does not hold"):
        old.open(new.sign({"a": 1}), "x")


def test_the_key_does_not_show():
    key = secrets.token_bytes(32)
    raw = Signer(key).sign({"a": 1})
    assert key.hex().encode() not in raw
    with pytest.raises(DamagedError) as failed:
        Signer(b"other").open(raw, "x")
    assert key.hex() not in str(failed.value)


# -- fingerprints -------------------------------------------------------------------------------------------------


def test_fingerprints_name_every_difference():
    one = Fingerprint("tree-1", "content", {"a": "1", "b": "2", "c": "3"}, {"files": 3})
    other = Fingerprint("tree-1", "content", {"a": "1", "b": "9", "d": "4"}, {"files": 4})
    assert one.differences(one) == []
    assert one.differences(other) == [
        "b: differs",
        "c: missing after restore",
        "d: only there after restore",
        "files: 3 backed up, 4 restored",
    ]
    assert one.digest != other.digest


@pytest.mark.parametrize("change", [{"algorithm": "tree-2"}, {"depth": "catalog"}])
def test_fingerprints_of_another_kind_never_compare_equal(change):
    one = Fingerprint("tree-1", "content", {"a": "1"})
    assert one.differences(replace(one, **change)) != []
    assert one.digest != replace(one, **change).digest
