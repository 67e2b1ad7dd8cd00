# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that were changed by hand: a check names each change and makes none, a setup puts each back and says so.

All changes of a round are made at once. One run checks, one mends, and each change is a test of its own.
"""

import json
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.playbooks.runs import Play, Site, sh
from tools.lab import hosts

# One host, and its tests in the order of this file.
pytestmark = pytest.mark.timeout(900)

PASSWORD = "declared-of-the-store"
OTHER_KIT = "the kit of another host of that name"
BY_HAND = "secret-made-by-hand"
CONFIG = "/etc/restaura/config.json"
CRON = "/etc/cron.d/restaura"
PROGRAM = "$(readlink -f /usr/local/bin/restaura)"
# Times too: a check writes nothing, not even the same. What cron may start meanwhile (a run) is left out.
STATE = """
find /etc /usr/local /usr/bin /var/spool/cron /var/lib/dpkg/status -printf '%p %y %m %u %g %s %T@ %l\\n' | sort
find /var/backups/*/* -maxdepth 0 -type f -printf '%p %m %s %T@\\n' | sort
stat -c '%n %a %U' /var/lib/restaura /var/log/restaura
systemctl is-active cron; systemctl is-enabled cron; true
"""
IN_USE = "$(cat /root/program)"


@dataclass(frozen=True)
class Drift:
    """One change by hand: what makes it, what holds on a host that is as declared, what a person is told and shown.

    `told` are regular expressions of the closing list, `shown` of the diff. `stays` is what is named and never touched.
    """

    name: str
    act: str
    holds: str
    told: tuple[str, ...]
    shown: tuple[str, ...] = ()
    stays: bool = False


def edit(code: str) -> str:
    """A change of config.json."""
    program = textwrap.dedent(f"""
        import json
        path = {CONFIG!r}
        c = json.load(open(path))
        {code}
        json.dump(c, open(path, "w"), indent=1)
    """)
    return f"python3 - <<'END'\n{program}END"


def config_has(expression: str) -> str:
    return f'python3 -c "import json; c = json.load(open({CONFIG!r})); assert {expression}"'


def mode(path: str, wanted: str) -> str:
    return f"test \"$(stat -c '%a %U:%G' {path})\" = '{wanted}'"


def program_is_whole() -> str:
    """The name of a version begins as its SHA-256 does."""
    return f'test "$(sha256sum < {PROGRAM} | cut -c-12).pyz" = "$(basename {PROGRAM})"'


EDITED = [
    Drift(
        "a cron line is commented out",
        f"sed -i '/run daily/s/^/# /' {CRON}",
        f"grep -q '^[0-9].*restaura run daily' {CRON}",
        (
            r"cron\.d/restaura had been changed by hand",
            r"- commented out: [0-9 *]+root /usr/local/bin/restaura run daily",
        ),
        (r"^-# [0-9 *]+root \S+ run daily", r"^\+[0-9][0-9 *]+root \S+ run daily"),
    ),
    Drift(
        "a cron line is edited",
        f"sed -i -E 's/^[0-9]+ [0-9]+ (.*verify --plan daily.*)/0 12 \\1/' {CRON}",
        f"! grep -q '^0 12 .*verify' {CRON}",
        (r"- missing or edited: .*verify --plan daily", r"- not Restaura's: 0 12 .*verify --plan daily"),
        (r"^-0 12 .*verify --plan daily",),
    ),
    Drift(
        "a line is added to the cron file",
        f"echo '* * * * * root true # by hand' >> {CRON}",
        f"! grep -q 'root true' {CRON}",
        (r"- not Restaura's: \* \* \* \* \* root true",),
        (r"^-\* \* \* \* \* root true # by hand",),
    ),
    Drift(
        "the boot line is taken out",
        f"sed -i '/@reboot/d' {CRON}",
        f"grep -q '^@reboot root' {CRON}",
        (r"- missing or edited: @reboot root",),
        (r"^\+@reboot root",),
    ),
    Drift(
        "cron reads a file that others can write no more",
        f"chmod 666 {CRON}",
        mode(CRON, "644 root:root"),
        (r"mode and owner of /etc/cron\.d/restaura were 0666",),
        (r"^-0666",),
    ),
    Drift(
        "the program is replaced",
        f"printf '#!/bin/sh\\nexit 0\\n' > {PROGRAM}",
        program_is_whole(),
        (r"/usr/local/lib/restaura/\w+\.pyz had been changed by hand",),
        (r"^-version [0-9a-f]{12}$",),
    ),
    Drift(
        "the program cannot be executed",
        f"chmod 600 {PROGRAM}",
        mode(IN_USE, "755 root:root"),
        (r"mode and owner of /usr/local/lib/restaura/\w+\.pyz were 0600",),
        (r"^-0600",),
    ),
    Drift(
        "another version of the program is linked",
        f"cd /usr/local/lib/restaura; cp {PROGRAM} other.pyz; ln -sfn $PWD/other.pyz /usr/local/bin/restaura",
        f'test "$(readlink /usr/local/bin/restaura)" = "{IN_USE}"',
        (r"/usr/local/bin/restaura had been replaced by hand \(link to .*other\.pyz\)",),
        (r"^-link to .*other\.pyz",),
    ),
    Drift(
        "a setting is edited",
        edit('c["plans"][0]["retention"]["keep_daily"] = 1'),
        config_has("c['plans'][0]['retention']['keep_daily'] == 7"),
        (r"- plans\[daily\]\.retention\.keep_daily was 1, is 7",),
        (r'^-\s+"keep_daily": 1', r'^\+\s+"keep_daily": 7'),
    ),
    Drift(
        "a plan is added",
        edit('c["plans"].append({**c["plans"][0], "name": "by-hand"})'),
        f"! grep -q by-hand {CONFIG}",
        (r"- plans\[by-hand\] was added", r"plan by-hand is no longer run"),
        (r'^-\s+"name": "by-hand"',),
    ),
    Drift(
        "a component is added",
        edit('c["components"]["files"].append({**c["components"]["files"][0], "name": "added"})'),
        f"! grep -q added {CONFIG}",
        (r"- components\.files\[added\] was added", r"component added is no longer protected"),
        (r'^-\s+"name": "added"',),
    ),
    Drift(
        "a component is taken out",
        edit('c["components"]["files"].pop(1); c["plans"][1]["components"] = []'),
        f"grep -q /srv/logs {CONFIG}",
        (r"- components\.files\[logs\] was missing",),
        (r'^\+\s+"name": "logs"',),
    ),
    Drift(
        "a store with a secret is added",
        edit(
            'mine = {"name": "mine", "location": "/root/mine", "password": "' + BY_HAND + '"}; '
            'c["stores"].append({**c["stores"][0], **mine})'
        ),
        f"! grep -q /root/mine {CONFIG}",
        (r"- stores\[mine\] was added", r"store mine is no longer written to"),
        (r'^-\s+"password": "\(secret\)"',),
    ),
    Drift(
        "the configuration can be read by all",
        f"chmod 644 {CONFIG}; chown nobody {CONFIG}",
        mode(CONFIG, "600 root:root"),
        (r"mode and owner of /etc/restaura/config\.json were 0644, owner 65534:0",),
        (r"^-0644, owner 65534:0",),
    ),
    Drift(
        "a declared secret is edited",
        f"echo {BY_HAND} > /etc/restaura/keys/stores.local.password",
        f"grep -qx {PASSWORD} /etc/restaura/keys/stores.local.password",
        (r"secret /etc/restaura/keys/stores\.local\.password was not the declared one",),
        (r"^-\(secret\)", r"^\+\(secret\) another"),
    ),
    Drift(
        "a key can be read by all",
        "chmod 644 /etc/restaura/keys/manifest.key",
        mode("/etc/restaura/keys/manifest.key", "600 root:root"),
        (r"key /etc/restaura/keys/manifest\.key were 0644",),
        (r"^-0644, owner 0:0",),
    ),
    Drift(
        "a key belongs to another",
        "chown nobody /etc/restaura/keys/age.key",
        mode("/etc/restaura/keys/age.key", "600 root:root"),
        (r"key /etc/restaura/keys/age\.key were 0600, owner 65534:0",),
        (r"^-0600, owner 65534:0",),
    ),
    Drift(
        "the directory of the keys is open",
        "chmod 755 /etc/restaura/keys",
        mode("/etc/restaura/keys", "700 root:root"),
        (r"mode and owner of /etc/restaura/keys were 0755",),
    ),
    Drift(
        "state and logs are open",
        "chmod 755 /var/lib/restaura; chmod 770 /var/log/restaura",
        f"{mode('/var/lib/restaura', '700 root:root')} && {mode('/var/log/restaura', '700 root:root')}",
        (r"of /var/lib/restaura were 0755", r"of /var/log/restaura were 0770"),
    ),
    Drift(
        "the identity is another",
        "echo 00000000-0000-0000-0000-000000000000 > /etc/restaura/identity",
        "diff -q /etc/restaura/identity /root/identity",
        (r"/etc/restaura/identity had been changed by hand",),
        (r"^\+restored",),
    ),
    Drift(
        "the runbook is edited",
        "echo 'call Bob' >> /etc/restaura/RUNBOOK.md",
        "! grep -q Bob /etc/restaura/RUNBOOK.md",
        (r"/etc/restaura/RUNBOOK\.md had been changed by hand", r"- not Restaura's: call Bob"),
        (r"^-call Bob",),
    ),
    Drift(
        "a script is edited and cannot be executed",
        "cd /usr/local/sbin; sed -i 's/restaura run/true/' backup_all.sh; chmod 600 backup_all.sh",
        f"cd /usr/local/sbin; grep -q 'restaura run' backup_all.sh && {mode('backup_all.sh', '755 root:root')}",
        (r"/usr/local/sbin/backup_all\.sh had been changed by hand", r"of /usr/local/sbin/backup_all\.sh were 0600"),
        (r"^\+.*restaura run",),
    ),
    Drift(
        "a package is removed",
        "dpkg --force-depends --remove zstd 2>&1",
        "zstd --version",
        (r"package zstd was missing",),
        (r"missing packages: zstd",),
    ),
    Drift(
        "restic is removed",
        "dpkg --force-depends --remove restic 2>&1",
        "restic version",
        (r"restic was missing or too old",),
        (r"missing packages: restic",),
    ),
    Drift(
        "a program of a package is deleted",
        "rm /usr/bin/age",
        "age --version",
        (r"package age was damaged",),
    ),
    Drift(
        "cron is stopped and masked",
        "systemctl stop cron; systemctl disable cron 2>&1; systemctl mask cron 2>&1",
        "systemctl is-active cron && systemctl is-enabled cron",
        (r"cron was stopped, disabled or masked",),
    ),
    Drift(
        "the user is deleted",
        "userdel nobody 2>&1",
        'test "$(id -u nobody)" = 65534 && getent passwd nobody | grep -q nologin',
        (r"the account nobody was missing",),
    ),
    Drift(
        "the program in a store is replaced",
        "echo broken > /var/backups/plain/restaura.pyz; rm /var/backups/shop/restaura.pyz",
        f"cd /var/backups; cmp plain/restaura.pyz {IN_USE} && cmp shop/restaura.pyz {IN_USE}",
        (r"restaura\.pyz in store plain was missing or other", r"restaura\.pyz in store local was missing or other"),
        (r"before: restaura\.pyz in store plain",),
    ),
    Drift(
        "another file in cron's folder runs the plan",
        f"sed -n '/run daily/s/^# *//p' {CRON} > /etc/cron.d/restaura-old",
        "test -s /etc/cron.d/restaura-old",
        (r"/etc/cron\.d/restaura-old starts restaura too",),
        stays=True,
    ),
    Drift(
        "a copy that cron does not read was left",
        "echo '1 1 * * * root restaura run daily' > /etc/cron.d/restaura.disabled",
        "test -s /etc/cron.d/restaura.disabled",
        (r"/etc/cron\.d/restaura\.disabled is a copy that cron never reads",),
        stays=True,
    ),
    Drift(
        "a user's crontab runs the plan",
        "echo '5 5 * * * /usr/local/bin/restaura run daily' | crontab -",
        "crontab -l | grep -q restaura",
        (r"/var/spool/cron/crontabs/root starts restaura too",),
        stays=True,
    ),
]

DELETED = [
    Drift(
        "a program of a package cannot be executed",
        "chmod 644 /usr/bin/age",
        "age --version",
        (r"package age was damaged",),
    ),
    Drift(
        "the cron file is deleted",
        f"rm {CRON}",
        f"grep -q 'run daily' {CRON}",
        (r"/etc/cron\.d/restaura had been deleted",),
        (r"^\+[0-9][0-9 *]+root \S+ run daily",),
    ),
    Drift(
        "the configuration is deleted",
        f"rm {CONFIG}",
        f"test -s {CONFIG}",
        (r"/etc/restaura/config\.json had been deleted",),
        (r'^\+\s+"name": "daily"',),
    ),
    Drift(
        "the program and its link are deleted",
        "rm -r /usr/local/lib/restaura /usr/local/bin/restaura",
        f"{program_is_whole()} && restaura --version",
        (r"/usr/local/lib/restaura/\w+\.pyz had been deleted", r"/usr/local/bin/restaura had been deleted"),
        (r"^-absent", r"^\+link to /usr/local/lib/restaura/"),
    ),
    Drift(
        "the identity is deleted",
        "rm /etc/restaura/identity",
        "diff -q /etc/restaura/identity /root/identity",
        (r"/etc/restaura/identity was missing and is restored",),
    ),
    Drift(
        "runbook and scripts are deleted",
        "rm /etc/restaura/RUNBOOK.md /usr/local/sbin/recover.sh",
        "test -s /etc/restaura/RUNBOOK.md && test -x /usr/local/sbin/recover.sh",
        (r"/etc/restaura/RUNBOOK\.md had been deleted", r"/usr/local/sbin/recover\.sh had been deleted"),
    ),
    Drift(
        "a declared secret is deleted",
        "rm /etc/restaura/keys/stores.local.password",
        f"grep -qx {PASSWORD} /etc/restaura/keys/stores.local.password",
        (r"secret /etc/restaura/keys/stores\.local\.password was written",),
        (r"^\+\(secret\)",),
    ),
    Drift(
        "the cron daemon is removed",
        "dpkg --force-depends --remove cron 2>&1",
        "systemctl is-active cron && systemctl is-enabled cron",
        (r"package cron was missing",),
        (r"missing packages: cron",),
    ),
    Drift(
        "the logs' directory is deleted",
        "rm -r /var/log/restaura",
        mode("/var/log/restaura", "700 root:root"),
        (r"/var/log/restaura was made",),
    ),
]


@dataclass
class Round:
    """What became of a host: what held at which moment, and what the runs said."""

    held: dict[str, set[str]]
    state: dict[str, str]
    plays: dict[str, Play] = field(default_factory=dict)


@pytest.fixture(scope="module")
def host(make_host: Callable[..., hosts.Host]) -> hosts.Host:
    host = make_host("drift", "debian13")
    sh(host, "mkdir -p /srv/shop /srv/logs && seq 1000 > /srv/shop/orders && seq 9 > /srv/logs/today")
    return host


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, project: Path, host: hosts.Host) -> Site:
    variables: dict[str, Any] = {
        "backup_runtime_stores": [
            {"name": "local", "type": "restic", "location": "/var/backups/shop", "password": PASSWORD},
            {"name": "plain", "type": "dated", "location": "/var/backups/plain"},
        ],
        "backup_runtime_plans": [{"name": "daily"}, {"name": "weekly", "components": ["logs"], "stores": ["plain"]}],
        "backup_files_components": [{"name": "shop", "paths": ["/srv/shop"]}, {"name": "logs", "paths": ["/srv/logs"]}],
        "backup_runtime_first_run": False,
    }
    site = Site(tmp_path_factory.mktemp("drift"), project, variables)
    site.add(host)
    done = site.play("setup_backup.yml")
    assert (done.status, done.failed) == ("successful", 0), done.messages
    sh(
        host,
        f"echo -n {PROGRAM} > /root/program; cp /etc/restaura/identity /root/identity; restaura run weekly --wait 600",
    )
    return site


def go_through(site: Site, host: hosts.Host, drifts: list[Drift]) -> Round:
    def holding() -> set[str]:
        script = "".join(f"( {one.holds}\n) > /dev/null 2>&1 && echo {number}\n" for number, one in enumerate(drifts))
        return {drifts[int(number)].name for number in sh(host, f"{script}true").split()}

    seen = Round({"declared": holding()}, {})
    for one in drifts:
        sh(host, one.act)
    seen.held["drifted"], seen.state["drifted"] = holding(), sh(host, STATE)
    seen.plays["check"] = site.play("setup_backup.yml", "--check", "--diff")
    seen.held["checked"], seen.state["checked"] = holding(), sh(host, STATE)
    seen.plays["mend"] = site.play("setup_backup.yml", "--diff")
    seen.held["mended"] = holding()
    return seen


@pytest.fixture(scope="module")
def edited(site: Site, host: hosts.Host) -> Round:
    return go_through(site, host, EDITED)


@pytest.fixture(scope="module")
def kit(site: Site, host: hosts.Host) -> Path:
    return site.folder / "recovery_kits" / f"{host.name}.kit"


@pytest.fixture(scope="module")
def deleted(edited: Round, site: Site, host: hosts.Host, kit: Path) -> Round:
    kit.write_text(OTHER_KIT)
    return go_through(site, host, DELETED)


def wrong(one: Drift, seen: Round) -> list[str]:
    """Say in what a drift was not named in words, left alone by a check, and mended."""
    check, mend = seen.plays["check"], seen.plays["mend"]
    said = {"check": "\n".join(check.told), "mend": "\n".join(mend.told)}
    held = {moment: one.name in names for moment, names in seen.held.items()}
    wanted = {
        "what should hold does not on a host as declared": held["declared"] != one.stays,
        "nothing drifted: the test is broken": held["drifted"] == one.stays,
        f"a play failed: {check.messages} {mend.messages}": all(
            (play.status, play.failed) == ("successful", 0) for play in (check, mend)
        ),
        "a check mended it": held["checked"] == one.stays,
        "it was not mended, or what is not ours was touched": held["mended"],
    }
    found = [what for what, true in wanted.items() if not true]
    for pattern in one.told:
        found += [
            f"{play} does not tell {pattern!r}: {text}" for play, text in said.items() if not re.search(pattern, text)
        ]
    shown = (pattern for pattern in one.shown if not re.search(pattern, check.text, re.MULTILINE))
    return [*found, *(f"the check does not show {pattern!r}" for pattern in shown)]


@pytest.mark.parametrize("one", EDITED, ids=[one.name for one in EDITED])
def test_what_was_edited_is_named_and_put_back(one: Drift, edited: Round) -> None:
    assert wrong(one, edited) == []


def test_a_check_changes_nothing_and_no_secret_is_told(edited: Round) -> None:
    assert edited.state["checked"] == edited.state["drifted"]
    for play in edited.plays.values():
        assert play.changed > 0
        assert PASSWORD not in play.text
        assert BY_HAND not in play.text


@pytest.mark.parametrize("one", DELETED, ids=[one.name for one in DELETED])
def test_what_was_deleted_is_named_and_put_back(one: Drift, deleted: Round) -> None:
    assert wrong(one, deleted) == []


def test_another_kit_on_the_controller_is_kept_beside_the_right_one(deleted: Round, kit: Path) -> None:
    told = deleted.plays["mend"].told
    assert any("the recovery kit on the controller was missing or another" in line for line in told), told
    kept = {one.read_text(): one.stat().st_mode & 0o777 for one in kit.parent.glob("*.kit*")}
    assert kept[OTHER_KIT] == 0o600
    assert json.loads(kit.read_text())["keys"]["stores.local.password"] == f"{PASSWORD}\n"


def test_after_that_nothing_is_left_to_do_and_the_points_open(deleted: Round, site: Site, host: hosts.Host) -> None:
    assert deleted.state["checked"] == deleted.state["drifted"]
    again = site.play("setup_backup.yml", "--diff")
    assert (again.status, again.changed) == ("successful", 0), again.text[-4000:]
    # What others left is said every time, and nothing else.
    assert [line for line in again.told[1:] if "not Restaura's" not in line] == []
    assert len(again.told) == 1 + len([one for one in EDITED if one.stays])
    sh(
        host,
        "restaura restore --plan weekly --to dir:/root/back --yes && cmp /root/back/srv/logs/today /srv/logs/today",
    )


def test_a_lost_key_is_an_error_and_never_made_anew(deleted: Round, site: Site, host: hosts.Host, kit: Path) -> None:
    sh(host, "mv /etc/restaura/keys/age.key /root/age.key; sed -i /daily/d /etc/cron.d/restaura")
    before = sh(host, STATE)
    for options in (["--check"], []):
        seen = site.play("setup_backup.yml", *options)
        assert seen.status == "failed"
        assert "/etc/restaura/keys/age.key" in seen.messages[0]
        assert "restaura keys restore --kit FILE" in seen.messages[0]
        assert sh(host, STATE) == before
    assert json.loads(kit.read_text())["keys"]["age.key"] == sh(host, "cat /root/age.key")
    sh(host, f"cat > /root/the.kit <<'END'\n{kit.read_text()}\nEND\nrestaura keys restore --kit /root/the.kit")
    mended = site.play("setup_backup.yml")
    assert (mended.status, mended.failed) == ("successful", 0), mended.messages
    sh(host, "cmp /root/age.key /etc/restaura/keys/age.key")


def test_a_component_that_left_the_inventory_is_told_loudly_and_stays_told(
    deleted: Round, site: Site, host: hosts.Host
) -> None:
    site.variables["backup_files_components"] = site.variables["backup_files_components"][:1]
    site.variables["backup_runtime_plans"] = [{"name": "daily"}]
    seen = site.play("setup_backup.yml")
    assert seen.status == "successful", seen.messages
    for sentence in ("component logs is no longer protected; its points stay", "plan weekly is no longer run"):
        assert any(sentence in line for line in seen.told), seen.told
        assert sentence in " ".join(seen.text.split())
    status = sh(host, "restaura status || true")
    assert re.search(r"ORPHAN +logs is no longer protected; its newest point is ", status), status
    assert sh(host, "restaura list --json | grep -c weekly").strip() != "0"


# -- misspelt --------------------


def refused(site: Site, host: hosts.Host, **extra: object) -> str:
    """What a setup says that must be refused before it changes anything."""
    before = sh(host, STATE)
    seen = site.play("setup_backup.yml", **extra)
    assert (seen.status, seen.changed) == ("failed", 0)
    assert sh(host, STATE) == before
    return " ".join(seen.messages)


def test_misspelt_variables_are_refused_wherever_they_stand(deleted: Round, site: Site, host: hosts.Host) -> None:
    for folder, name in (("host_vars", host.name), ("group_vars", "all")):
        (site.folder / "site" / folder).mkdir()
        (site.folder / "site" / folder / f"{name}.yml").write_text(
            f"backup_{folder}_x: []\nbakup_files_components: []\n"
        )
    site.variables["backup_postgress_components"] = []
    told = refused(site, host, backup_runtime_plan=[])
    for name in (
        "backup_host_vars_x",
        "backup_group_vars_x",
        "bakup_files_components (did you mean backup_files_components?)",
        "backup_postgress_components (did you mean backup_postgres_components?)",
        "backup_runtime_plan (did you mean backup_runtime_plans?)",
    ):
        assert name in told
    del site.variables["backup_postgress_components"]
    for folder, name in (("host_vars", host.name), ("group_vars", "all")):
        (site.folder / "site" / folder / f"{name}.yml").unlink()


def test_variables_of_a_group_that_there_is_not_are_refused(deleted: Round, site: Site, host: hosts.Host) -> None:
    stray = site.folder / "site/group_vars/webservres.yml"
    stray.parent.mkdir(exist_ok=True)
    stray.write_text("backup_files_components: []\n")
    told = refused(site, host)
    assert "group_vars/webservres.yml (there is no group webservres)" in told
    stray.unlink()


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        ({"backup_files_components": [{"name": "shop", "paths": ["/srv/shop"], "exlude": ["*.tmp"]}]}, "exlude"),
        ({"backup_runtime_plans": [{"name": "daily", "retention": {"keep_dialy": 3}}]}, "keep_dialy"),
    ],
)
def test_a_misspelt_key_is_refused_at_any_depth(
    deleted: Round, site: Site, host: hosts.Host, extra: dict[str, object], told: str
) -> None:
    assert told in refused(site, host, **extra)


def test_a_parameter_of_a_role_is_heard_and_a_misspelt_one_refused(
    deleted: Round, site: Site, host: hosts.Host, tmp_path: Path
) -> None:
    given = [{"name": "param", "paths": ["/srv/shop"]}, {"name": "logs", "paths": ["/srv/logs"]}]
    roles: list[dict[str, object]] = [
        {"role": "restaura.stack.backup_files", "backup_files_components": given},
        {"role": "restaura.stack.backup_runtime"},
    ]
    play = tmp_path / "own.yml"
    play.write_text(json.dumps([{"hosts": "all", "gather_subset": ["!all", "min"], "roles": roles}]))
    seen = site.play(str(play), "--check", "--diff")
    assert seen.status == "successful", seen.messages
    assert re.search(r'^\+\s+"name": "param"', seen.text, re.MULTILINE)
    roles[0]["backup_files_component"] = []
    play.write_text(json.dumps([{"hosts": "all", "gather_subset": ["!all", "min"], "roles": roles}]))
    seen = site.play(str(play), "--check")
    assert seen.status == "failed"
    assert "backup_files_component" in seen.messages[0]


# -- Debian 12 --------------------


def test_an_edited_pin_on_debian_12_is_named_and_put_back(
    make_host: Callable[..., hosts.Host], project: Path, tmp_path: Path
) -> None:
    old = make_host("drift-12", "debian12")
    pin, source = "/etc/apt/preferences.d/restaura-restic", "/etc/apt/sources.list.d/restaura-restic.sources"
    # With this pin the next upgrade would take all of Debian 13.
    sh(
        old,
        f"printf 'Package: *\\nPin: release n=trixie\\nPin-Priority: 900\\n' > {pin};"
        "printf '#!/bin/sh\\necho restic 0.18.0\\n' > /usr/local/bin/restic; chmod 755 /usr/local/bin/restic",
    )
    spoilt = sh(old, f"cat {pin}")
    site = Site(tmp_path, project, {"backup_files_components": [{"name": "etc", "paths": ["/etc"]}]})
    site.add(old)
    seen = site.play("setup_backup.yml", "--check", "--diff")
    assert seen.status == "successful", seen.messages
    assert "that only restic comes from Debian 13 had been edited or deleted and is put back" in seen.told
    for line in ("-Pin-Priority: 900", "+Pin-Priority: -10", "+Suites: trixie"):
        assert line in seen.text.splitlines(), line
    assert sh(old, f"cat {pin}; test ! -e {source}") == spoilt
    mended = site.play("setup_backup.yml", "--tags", "install")
    assert (mended.status, mended.changed) == ("successful", 2), mended.messages
    assert sh(old, f"grep -A2 -Fx 'Package: *' {pin}").splitlines()[2] == "Pin-Priority: -10"
    assert "trixie" in sh(old, f"cat {source}")
    assert site.play("setup_backup.yml", "--tags", "install").changed == 0
