# SPDX-License-Identifier: GPL-3.0-or-later
"""The runbook of one host: whom to call, what is where, and what to type when it is gone. It holds no secret.

It changes only when the configuration does, so that no run renews it. Every block marked `sh` is typed as it stands, as
root, in this order; what is typed elsewhere, or with names that stand in capitals, is marked `console`.
"""

import inspect
import json
import posixpath
import shlex
from collections.abc import Sequence
from urllib.parse import urlsplit

from restaura import pause
from restaura.config.schema import Component, Config, Plan, Store
from restaura.config.shown import covers, told
from restaura.output import printable
from restaura.paths import Paths
from restaura.point import safe_name
from restaura.runbook_kinds import by_hand, debian_packages, needed
from restaura.sources import registry
from restaura.staging import COPIES, TREE, protected

# Restic's first release that keeps what we need; Debian 12 has an older one.
RESTIC = "0.18"
# Kinds whose files lie in a dated store as they are.
NAMED_FILES = ("infra", "langchain", "llm")
NEWER_RESTIC = f"""\
if ! dpkg --compare-versions "$(dpkg-query -W -f '${{Version}}' restic)" ge {RESTIC}; then
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Release: bookworm' | head -n 1)
    printf 'Package: *\\nPin: release n=trixie\\nPin-Priority: -10\\n\\n' > /etc/apt/preferences.d/restaura-restic
    printf 'Package: restic\\nPin: release n=trixie\\nPin-Priority: 500\\n' >> /etc/apt/preferences.d/restaura-restic
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" \\
        > /etc/apt/sources.list.d/restaura-restic.list
    apt-get update && apt-get install -y --no-install-recommends restic
fi
restic version"""
ACCOUNTS = """\
cut -d: -f1 {etc}/group | while read -r name; do
    getent group "$name" > /dev/null || groupadd --system "$name"
done
while IFS=: read -r name _ _ gid _ home shell; do
    group=$(awk -F: -v gid="$gid" '$3 == gid {{ print $1; exit }}' {etc}/group)
    getent passwd "$name" > /dev/null ||
        useradd --system --gid "$group" --home-dir "$home" --no-create-home --shell "$shell" "$name"
done < {etc}/passwd"""


# Brings a component's artifacts, as a dated store has them, out of a restic store.
BRING = """\
bring() {{
  mkdir -p "{hand}/$1"
  restic snapshots --json --tag "$point,component=$1" | python3 -c "
import json, sys
for one in json.load(sys.stdin):
    tags = dict(tag.split('=', 1) for tag in one['tags'])
    print(one['id'], tags['kind'], tags['artifact'])" | while read -r id kind artifact; do
    place="{hand}/$1/$artifact"
    mkdir -p "$(dirname "$place")"
    case "$kind" in
    tree) restic restore "$id" --target "$place" < /dev/null ;;
    stream) restic dump "$id" "/${{artifact##*/}}" < /dev/null > "$place" ;;
    esac
  done
  restic restore "latest:/streams/$1" --tag "$point,kind=manifest" --target "{hand}/$1"
}}"""


def render(config: Config, paths: Paths, store: Store | None = None) -> str:
    """Return the runbook as Markdown; `store` is the one it lies in (all are named anyway)."""
    elsewhere = sorted(config.stores, key=lambda one: not one.location.startswith("s3:"))
    first = store or (elsewhere[0] if elsewhere else None)
    sections = [_head(config), _contacts(config), _where(config, paths), _here(config)]
    if first:
        sections += [_gone(config, first), _by_hand(config, first)]
    return "\n\n".join([*sections, _trouble(config, first)]) + "\n"


def _head(config: Config) -> str:
    name = config.settings.host
    return f"""# Runbook: restore {name}

| what happened | go to |
| --- | --- |
| data is lost or wrong, `{name}` runs | [A. The host is there](#a-the-host-is-there) |
| `{name}` is gone | [B. The host is gone](#b-the-host-is-gone) |
| `restaura` itself does not work | [C. Without Restaura](#c-without-restaura) |
| the kit or a store is lost, an error | [D. It does not work](#d-it-does-not-work) |

Type commands as they stand, as root, in their order. **Nothing is lost by trying**: without `--yes` a restore only
shows what it would do, and what it replaces is kept until you discard it. This page holds no secret."""


def _contacts(config: Config) -> str:
    rows = [[one.name, one.role, one.phone, one.email, one.note] for one in config.settings.contacts]
    if not rows:
        return (
            "## Whom to call\n\nNobody is named here: declare `backup_runtime_contacts`, then run `setup_backup.yml`."
        )
    return "## Whom to call\n\nIn this order.\n\n" + _table(["who", "for what", "telephone", "e-mail", "note"], rows)


def _where(config: Config, paths: Paths) -> str:
    name = config.settings.host
    stores = [[_code(one.name), one.type, _code(one.location), _opened(one)] for one in config.stores]
    plans = [
        [
            _code(plan.name),
            plan.schedule,
            ", ".join(one.name for one in config.plan_components(plan)),
            ", ".join(one.name for one in config.plan_stores(plan)),
            told(plan.retention, set()) or "as by default",
        ]
        for plan in config.plans
    ]
    parts = [
        "## What is where",
        f"The **recovery kit**, `{name}.kit`, opens the stores. It is in no store: it lies in `recovery_kits/` beside "
        "the inventory on the machine that runs Ansible, with a copy of this page, and where its copies were taken.",
        _table(["store", "type", "where", "opened by"], stores),
        _table(["plan", "when", "components", "stores", "kept"], plans),
        "\n".join(_component(config, one) for one in config.components) or "No component is declared.",
        f"On the host: configuration {_code(str(paths.config))}, keys {_code(str(paths.keys))}, logs "
        f"{_code(str(paths.logs))}, schedule {_code(str(paths.cron))}.",
    ]
    return "\n\n".join(parts)


def _opened(store: Store) -> str:
    if store.type == "restic":
        return f"`stores.{store.name}.password` of the kit"
    return "`age.key` of the kit, where it is encrypted"


def _component(config: Config, one: Component) -> str:
    """Return what a component is, how it is captured, what is stopped for it, and what must be true of it."""
    kind = config.kinds[one.name]
    purpose = (inspect.getdoc(inspect.getmodule(registry()[kind].options)) or "").split("\n\n")[0].replace("\n", " ")
    lines = [f"- **{one.name}** (`{kind}`: {purpose})", f"  - {_code(covers(one))}"]
    for plan in config.plans:
        if one in config.plan_components(plan) and plan.pause:
            for held, released in pause.told(plan.pause):
                how = f"held by {_code(held)}, released by {_code(released)}"
                lines.append(f"  - while `{plan.name}` captures or restores it: {how}")
    if stays := protected(one):
        lines.append(f"  - never live as a whole: {', '.join(map(_code, stays))}; goes to a directory, to copy from")
    lines += [f"  - check `{check.name}`: {_code(told(check, {'name'}))}" for check in one.checks]
    return "\n".join(lines)


# -- the host is there --------------------


def _here(config: Config) -> str:
    live = [one for one in config.components if not protected(one)]
    blocks = []
    for one in config.components:
        target = "" if one in live else f' --to "dir:/root/{one.name}-$(date +%F)"'
        restore = f"restaura restore --component {one.name}{target}"
        blocks.append(f"`{one.name}`:\n\n" + _sh(restore, f"{restore} --yes"))
    parts = [
        "## A. The host is there",
        "1. What there is, and how good it is. A point is a day and an id; *good* ones can be restored.",
        _sh("restaura status", "restaura list"),
        "2. The newest good point is taken, of whichever day. An older one: add its day as the list shows it, for "
        "example `--date 2026-11-21`, or a time, `--before 2026-11-21T10:00:00-03:00`, to the lines below.",
        "3. Only the component that is lost. The first line shows what would be done, the second does it. Stop what "
        "writes there first: a restore over data in use is refused, and names who uses it. It answers with a table in "
        "which the component is `equal`.",
        *blocks,
        "Only a part of it: `--path /srv/…` (files) or `--path NAME` (a database), again and again.",
    ]
    if live:
        parts += ["4. It was the wrong point: this swaps the last restore back. Both sides are kept.", _sh(*UNDO)]
    parts += [
        "5. The checks named above ran by themselves: one that failed is named, and the exit code is 6. Start what you "
        "stopped, run them all on the live data with `restaura check`, and look at the application with your own eyes.",
        "In `/usr/local/sbin` the same for who types from memory: `recover.sh -h`, `backup_all.sh -h`.",
    ]
    return "\n\n".join(parts)


UNDO = ("restaura undo", "restaura undo latest")


# -- the host is gone --------------------


def _gone(config: Config, store: Store) -> str:
    name, kit = config.settings.host, _kit(config)
    apart = [one for one in config.components if protected(one)]
    live = [one for one in config.components if one not in apart]
    restore = _restore(config, store)
    parts = [
        "## B. The host is gone",
        f"You need a clean machine with Debian 13 or 12, the kit, and the store `{store.name}`. Nothing else.",
        f"1. Bring the kit to the new machine, as `{kit}`, from where it is kept:",
        f"```console\nansible-vault decrypt {name}.kit      # only if it is encrypted\nscp {name}.kit "
        f"root@NEW-MACHINE:{kit}\n```",
        "2. On the new machine, as root, what is needed to read the store, and what Debian has of the servers whose "
        "data comes back:",
        _sh("apt-get update", _install([*_readers(store), *_servers(config)])),
    ]
    if store.type == "restic":
        parts += [
            f"restic must be {RESTIC} or newer. Debian 12's is older; this brings Debian 13's:",
            _sh(NEWER_RESTIC),
        ]
    if servers := [f"- `{one.name}`: {what}" for one in live if (what := needed(config.kinds[one.name], one))]:
        parts += [
            f"Before step {len(apart) + 6} each of these must be **there, running and empty**; do it now:",
            "\n".join(servers),
        ]
    parts += [
        "3. The program, from the store. If others can write there, compare its SHA-256 with one of your own build.",
        _sh(*_fetch(config, store), "restaura --version"),
        "4. What there is. It shows the newest point of every component, and changes nothing:",
        _sh(restore),
        "```text\ncomponent  kind  point  label  bytes  consistency  standing  from\n…\nall of it would be restored to "
        "live; nothing was changed. Do it with --yes\n```",
        "An older point: add `--date 2026-11-21` to this line and to those below.",
    ]
    step = 5
    for one in apart:
        parts += [
            f"{step}. `{one.name}` goes to `{_apart(one)}`, for you to copy from:",
            _sh(f"{restore} --component {one.name} --to dir:{_apart(one)} --yes"),
        ]
        step += 1
    etc = next((f"{_apart(one)}/etc" for one in apart if "/etc" in protected(one)), "")
    parts.append(f"{step}. The accounts that own the data come first: owners come back by name.")
    if etc:
        parts += [
            "These lines make every group and account of the old host that the new one lacks, without passwords:",
            _sh(ACCOUNTS.format(etc=etc)),
        ]
    else:
        parts.append(
            "For each: `adduser --system --group NAME`. The restore names those that are missing: make them, and "
            "type it again."
        )
    if live:
        names = " ".join(f"--component {one.name}" for one in live)
        parts += [
            f"{step + 1}. All the rest, to its place. It answers with a table in which each component is `equal`.",
            _sh(f"{restore} {names} --yes"),
            "It was the wrong point: `restaura undo latest`.",
        ]
    old = f" Take what you need of `{etc}` (web server, certificates), then start" if etc else " Start"
    parts += [
        f"{step + 2}. Look: the checks named above ran by themselves, and the exit code is 6 when one failed.{old} the "
        "application, and look at it with your own eyes.",
        f"{step + 3}. Let the new machine back up. The old keys, so that the old points stay readable:",
        _sh(f"restaura keys restore --kit {kit}"),
        "Then, on the machine that runs Ansible, with the new address in the inventory. It stops at a store in which "
        "the old machine wrote, and names the command that lets this one go on there (`restaura adopt`); then again:",
        f"```console\nansible-playbook setup_backup.yml -i INVENTORY --limit {name}\n```",
        f"Take the new kit away, and prove it: `restaura keys confirm --kit {name}.kit`. Then delete `{kit}`.",
    ]
    return "\n\n".join(parts)


def _kit(config: Config) -> str:
    return f"/root/{config.settings.host}.kit"


def _apart(one: Component) -> str:
    return f"/root/{one.name}"


def _restore(config: Config, store: Store) -> str:
    name = config.settings.host
    return f"restaura restore --store {shlex.quote(store.location)} --kit {_kit(config)} --host {name}"


def _install(packages: Sequence[str]) -> str:
    return (
        f"DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends {' '.join(dict.fromkeys(packages))}"
    )


def _readers(store: Store) -> list[str]:
    """Return Debian's packages that read a store."""
    found = ["python3", "tar", *(["restic"] if store.type == "restic" else ["age", "zstd"])]
    return [*found, "python3-boto3"] if store.location.startswith("s3:") else found


def _servers(config: Config) -> list[str]:
    """Return Debian's packages of the servers that the components come back to, and of their clients."""
    found: list[str] = []
    for one in config.components:
        kind = config.kinds[one.name]
        own = debian_packages(kind, one)
        # Debian's postgresql brings all that its source needs.
        found += own if own and kind == "postgres" else [*own, *registry()[kind].packages]
    return found


def _fetch(config: Config, store: Store) -> list[str]:
    """Return the commands that install the program from a store's root."""
    if store.location.startswith("/"):
        program = shlex.quote(posixpath.join(store.location, "restaura.pyz"))
        return [f"install -m 755 {program} /usr/local/bin/restaura"]
    _, bucket, prefix = _address(store)
    key = f"{prefix}/restaura.pyz".lstrip("/")
    return [
        *_python(config, store, f"s3.download_file({_text(bucket)}, {_text(key)}, '/usr/local/bin/restaura')"),
        "chmod 755 /usr/local/bin/restaura",
    ]


def _python(config: Config, store: Store, *act: str) -> list[str]:
    """Return lines that run `act` with an S3 client `s3` whose keys come from the kit: never from a command line."""
    endpoint, _, _ = _address(store)
    access, secret = (_text(f"stores.{store.name}.s3_{one}_key") for one in ("access", "secret"))
    return [
        "python3 - << 'END'",
        "import boto3, botocore.config, json, os",
        f"keys = json.load(open({_text(_kit(config))}))['keys']",
        "s3 = boto3.client(",
        f"    's3', endpoint_url={_text(endpoint)}, region_name={_text(store.s3_region)},",
        f"    aws_access_key_id=keys.get({access}, '').strip() or None,",
        f"    aws_secret_access_key=keys.get({secret}, '').strip() or None,",
        "    config=botocore.config.Config(s3={'addressing_style': 'path'}))",
        *act,
        "END",
    ]


def _address(store: Store) -> tuple[str, str, str]:
    """Return an S3 store's endpoint, bucket and prefix."""
    url = urlsplit(store.location.removeprefix("s3:"))
    bucket, _, prefix = url.path.strip("/").partition("/")
    return f"{url.scheme}://{url.netloc}", bucket, prefix


def _text(value: str) -> str:
    return json.dumps(value)


# -- without the program --------------------


def _by_hand(config: Config, first: Store) -> str:
    parts = [
        "## C. Without Restaura",
        "With Debian's programs and the kit alone. What comes out is not compared with anything: prefer A and B.",
    ]
    for store in [first, *(one for one in config.stores if one is not first)]:
        plans = [one for one in config.plans if store in config.plan_stores(one)]
        parts += [f"### Store {store.name}", _sh(_install(_readers(store)))] if plans else []
        for plan in plans:
            hand = f"/root/by-hand-{store.name}" + (f"-{plan.name}" if plan is not plans[0] else "")
            read = _restic_by_hand if store.type == "restic" else _dated_by_hand
            parts += read(config, store, plan, hand)
    return "\n\n".join(parts)


def _of_kind(config: Config, plan: Plan, kind: str) -> list[str]:
    return [one.name for one in config.plan_components(plan) if config.kinds[one.name] == kind]


def _others(config: Config, plan: Plan) -> list[Component]:
    """Return the components that are not directories and files, but what a server gave."""
    return [one for one in config.plan_components(plan) if config.kinds[one.name] not in ("files", *NAMED_FILES)]


def _restic_by_hand(config: Config, store: Store, plan: Plan, hand: str) -> list[str]:
    remote = store.location.startswith("s3:")
    endpoint, bucket, prefix = _address(store) if remote else ("", "", "")
    place = f"s3:{endpoint}/{posixpath.join(bucket, prefix)}" if remote else store.location
    key = "key() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[\"keys\"][sys.argv[2]].strip())' "
    lines = [
        f'{key}{_kit(config)} "$1"; }}',
        f"export RESTIC_REPOSITORY={shlex.quote(posixpath.join(place, 'restic'))}",
        f"export RESTIC_PASSWORD=$(key stores.{store.name}.password)",
    ]
    if remote:
        lines += [
            f"export AWS_ACCESS_KEY_ID=$(key stores.{store.name}.s3_access_key)",
            f"export AWS_SECRET_ACCESS_KEY=$(key stores.{store.name}.s3_secret_key)",
            f"export AWS_DEFAULT_REGION={shlex.quote(store.s3_region)}",
        ]
    tags = f"kind=manifest,host={config.settings.host},plan={plan.name}"
    newest = "max(tag for one in json.load(sys.stdin) for tag in one['tags'] if tag.startswith('point='))"
    point = f'point=$(restic snapshots --json --tag {tags} | python3 -c "import json, sys; print({newest})")'
    found = [
        f"The newest point of plan `{plan.name}`; all that it holds: `restic snapshots --tag $point`.",
        _sh(*lines, point),
    ]
    for name in _of_kind(config, plan, "files"):
        tree, copies = (f'--tag "$point,component={name},artifact={one}"' for one in (TREE, COPIES))
        restore = f"restic restore latest --target {hand}/{name}"
        there = f"restic snapshots --json {copies} | grep -q short_id"
        found.append(_sh(f"{restore} {tree}", f"if {there}; then {restore} {copies}; fi"))
    for name in [one for kind in NAMED_FILES for one in _of_kind(config, plan, kind)]:
        tags = f'--tag "$point,component={name},artifact=$one"'
        found.append(
            _sh(
                "for one in tree secrets etl_scripts weights elsewhere copies; do",
                f"  if restic snapshots --json {tags} | grep -q short_id; then",
                f"    restic restore latest --target {hand}/{name} {tags}",
                "  fi",
                "done",
            )
        )
    if others := _others(config, plan):
        found.append(_sh(BRING.format(hand=hand), *(f"bring {one.name}" for one in others)))
        found += [by_hand(config.kinds[one.name], one, f"{hand}/{one.name}") for one in others]
    return found


def _dated_by_hand(config: Config, store: Store, plan: Plan, hand: str) -> list[str]:
    host = config.settings.host
    below = [safe_name(host)] * store.host_segment + [safe_name(plan.name)] * store.plan_segment
    lines = [f"mkdir -p {hand} && cd {hand}"]
    if store.location.startswith("s3:"):
        _, bucket, prefix = _address(store)
        folder = "".join(f"{one}/" for one in [prefix, *below] if one)
        lines += _python(
            config,
            store,
            f"pages = s3.get_paginator('list_objects_v2').paginate(Bucket={_text(bucket)}, Prefix={_text(folder)})",
            "there = [one['Key'] for page in pages for one in page.get('Contents', [])]",
            # Files of an expanded tree may be called manifest.json too.
            f"heads = [one for one in there if one[{len(folder)}:].count('/') == 1 and one.endswith('/manifest.json')]",
            "newest = max(heads)[:-len('manifest.json')]",
            "print(newest)",
            "for one in there:",
            "    if one.startswith(newest):",
            "        os.makedirs(os.path.dirname(one[len(newest):]) or '.', exist_ok=True)",
            f"        s3.download_file({_text(bucket)}, one, one[len(newest):])",
        )
    else:
        folder = shlex.quote(posixpath.join(store.location, *below))
        lines.append(f'newest=$(ls -d {folder}/*/manifest.json | tail -n 1) && cp -a "${{newest%/*}}/." .')
    key = f'json.load(open({_text(_kit(config))}))["keys"]["age.key"]'
    lines += [
        f"(umask 077 && python3 -c 'import json; print({key})' > age.key)",
        "find . -name '*.age' -print0 | xargs -0r -n 1 sh -c 'age -d -i age.key -o \"${1%.age}\" \"$1\"' sh",
        "find . -name '*.zst' -print0 | xargs -0r zstd -q -d -k -f",
    ]
    found = [f"The newest point of plan `{plan.name}`, opened in `{hand}`:", _sh(*lines)]
    for name in _of_kind(config, plan, "files"):
        unpack = f"tar -xp --xattrs --acls --sparse --numeric-owner -C {hand}/{name}/files -f {hand}/{name}"
        copies = f"if [ -e {hand}/{name}/{COPIES}.tar ]; then {unpack}/{COPIES}.tar; fi"
        found.append(_sh(f"mkdir -p {hand}/{name}/files", f"{unpack}/{TREE}.tar", copies))
    for name in [one for kind in NAMED_FILES for one in _of_kind(config, plan, kind)]:
        directory = _code(str(getattr(config.component(name), "directory", "")))
        found.append(
            f"`{name}`: the files of {directory} are in `{hand}/{name}` as they are. What ends in `.tar` or "
            "`.tar.gz` there holds paths from `/` on: `tar -xpf FILE -C /root/look`."
        )
    if others := _others(config, plan):
        trees = [
            f"find {' '.join(f'{hand}/{one.name}' for one in others)} -name '*.tar' | sort | while read -r one; do",
            '  mkdir -p "${one%.tar}"',
            '  tar -xp --xattrs --acls --sparse --numeric-owner -C "${one%.tar}" -f "$one"',
            "done",
        ]
        found.append(_sh(*trees))
        found += [by_hand(config.kinds[one.name], one, f"{hand}/{one.name}") for one in others]
    return found


# -- it does not work --------------------


def _trouble(config: Config, first: Store | None) -> str:
    name = config.settings.host
    others = [one for one in config.stores if one is not first]
    elsewhere = "; ".join(f"`{one.name}` at {_code(one.location)}" for one in others) or "there is no other"
    sealed = [one.name for one in config.stores if one.type == "restic" or one.encrypt]
    readable = [one.name for one in config.stores if one.name not in sealed]
    lost = f"what is in {', '.join(f'`{one}`' for one in sealed)} is lost" if sealed else "S3 keys must be made anew"
    if readable:
        lost += f"; {', '.join(f'`{one}`' for one in readable)} can be read by hand (C), but for what is secret in it"
    rows = [
        ["the kit is lost, the host runs", f"`restaura keys kit > {name}.kit`, and take it away"],
        [
            "the kit is lost, the host too",
            f"look for `{name}.kit` and `{name}.kit.*~` beside the inventory, and in every place named above. Who "
            f"holds a key of `age_recipients` can open a dated store. Without any: {lost}",
        ],
        ["the store is gone or damaged", f"another, in place of its address in every line: {elsewhere}"],
        ["restic is too old", f"step 2 of B: restic {RESTIC} or newer"],
        ["exit code 2", "refused, nothing was changed: what the message says (a process in the way, a name, the kit)"],
        ["exit code 4", "another run is at work: wait, or add `--wait 3600`"],
        ["exit code 5", "no such point: leave `--date` out and see what there is"],
        ["exit code 6", "what came back is not what was backed up: `--from-store`, or an older point"],
        ["exit code 1", "read the `fix:` line; on the host `restaura doctor`"],
    ]
    return "## D. It does not work\n\n" + _table(["what", "do"], rows)


# -- Markdown --------------------


def _sh(*lines: str) -> str:
    return "\n".join(["```sh", *lines, "```"])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    marks = ["---"] * len(head)
    cells = [[printable(cell).replace("|", "\\|") or "-" for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, marks, *cells])


def _code(text: str) -> str:
    """Return text as a code span, whatever it holds."""
    shown = printable(text)
    return f"`` {shown} ``" if "`" in shown else f"`{shown}`"
