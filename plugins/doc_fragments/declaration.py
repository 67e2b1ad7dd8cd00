# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation of a whole declaration. Written by `make generate` from src/restaura; edit that instead."""


class ModuleDocFragment:
    """Options of a declaration."""

    DOCUMENTATION = r"""
options:
  settings:
    description:
      - The host's own settings.
    type: dict
    options:
      host:
        description:
          - 'Name of this host in stores: the inventory name.'
          - A name is letters, digits, '_', '-' and '.', beginning with a letter or digit, at most 63 characters.
        type: str
        required: true
      reserve_percent:
        description:
          - Per cent of a disk that no write of ours may use up.
          - At least 0.
        type: int
        default: 10
      reserve_bytes:
        description:
          - Bytes of a disk that no write of ours may use up; the smaller of the two reserves holds.
          - At least 0.
        type: int
        default: 5000000000
      metrics_file:
        description:
          - Where metrics go for a node exporter's textfile collector, beside `/var/lib/restaura/restaura.prom`.
        type: str
        default: ''
      log_days:
        description:
          - Days that logs are kept.
          - At least 1.
        type: int
        default: 90
  stores:
    description:
      - Where points are kept.
    type: list
    elements: dict
    options:
      name:
        description:
          - Name of the store, unique on the host.
          - A name is letters, digits, '_', '-' and '.', beginning with a letter or digit, at most 63 characters.
        type: str
        required: true
      type:
        description:
          - '`restic` keeps points deduplicated and encrypted; `dated` keeps plain files by date, readable with
            no tool of ours.'
        type: str
        choices:
          - restic
          - dated
        default: restic
      location:
        description:
          - An absolute directory, or `s3:https://ENDPOINT/BUCKET[/PREFIX]`.
          - 'Example: `s3:https://s3.eu-central-1.amazonaws.com/acme-backups/web1`.'
        type: str
        required: true
      s3_access_key:
        description:
          - S3 access key id.
        type: str
      s3_secret_key:
        description:
          - S3 secret access key.
        type: str
      s3_region:
        description:
          - S3 region.
        type: str
        default: us-east-1
      password:
        description:
          - Password of a restic repository. Without one, it is generated on the host once and goes into the recovery
            kit.
        type: str
      compression:
        description:
          - How a dated store compresses (adds `.zst`).
        type: str
        choices:
          - zstd
          - none
        default: zstd
      encrypt:
        description:
          - Whether a dated store encrypts everything with age (adds `.age`). Artifacts that hold secrets are always
            encrypted.
        type: bool
        default: false
      age_recipients:
        description:
          - Further age public keys that can open a dated store, beside the host's own key.
        type: list
        elements: str
        default: []
      host_segment:
        description:
          - Whether a dated store has a folder for each host.
        type: bool
        default: true
      plan_segment:
        description:
          - Whether a dated store has a folder for each plan.
        type: bool
        default: true
      host_may_delete:
        description:
          - 'Whether this host may delete points. With `false`, retention runs elsewhere: `restaura prune` with
            another credential.'
        type: bool
        default: true
  plans:
    description:
      - When which components go into which stores.
    type: list
    elements: dict
    options:
      name:
        description:
          - Name of the plan, unique on the host.
          - A name is letters, digits, '_', '-' and '.', beginning with a letter or digit, at most 63 characters.
        type: str
        required: true
      components:
        description:
          - Names of components; empty means all of the host's.
        type: list
        elements: str
        default: []
      stores:
        description:
          - Names of stores; empty means all of the host's.
        type: list
        elements: str
        default: []
      schedule:
        description:
          - 'When cron runs it: `hourly`, `daily`, `weekly`, `monthly` (at a time drawn from the host''s name),
            an exact time `23:00`, `sun 03:30`, five cron fields, or `never`.'
        type: str
        default: daily
      timezone:
        description:
          - Time zone of point labels, as in `America/Sao_Paulo`; empty means the host's own. Cron itself always
            runs in the host's.
        type: str
        default: ''
      retention:
        description:
          - How long points are kept.
        type: dict
        options:
          keep_last:
            description:
              - Keep this many newest points.
              - At least 0.
            type: int
            default: 3
          keep_within:
            description:
              - 'Keep every point younger than this: a number and `h`, `d`, `w`, `m` (30 days) or `y` (365 days).'
              - 'Example: `7d`.'
            type: str
            default: ''
          keep_daily:
            description:
              - Keep the newest point of this many days that have one.
              - At least 0.
            type: int
            default: 7
          keep_weekly:
            description:
              - Keep the newest point of this many ISO weeks that have one.
              - At least 0.
            type: int
            default: 4
          keep_monthly:
            description:
              - Keep the newest point of this many months that have one.
              - At least 0.
            type: int
            default: 6
          floor:
            description:
              - Never keep fewer good points than this, whatever the other rules say.
              - At least 1.
            type: int
            default: 2
      fingerprint:
        description:
          - '`content` reads every value; `catalog` reads structure, counts and sizes, and is quicker. A run that
            a drill will prove takes `content` whatever stands here.'
        type: str
        choices:
          - content
          - catalog
        default: content
      drill:
        description:
          - 'When the newest point is restored into a throw-away target: `hourly`, `daily`, `weekly`, `monthly`
            (at a time drawn from the host''s name), an exact time `23:00`, `sun 03:30`, five cron fields, or `never`.'
        type: str
        default: weekly
      verify:
        description:
          - 'When stored bytes are read again, a part each time so that all are read within 30 days: `hourly`, `daily`,
            `weekly`, `monthly` (at a time drawn from the host''s name), an exact time `23:00`, `sun 03:30`, five
            cron fields, or `never`.'
        type: str
        default: daily
      pause:
        description:
          - How ingestion is held while components freeze.
        type: dict
        options:
          command:
            description:
              - Shell command that pauses ingestion.
              - 'Example: `systemctl stop ingest.service`.'
            type: str
            required: true
          resume:
            description:
              - Shell command that resumes it; may run twice.
              - 'Example: `systemctl start ingest.service`.'
            type: str
            required: true
          limit:
            description:
              - Seconds after which ingestion is resumed and the run fails.
              - At least 1.
            type: int
            default: 300
      freeze_timeout:
        description:
          - Seconds a component may hold still; beyond it fails.
          - At least 1.
        type: int
        default: 3600
      failure_command:
        description:
          - Shell command run when a run, drill, verify or prune ends with any exit code but 0. Its environment
            has `RESTAURA_PLAN`, `RESTAURA_ACTION`, `RESTAURA_EXIT`, `RESTAURA_SUMMARY`.
        type: str
        default: ''
      heartbeat_url:
        description:
          - URL fetched after every run that ended with exit code 0 (Healthchecks, Uptime Kuma …); `/fail` is not
            added.
        type: str
  components:
    description:
      - 'What is backed up: a list for each source.'
    type: dict
    options: {}
"""
