# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Prometheus configuration names, what of it is secret, and what a server does with restored blocks."""

import json
import struct
from pathlib import Path

import pytest

from restaura.errors import DamagedError, SourceError
from restaura.prometheus import blocks
from restaura.prometheus.blocks import Block
from restaura.prometheus.references import Named, named_by
from restaura.prometheus.server import Place, bytes_of, flags_of, seconds, version_key

HOUR = 3_600_000


def block(number: int, maxt: int, **facts: int) -> Block:
    """Return a block of an hour that ends at the hour `maxt`."""
    known = {"samples": 10, "series": 2, "chunks": 2, "tombstones": 0, "meta_version": 1, "index_version": 2}
    return Block(f"01{number:024d}", (maxt - 1) * HOUR, maxt * HOUR, **{**known, **facts})


def named(folder: Path, text: str, web: str = "", *, masked: bool = False) -> Named:
    """Return what a configuration in `folder` names."""
    (folder / "prometheus.yml").write_text(text)
    if web:
        (folder / "web.yml").write_text(web)
    place = Place("unit")
    return named_by(place, str(folder / "prometheus.yml"), str(folder / "web.yml") if web else "", masked=masked)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory with files that a configuration may name."""
    for name in (
        "rules/a.yml",
        "rules/.hidden.yml",
        "rules/b.rules",
        "t/x.json",
        "ca.pem",
        "key.pem",
        "pw",
        "more.yml",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("scrape_configs: [{bearer_token_file: pw}]\n" if name == "more.yml" else "groups: []\n")
    return tmp_path


def test_every_file_is_found_as_prometheus_finds_it(folder: Path) -> None:
    found = named(
        folder,
        f"""
rule_files: ["rules/*.yml", "{folder}/rules/b.rules", "none/*.yml", "gone.rules"]
scrape_config_files: ["more.yml", "gone.yml"]
scrape_configs:
  - file_sd_configs: [{{files: ["t/*.json", "t/gone.json"]}}]
    tls_config: {{ca_file: ca.pem, key_file: key.pem, cert_file: gone.pem}}
    http_headers: {{X-Token: {{files: ["pw"]}}}}
""",
        "tls_server_config: {cert_file: ca.pem, key_file: key.pem}\nbasic_auth_users: {u: $2y$10$abc}\n",
    )
    short = [str(Path(one).relative_to(folder)) for one in found.plain]
    assert sorted(short) == [
        "ca.pem",
        "more.yml",
        "prometheus.yml",
        "rules/.hidden.yml",
        "rules/a.yml",
        "rules/b.rules",
        "t/x.json",
    ]
    assert sorted(Path(one).name for one in found.secret) == ["key.pem", "pw", "web.yml"]
    assert [Path(one).name for one in found.rules] == [".hidden.yml", "a.yml", "b.rules"]
    assert sorted(Path(one).name for one in found.missing) == ["gone.json", "gone.pem", "gone.rules", "gone.yml"]


@pytest.mark.parametrize(
    "text",
    [
        "scrape_configs: [{basic_auth: {username: u, password: hunter2}}]",
        "scrape_configs: [{authorization: {credentials: abc}}]",
        "remote_write: [{url: 'https://u:hunter2@example.org/write'}]",
        "remote_write: [{headers: {X-Key: abc}}]",
        "scrape_configs: [{params: {api_key: [abc]}}]",
        "scrape_configs: [{oauth2: {client_secret: abc, token_url: 'https://example.org'}}]",
        "scrape_configs: [{bearer_token: abc}]",
    ],
)
def test_a_configuration_with_a_secret_in_it_is_secret(folder: Path, text: str) -> None:
    assert named(folder, text).secret == [str(folder / "prometheus.yml")]


@pytest.mark.parametrize(
    "text",
    [
        "scrape_configs: [{basic_auth: {username: u, password_file: pw}}]",
        "scrape_configs: [{oauth2: {client_secret_file: pw, token_url: 'https://example.org:8443/token'}}]",
        "global: {external_labels: {site: lisbon}}",
        "scrape_configs: [{follow_redirects: true, job_name: tokens, relabel_configs: [{target_label: key}]}]",
    ],
)
def test_a_configuration_without_one_is_plain(folder: Path, text: str) -> None:
    assert str(folder / "prometheus.yml") in named(folder, text).plain
    assert named(folder, text, masked=True).plain == []


def test_a_configuration_that_cannot_be_read_is_an_error_with_a_fix(folder: Path) -> None:
    with pytest.raises(SourceError, match="is no YAML") as raised:
        named(folder, "rule_files: [")
    assert "promtool check config" in raised.value.fix
    with pytest.raises(SourceError, match="cannot be read"):
        named_by(Place("unit"), str(folder / "none.yml"))


def test_an_error_in_a_configuration_shows_nothing_of_it(folder: Path) -> None:
    for text in ('a:\n  password: "secret', "a:\n  password: secret: x", "a:\n  password: *secret", "a: !!int secret"):
        with pytest.raises(SourceError, match="is no YAML") as raised:
            named(folder, text)
        assert "secret" not in str(raised.value)


def test_a_containers_paths_lead_through_its_mounts_and_links(tmp_path: Path) -> None:
    (tmp_path / "volume/sub").mkdir(parents=True)
    (tmp_path / "image/etc").mkdir(parents=True)
    (tmp_path / "image/etc/link").symlink_to("/data/sub")
    (tmp_path / "volume/up").symlink_to("../etc/own")
    place = Place("container", str(tmp_path / "image"), [("/data", str(tmp_path / "volume"))])
    assert place.on_host("/data/sub/x") == str(tmp_path / "volume/sub/x")
    assert place.on_host("/database") == ""
    assert place.resolved("/etc/link/x") == "/data/sub/x"
    assert place.readable("/etc/link/x") == str(tmp_path / "volume/sub/x")
    assert place.readable("/data/up") == str(tmp_path / "image/etc/own"), "a link never leads out of the container"
    assert Place("container", "", place.mounts).readable("/etc/own") == ""


def test_flags_durations_and_sizes_are_read_as_prometheus_writes_them() -> None:
    assert (seconds("15d"), seconds("1d12h"), seconds("1y2w3ms"), seconds("0s")) == (
        1_296_000,
        129_600,
        32_745_600.003,
        0,
    )
    assert (bytes_of("15d or 1GiB512MiB"), bytes_of("15d"), bytes_of("0B")) == (1_610_612_736, 0, 0)
    assert version_key("2.53.3+ds1") < version_key("2.55.0") < version_key("v3.1.0")
    assert version_key("") == (0, 0)
    assert flags_of(0) == {}


def test_a_server_that_cannot_read_the_data_is_named_with_the_reason() -> None:
    some = [block(1, 10)]
    assert blocks.too_old((2, 53), (2, 53), some) == ""
    assert blocks.too_old((3, 4), (2, 53), some) == ""
    assert blocks.too_old((2, 53), (2, 54), some) == ""
    assert blocks.too_old((2, 55), (3, 0), some) == ""
    assert "2.55" in blocks.too_old((2, 53), (3, 0), some)
    assert "native histograms" in blocks.too_old((2, 37), (2, 45), some)
    assert "newer format" in blocks.too_old((2, 53), (2, 60), [block(1, 10, index_version=3)])
    assert blocks.too_old((0, 0), (3, 0), some) == "", "an unknown version is no reason"


def test_what_retention_deletes_is_told_from_what_it_keeps() -> None:
    some = [block(number, number) for number in range(1, 11)]
    sizes = {one.ulid: 100 for one in some}

    def lost(limit_hours: float, size: int, now: int) -> tuple[int, int]:
        at_once, soon = blocks.beyond_retention(some, limit_hours * 3600, size, sizes, now * 3600)
        return len(at_once), len(soon)

    assert lost(0, 0, 1000) == (0, 0)
    assert lost(9, 0, 10) == (0, 0)
    assert lost(5, 0, 10) == (4, 0)
    assert lost(100, 450, 10) == (6, 0)
    assert lost(100, 0, 105) == (0, 4)
    assert lost(100, 0, 1000) == (0, 10)


def test_a_block_that_is_not_whole_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "01HHHHHHHHHHHHHHHHHHHHHHHH"
    (path / "chunks").mkdir(parents=True)
    meta = {"ulid": path.name, "minTime": 1, "maxTime": 9, "version": 1, "stats": {"numSamples": 3, "numSeries": 1}}
    (path / "meta.json").write_text(json.dumps(meta))
    (path / "index").write_bytes(struct.pack(">IB", 0xBAAAD700, 2))
    (tmp_path / "wal").mkdir()
    assert [(one.samples, one.series, one.index_version) for one in blocks.find(tmp_path)] == [(3, 1, 2)]
    for name, content in (("index", b"BAAA"), ("index", b""), ("meta.json", b"{}"), ("meta.json", b"[")):
        before = (path / name).read_bytes()
        (path / name).write_bytes(content)
        with pytest.raises(DamagedError, match="is no whole block"):
            blocks.find(tmp_path)
        (path / name).write_bytes(before)
    assert len(blocks.find(tmp_path)) == 1
