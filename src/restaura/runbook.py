# SPDX-License-Identifier: GPL-3.0-or-later
"""The runbook of one host: what to type when it is gone, with its real names. It holds no secret."""

import shlex

from restaura.config.schema import Config, Store
from restaura.paths import Paths
from restaura.sources.files import FilesComponent
from restaura.staging import SYSTEM


def render(config: Config, paths: Paths, store: Store | None = None) -> str:
    """Return the runbook as Markdown; `store` is the one it lies in (all are named anyway)."""
    name = config.settings.host
    elsewhere = sorted(config.stores, key=lambda one: not one.location.startswith("s3:"))
    first = store or (elsewhere[0] if elsewhere else None)
    stores = "\n".join(f"- `{one.name}`: {one.type}, `{one.location}`" for one in config.stores) or "- none"
    components = "\n".join(
        f"| {plan.name} | {plan.schedule} | {', '.join(one.name for one in config.plan_components(plan))} | "
        f"{', '.join(one.name for one in config.plan_stores(plan))} |"
        for plan in config.plans
    )
    location = shlex.quote(first.location) if first else "LOCATION"
    restore = f"python3 restaura.pyz restore --store {location} --kit {name}.kit --host {shlex.quote(name)}"
    # What a running system stands on is refused a restore to its own place.
    apart = [one for one in config.components if isinstance(one, FilesComponent) and set(one.paths) & set(SYSTEM)]
    live = [one for one in config.components if one not in apart]
    acts = [f"{restore} --component {one.name} --to dir:/root/{one.name} --yes" for one in apart]
    acts += [f"{restore} {' '.join(f'--component {one.name}' for one in live)} --yes"] if live else []
    commands = "\n".join([restore, *acts])
    return f"""# Runbook: restore {name}

The points of `{name}` are in:

{stores}

What opens them is the recovery kit of `{name}` (`{name}.kit`), which is kept away from this host. Without it, nothing
can be restored from an encrypted store.

| plan | schedule | components | stores |
| --- | --- | --- | --- |
{components}

## The host is there

```sh
restaura list                               # which points there are
restaura restore --component NAME           # shows what would happen
restaura restore --component NAME --yes     # does it; the data it replaces is kept
restaura undo                               # lists restores that can be swapped back
```

## The host is gone

On a clean Debian 12 or 13 machine, as root:

1. Install `python3`, `restic` (0.18 or newer), `age`, `zstd`, `python3-boto3`, and the servers whose data comes back.
2. Copy `{name}.kit` from where it is kept (`ansible-vault decrypt {name}.kit` when it is encrypted), and `restaura.pyz`
   from the root of a store (for S3 with any client; the keys for it are in the kit).
3. See what is there, then restore. What comes to a directory, the system's own configuration, is for you to copy from.
   Make the accounts that own your data before that data comes back: owners come back by name.

```sh
{commands}
```

4. Put the keys back, and run `setup_backup.yml` for the new machine. It stops at a store in which the old one wrote,
   and names the command that lets this one go on there (`restaura adopt`). Then run it again:

```sh
python3 restaura.pyz keys restore --kit {name}.kit
```

Configuration: `{paths.config}` · keys: `{paths.keys}` · logs: `{paths.logs}`
"""
