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
          - A name is letters, digits, '_', '-' and '.', beginning with a letter or digit, at most 63
            characters.
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
      contacts:
        description:
          - Whom to call, in this order, when something must be restored. They head the runbook.
        type: list
        elements: dict
        options:
          name:
            description:
              - 'Who: a person, a team or a supplier.'
              - 'Example: `Ana Souza`.'
            type: str
            required: true
          role:
            description:
              - What they are for.
              - 'Example: `database administrator`.'
            type: str
            default: ''
          email:
            description:
              - E-mail address.
              - 'Example: `ana@example.com`.'
            type: str
            default: ''
          phone:
            description:
              - Telephone number.
              - 'Example: `+55 11 5555-0100`.'
            type: str
            default: ''
          note:
            description:
              - 'What else is to be known: hours, another channel, a contract number. No secret: the runbook
                is not encrypted.'
            type: str
            default: ''
        default: []
  stores:
    description:
      - Where points are kept.
    type: list
    elements: dict
    options:
      name:
        description:
          - Name of the store, unique on the host.
          - A name is letters, digits, '_', '-' and '.', beginning with a letter or digit, at most 63
            characters.
        type: str
        required: true
      type:
        description:
          - '`restic` keeps points deduplicated and encrypted; `dated` keeps plain files by date, readable
            with no tool of ours.'
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
          - Password of a restic repository. Without one, it is generated on the host once and goes into
            the recovery kit.
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
          - Whether a dated store encrypts everything with age (adds `.age`). Artifacts that hold secrets
            are always encrypted.
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
          - 'Whether this host may delete points. With `false`, retention runs elsewhere: `restaura prune`
            with another credential.'
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
          - A name is letters, digits, '_', '-' and '.', beginning with a letter or digit, at most 63
            characters.
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
          - 'When cron runs it: `hourly`, `daily`, `weekly`, `monthly` (at a time drawn from the host''s
            name), an exact time `23:00`, `sun 03:30`, five cron fields, or `never`.'
        type: str
        default: daily
      timezone:
        description:
          - Time zone of point labels, as in `America/Sao_Paulo`; empty means the host's own. Cron itself
            always runs in the host's.
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
              - 'Keep every point younger than this: a number and `h`, `d`, `w`, `m` (30 days) or `y`
                (365 days).'
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
          - '`content` reads every value; `catalog` reads structure, counts and sizes, and is quicker.
            A run that a drill will prove takes `content` whatever stands here.'
        type: str
        choices:
          - content
          - catalog
        default: content
      drill:
        description:
          - 'When the newest point is restored into a throw-away target: `hourly`, `daily`, `weekly`,
            `monthly` (at a time drawn from the host''s name), an exact time `23:00`, `sun 03:30`, five
            cron fields, or `never`.'
        type: str
        default: weekly
      verify:
        description:
          - 'When stored bytes are read again, a part each time so that all are read within 30 days: `hourly`,
            `daily`, `weekly`, `monthly` (at a time drawn from the host''s name), an exact time `23:00`,
            `sun 03:30`, five cron fields, or `never`.'
        type: str
        default: daily
      pause:
        description:
          - 'How ingestion is held while components take their instant: by a command, systemd units, containers
            or an HTTP call. It is held during a restore and an undo of these components too.'
        type: dict
        options:
          command:
            description:
              - Shell command (`/bin/sh -c`) that pauses ingestion, and ends once it is paused.
              - 'Example: `airflow dags pause ingest`.'
            type: str
            default: ''
          resume:
            description:
              - Shell command that resumes what `command` paused; it may run twice.
              - 'Example: `airflow dags unpause ingest`.'
            type: str
            default: ''
          units:
            description:
              - systemd units that are stopped. Only those that ran are started again, with what depends
                on them.
              - 'Example: `[''ingest.timer'', ''ingest.service'']`.'
            type: list
            elements: str
            default: []
          containers:
            description:
              - Containers that are stopped or paused. Only those that ran go on, in the order of their
                Compose projects.
            type: dict
            options:
              names:
                description:
                  - Names of containers. One that is not there fails the run.
                  - 'Example: `[''etl-worker-1'']`.'
                type: list
                elements: str
                default: []
              labels:
                description:
                  - Labels that a container must have, all of them, each `KEY` or `KEY=VALUE`.
                  - 'Example: `[''com.docker.compose.project=etl'']`.'
                type: list
                elements: str
                default: []
              hold:
                description:
                  - '`stop` lets them end what they are at, dependents first; `pause` freezes them in
                    an instant, and what they are at stays half done until they go on.'
                type: str
                choices:
                  - stop
                  - pause
                default: stop
          http:
            description:
              - A service that is asked to pause.
            type: dict
            options:
              pause:
                description:
                  - What pauses it. When the service cannot be reached, the run fails.
                type: dict
                options:
                  url:
                    description:
                      - Where to ask; redirects are not followed.
                      - 'Example: `http://127.0.0.1:8080/ingestion/pause`.'
                    type: str
                    required: true
                  method:
                    description:
                      - Method of the request.
                    type: str
                    choices:
                      - POST
                      - PUT
                      - PATCH
                      - GET
                      - DELETE
                    default: POST
                  body:
                    description:
                      - JSON text that is sent.
                      - 'Example: `{"is_paused": true}`.'
                    type: str
                    default: ''
                  status:
                    description:
                      - Status that the answer must have; 0 is any from 200 to 299.
                      - At least 0.
                    type: int
                    default: 0
                required: true
              resume:
                description:
                  - What lets it go on; it may be sent twice. It is sent again for 30 seconds, and by
                    `restaura recover`.
                type: dict
                options:
                  url:
                    description:
                      - Where to ask; redirects are not followed.
                      - 'Example: `http://127.0.0.1:8080/ingestion/pause`.'
                    type: str
                    required: true
                  method:
                    description:
                      - Method of the request.
                    type: str
                    choices:
                      - POST
                      - PUT
                      - PATCH
                      - GET
                      - DELETE
                    default: POST
                  body:
                    description:
                      - JSON text that is sent.
                      - 'Example: `{"is_paused": true}`.'
                    type: str
                    default: ''
                  status:
                    description:
                      - Status that the answer must have; 0 is any from 200 to 299.
                      - At least 0.
                    type: int
                    default: 0
                required: true
              headers:
                description:
                  - 'Headers of both requests, one a line: `Authorization: Bearer …`.'
                type: str
              ca_file:
                description:
                  - Certificate (PEM) of the authority that signed the service's, when the system does
                    not know it.
                type: str
                default: ''
          only_if:
            description:
              - Shell command. When its exit code is not 0, ingestion does not run, so it is neither paused
                nor resumed.
              - 'Example: `systemctl is-active --quiet airflow-scheduler`.'
            type: str
            default: ''
          steps:
            description:
              - Several things that are paused one after the other, and resumed in reverse order, in place
                of the one above.
            type: list
            elements: dict
            options:
              command:
                description:
                  - Shell command (`/bin/sh -c`) that pauses ingestion, and ends once it is paused.
                  - 'Example: `airflow dags pause ingest`.'
                type: str
                default: ''
              resume:
                description:
                  - Shell command that resumes what `command` paused; it may run twice.
                  - 'Example: `airflow dags unpause ingest`.'
                type: str
                default: ''
              units:
                description:
                  - systemd units that are stopped. Only those that ran are started again, with what depends
                    on them.
                  - 'Example: `[''ingest.timer'', ''ingest.service'']`.'
                type: list
                elements: str
                default: []
              containers:
                description:
                  - Containers that are stopped or paused. Only those that ran go on, in the order of
                    their Compose projects.
                type: dict
                options:
                  names:
                    description:
                      - Names of containers. One that is not there fails the run.
                      - 'Example: `[''etl-worker-1'']`.'
                    type: list
                    elements: str
                    default: []
                  labels:
                    description:
                      - Labels that a container must have, all of them, each `KEY` or `KEY=VALUE`.
                      - 'Example: `[''com.docker.compose.project=etl'']`.'
                    type: list
                    elements: str
                    default: []
                  hold:
                    description:
                      - '`stop` lets them end what they are at, dependents first; `pause` freezes them
                        in an instant, and what they are at stays half done until they go on.'
                    type: str
                    choices:
                      - stop
                      - pause
                    default: stop
              http:
                description:
                  - A service that is asked to pause.
                type: dict
                options:
                  pause:
                    description:
                      - What pauses it. When the service cannot be reached, the run fails.
                    type: dict
                    options:
                      url:
                        description:
                          - Where to ask; redirects are not followed.
                          - 'Example: `http://127.0.0.1:8080/ingestion/pause`.'
                        type: str
                        required: true
                      method:
                        description:
                          - Method of the request.
                        type: str
                        choices:
                          - POST
                          - PUT
                          - PATCH
                          - GET
                          - DELETE
                        default: POST
                      body:
                        description:
                          - JSON text that is sent.
                          - 'Example: `{"is_paused": true}`.'
                        type: str
                        default: ''
                      status:
                        description:
                          - Status that the answer must have; 0 is any from 200 to 299.
                          - At least 0.
                        type: int
                        default: 0
                    required: true
                  resume:
                    description:
                      - What lets it go on; it may be sent twice. It is sent again for 30 seconds, and
                        by `restaura recover`.
                    type: dict
                    options:
                      url:
                        description:
                          - Where to ask; redirects are not followed.
                          - 'Example: `http://127.0.0.1:8080/ingestion/pause`.'
                        type: str
                        required: true
                      method:
                        description:
                          - Method of the request.
                        type: str
                        choices:
                          - POST
                          - PUT
                          - PATCH
                          - GET
                          - DELETE
                        default: POST
                      body:
                        description:
                          - JSON text that is sent.
                          - 'Example: `{"is_paused": true}`.'
                        type: str
                        default: ''
                      status:
                        description:
                          - Status that the answer must have; 0 is any from 200 to 299.
                          - At least 0.
                        type: int
                        default: 0
                    required: true
                  headers:
                    description:
                      - 'Headers of both requests, one a line: `Authorization: Bearer …`.'
                    type: str
                  ca_file:
                    description:
                      - Certificate (PEM) of the authority that signed the service's, when the system
                        does not know it.
                    type: str
                    default: ''
              only_if:
                description:
                  - Shell command. When its exit code is not 0, ingestion does not run, so it is neither
                    paused nor resumed.
                  - 'Example: `systemctl is-active --quiet airflow-scheduler`.'
                type: str
                default: ''
            default: []
          limit:
            description:
              - Seconds after which ingestion is resumed, whatever is still waited for. Components that
                do not hold still by then fail, and with them the run.
              - At least 1.
            type: int
            default: 300
      freeze_timeout:
        description:
          - Seconds a component may hold still; beyond it fails.
          - At least 1.
        type: int
        default: 3600
      stop_limit:
        description:
          - Seconds that services or containers may be stopped for a copy (`stops`); beyond it they are
            started again at once, and their component fails.
          - At least 1.
        type: int
        default: 600
      failure_command:
        description:
          - 'Shell command run when a run, drill, verify or prune ends with any exit code but 0. Its environment
            has `RESTAURA_PLAN`, `RESTAURA_ACTION`, `RESTAURA_EXIT`, `RESTAURA_SUMMARY`. No secret: it
            lies in every store in the clear; have it read a file.'
        type: str
        default: ''
      heartbeat_url:
        description:
          - URL fetched after every run that ended with exit code 0 (Healthchecks, Uptime Kuma …); `/fail`
            is not added.
        type: str
  components:
    description:
      - 'What is backed up: a list for each source.'
    type: dict
    options:
      docker_volumes:
        description:
          - Components of the `docker_volumes` source.
        type: list
        elements: dict
        options:
          name:
            description:
              - Name of the component, unique on the host.
              - A name is letters, digits, '_', '-' and '.', beginning with a letter or digit, at most
                63 characters.
            type: str
            required: true
          accept_torn:
            description:
              - Whether data that could not be captured at one instant (shown as `torn`) may count as
                good.
            type: bool
            default: false
          shrink_guard:
            description:
              - Per cent by which the component may shrink against its last good point before it is kept
                as *suspect*, which evicts nothing until `restaura accept`. 100 turns the guard off.
              - At least 0.
            type: int
            default: 50
          checks:
            description:
              - What must be true of the data, in drills and after restores. Each check has exactly one
                of `command`, `http`, `file`, `json` and `sqlite`.
            type: list
            elements: dict
            options:
              name:
                description:
                  - Name shown in reports.
                  - A name is letters, digits, '_', '-' and '.', beginning with a letter or digit, at
                    most 63 characters.
                type: str
                required: true
              command:
                description:
                  - 'Shell command (`/bin/sh -c`). Exit 0 means the data is good. The environment names
                    the data: `RESTAURA_TARGET` (the directory that stands for `/`, or the socket directory
                    of a database) and what the source adds. No secret: it stands in the runbook, in the
                    clear.'
                  - 'Example: `test -s "$RESTAURA_TARGET/srv/app/orders.csv"`.'
                type: str
                default: ''
              http:
                description:
                  - A service that must answer. Implies `live_only`.
                type: dict
                options:
                  url:
                    description:
                      - Where to ask (GET, redirects are not followed).
                      - 'Example: `http://127.0.0.1:8000/health`.'
                    type: str
                    required: true
                  status:
                    description:
                      - Status that the answer must have.
                      - At least 100.
                    type: int
                    default: 200
                  contains:
                    description:
                      - Text that the answer's first 10 MB must hold.
                      - 'Example: `"status": "ok"`.'
                    type: str
                    default: ''
              file:
                description:
                  - Files that must be there, and hold something.
                type: dict
                options:
                  path:
                    description:
                      - 'Absolute path, as it is on the live host. Shell patterns are allowed (`*`, `?`,
                        `[a-z]`, and `**` for any number of directories): at least one file must match,
                        and all that do are looked at.'
                      - 'Example: `/srv/app/settings.ini`.'
                    type: str
                    required: true
                  contains:
                    description:
                      - Text that each must hold.
                      - 'Example: `DATABASE_URL=`.'
                    type: str
                    default: ''
                  matches:
                    description:
                      - Python regular expression that must be found in each; `^` and `$` are a line's
                        ends.
                      - 'Example: `^version = [0-9]+$`.'
                    type: str
                    default: ''
              json:
                description:
                  - JSON files that must parse.
                type: dict
                options:
                  path:
                    description:
                      - 'Absolute path, as it is on the live host. Shell patterns are allowed (`*`, `?`,
                        `[a-z]`, and `**` for any number of directories): at least one file must match,
                        and all that do are looked at.'
                      - 'Example: `/srv/app/cache/*.json`.'
                    type: str
                    required: true
                  keys:
                    description:
                      - Keys that the object in each must have.
                      - 'Example: `[''collected_at'', ''entities'']`.'
                    type: list
                    elements: str
                    default: []
              sqlite:
                description:
                  - SQLite databases that must be whole.
                type: dict
                options:
                  path:
                    description:
                      - 'Absolute path, as it is on the live host. Shell patterns are allowed (`*`, `?`,
                        `[a-z]`, and `**` for any number of directories): at least one file must match,
                        and all that do are looked at.'
                      - 'Example: `/srv/app/app.db`.'
                    type: str
                    required: true
              live_only:
                description:
                  - 'Whether the check needs the running system (its services, its network): then it is
                    run after a restore to `live` and by `restaura check`, and in no drill.'
                type: bool
                default: false
              timeout:
                description:
                  - Seconds after which the check has failed. A service that cannot be reached, or answers
                    that it is not ready (502, 503, 504), is asked again until then.
                  - At least 1.
                type: int
                default: 300
            default: []
          volumes:
            description:
              - Names of volumes, or shell patterns (`*`, `?`, `[a-z]`). A name without a pattern must
                be there.
              - 'Example: `[''shop_uploads'', ''wiki_*'']`.'
            type: list
            elements: str
            default: []
          labels:
            description:
              - 'Volumes that have one of these labels: `KEY`, or `KEY=VALUE`.'
              - 'Example: `[''backup=yes'']`.'
            type: list
            elements: str
            default: []
          projects:
            description:
              - Compose projects, with all of their volumes.
              - 'Example: `[''shop'']`.'
            type: list
            elements: str
            default: []
          all:
            description:
              - Whether to take all volumes and Compose projects.
            type: bool
            default: false
          exclude:
            description:
              - Names of volumes, or shell patterns, to leave out whatever chooses them.
              - 'Example: `[''shop_cache'']`.'
            type: list
            elements: str
            default: []
          anonymous:
            description:
              - Whether to take volumes that have no name of their own too. Else they are only reported.
            type: bool
            default: false
          hold:
            description:
              - 'How volumes are held still: `stop` stops the containers that write to them, and starts
                those that ran again; `pause` freezes these, which is as a power cut would leave the data;
                `none` lets them run: what changes meanwhile is shown as `crash` or `torn`.'
            type: str
            choices:
              - stop
              - pause
              - none
            default: stop
          holds:
            description:
              - Volumes that are held in another way. The first that names a volume counts.
            type: list
            elements: dict
            options:
              volumes:
                description:
                  - Names of volumes, or shell patterns.
                  - 'Example: `[''shop_db'']`.'
                type: list
                elements: str
                required: true
              hold:
                description:
                  - '`stop` stops the containers that write to them, and starts those that ran again;
                    `pause` freezes these, which is as a power cut would leave the data; `none` lets them
                    run: what changes meanwhile is shown as `crash` or `torn`; `command` runs `command`
                    in a container before they are read, and `resume` after.'
                type: str
                choices:
                  - stop
                  - pause
                  - command
                  - none
                default: command
              container:
                description:
                  - The container that the commands are run in.
                  - 'Example: `shop-db-1`.'
                type: str
                default: ''
              user:
                description:
                  - 'The account in the container that runs them. Empty: the image''s own.'
                type: str
                default: ''
              command:
                description:
                  - Shell command that makes the volumes hold still, or writes what is to be kept into
                    them.
                  - 'Example: `redis-cli save`.'
                type: str
                default: ''
              resume:
                description:
                  - Shell command that takes it back; may run twice.
                type: str
                default: ''
            default: []
          stop_timeout:
            description:
              - Seconds that a container gets to stop before Docker kills it; 0 is its own (`stop_grace_period`).
              - At least 0.
            type: int
            default: 0
          project_files:
            description:
              - Whether Compose projects that are taken come with their Compose files, `.env` and other
                files that these name, and the bind mounts below the project's directory. No store keeps
                them in the clear.
            type: bool
            default: true
      files:
        description:
          - Components of the `files` source.
        type: list
        elements: dict
        options:
          name:
            description:
              - Name of the component, unique on the host.
              - A name is letters, digits, '_', '-' and '.', beginning with a letter or digit, at most
                63 characters.
            type: str
            required: true
          accept_torn:
            description:
              - Whether data that could not be captured at one instant (shown as `torn`) may count as
                good.
            type: bool
            default: false
          shrink_guard:
            description:
              - Per cent by which the component may shrink against its last good point before it is kept
                as *suspect*, which evicts nothing until `restaura accept`. 100 turns the guard off.
              - At least 0.
            type: int
            default: 50
          checks:
            description:
              - What must be true of the data, in drills and after restores. Each check has exactly one
                of `command`, `http`, `file`, `json` and `sqlite`.
            type: list
            elements: dict
            options:
              name:
                description:
                  - Name shown in reports.
                  - A name is letters, digits, '_', '-' and '.', beginning with a letter or digit, at
                    most 63 characters.
                type: str
                required: true
              command:
                description:
                  - 'Shell command (`/bin/sh -c`). Exit 0 means the data is good. The environment names
                    the data: `RESTAURA_TARGET` (the directory that stands for `/`, or the socket directory
                    of a database) and what the source adds. No secret: it stands in the runbook, in the
                    clear.'
                  - 'Example: `test -s "$RESTAURA_TARGET/srv/app/orders.csv"`.'
                type: str
                default: ''
              http:
                description:
                  - A service that must answer. Implies `live_only`.
                type: dict
                options:
                  url:
                    description:
                      - Where to ask (GET, redirects are not followed).
                      - 'Example: `http://127.0.0.1:8000/health`.'
                    type: str
                    required: true
                  status:
                    description:
                      - Status that the answer must have.
                      - At least 100.
                    type: int
                    default: 200
                  contains:
                    description:
                      - Text that the answer's first 10 MB must hold.
                      - 'Example: `"status": "ok"`.'
                    type: str
                    default: ''
              file:
                description:
                  - Files that must be there, and hold something.
                type: dict
                options:
                  path:
                    description:
                      - 'Absolute path, as it is on the live host. Shell patterns are allowed (`*`, `?`,
                        `[a-z]`, and `**` for any number of directories): at least one file must match,
                        and all that do are looked at.'
                      - 'Example: `/srv/app/settings.ini`.'
                    type: str
                    required: true
                  contains:
                    description:
                      - Text that each must hold.
                      - 'Example: `DATABASE_URL=`.'
                    type: str
                    default: ''
                  matches:
                    description:
                      - Python regular expression that must be found in each; `^` and `$` are a line's
                        ends.
                      - 'Example: `^version = [0-9]+$`.'
                    type: str
                    default: ''
              json:
                description:
                  - JSON files that must parse.
                type: dict
                options:
                  path:
                    description:
                      - 'Absolute path, as it is on the live host. Shell patterns are allowed (`*`, `?`,
                        `[a-z]`, and `**` for any number of directories): at least one file must match,
                        and all that do are looked at.'
                      - 'Example: `/srv/app/cache/*.json`.'
                    type: str
                    required: true
                  keys:
                    description:
                      - Keys that the object in each must have.
                      - 'Example: `[''collected_at'', ''entities'']`.'
                    type: list
                    elements: str
                    default: []
              sqlite:
                description:
                  - SQLite databases that must be whole.
                type: dict
                options:
                  path:
                    description:
                      - 'Absolute path, as it is on the live host. Shell patterns are allowed (`*`, `?`,
                        `[a-z]`, and `**` for any number of directories): at least one file must match,
                        and all that do are looked at.'
                      - 'Example: `/srv/app/app.db`.'
                    type: str
                    required: true
              live_only:
                description:
                  - 'Whether the check needs the running system (its services, its network): then it is
                    run after a restore to `live` and by `restaura check`, and in no drill.'
                type: bool
                default: false
              timeout:
                description:
                  - Seconds after which the check has failed. A service that cannot be reached, or answers
                    that it is not ready (502, 503, 504), is asked again until then.
                  - At least 1.
                type: int
                default: 300
            default: []
          paths:
            description:
              - Absolute directories and files to back up, none inside another.
              - 'Example: `[''/srv/app'', ''/etc'']`.'
            type: list
            elements: str
            required: true
          exclude:
            description:
              - 'What to leave out. Shell patterns as in .gitignore: `*`, `?` and `[a-z]` stay within
                one name, `**` is any number of directories, a trailing `/` means directories only. A
                pattern that begins with `/` is matched against the absolute path, any other against the
                end of it. What matches takes along all that is below it.'
              - 'Example: `[''node_modules/'', ''*.tmp'', ''/srv/app/cache/**'']`.'
            type: list
            elements: str
            default: []
          include:
            description:
              - Patterns of the same kind that win over `exclude`.
              - 'Example: `[''/srv/app/cache/keep/'']`.'
            type: list
            elements: str
            default: []
          one_file_system:
            description:
              - Whether to stay on the file system of each path; other mounts below are reported and kept
                as empty directories. Pseudo file systems are never entered.
            type: bool
            default: true
          sqlite:
            description:
              - 'How SQLite databases are copied: `backup` through SQLite, as of one transaction, or `plain`
                like other files.'
            type: str
            choices:
              - backup
              - plain
            default: backup
          secret:
            description:
              - 'Whether the files are secret: then no store keeps them, or their names, in the clear.'
            type: bool
            default: false
          stops:
            description:
              - systemd units that are stopped while what changed in their files is copied, and while
                restored files change places with live ones. Only those that ran are started again, always.
                The plan's `stop_limit` bounds it.
              - 'Example: `[''app.service'']`.'
            type: list
            elements: str
            default: []
          restore_stops:
            description:
              - systemd units that are stopped only while restored files change places with live ones,
                if they run.
              - 'Example: `[''app.service'']`.'
            type: list
            elements: str
            default: []
      grafana:
        description:
          - Components of the `grafana` source.
        type: list
        elements: dict
        options:
          name:
            description:
              - Name of the component, unique on the host.
              - A name is letters, digits, '_', '-' and '.', beginning with a letter or digit, at most
                63 characters.
            type: str
            required: true
          accept_torn:
            description:
              - Whether data that could not be captured at one instant (shown as `torn`) may count as
                good.
            type: bool
            default: false
          shrink_guard:
            description:
              - Per cent by which the component may shrink against its last good point before it is kept
                as *suspect*, which evicts nothing until `restaura accept`. 100 turns the guard off.
              - At least 0.
            type: int
            default: 50
          checks:
            description:
              - What must be true of the data, in drills and after restores. Each check has exactly one
                of `command`, `http`, `file`, `json` and `sqlite`.
            type: list
            elements: dict
            options:
              name:
                description:
                  - Name shown in reports.
                  - A name is letters, digits, '_', '-' and '.', beginning with a letter or digit, at
                    most 63 characters.
                type: str
                required: true
              command:
                description:
                  - 'Shell command (`/bin/sh -c`). Exit 0 means the data is good. The environment names
                    the data: `RESTAURA_TARGET` (the directory that stands for `/`, or the socket directory
                    of a database) and what the source adds. No secret: it stands in the runbook, in the
                    clear.'
                  - 'Example: `test -s "$RESTAURA_TARGET/srv/app/orders.csv"`.'
                type: str
                default: ''
              http:
                description:
                  - A service that must answer. Implies `live_only`.
                type: dict
                options:
                  url:
                    description:
                      - Where to ask (GET, redirects are not followed).
                      - 'Example: `http://127.0.0.1:8000/health`.'
                    type: str
                    required: true
                  status:
                    description:
                      - Status that the answer must have.
                      - At least 100.
                    type: int
                    default: 200
                  contains:
                    description:
                      - Text that the answer's first 10 MB must hold.
                      - 'Example: `"status": "ok"`.'
                    type: str
                    default: ''
              file:
                description:
                  - Files that must be there, and hold something.
                type: dict
                options:
                  path:
                    description:
                      - 'Absolute path, as it is on the live host. Shell patterns are allowed (`*`, `?`,
                        `[a-z]`, and `**` for any number of directories): at least one file must match,
                        and all that do are looked at.'
                      - 'Example: `/srv/app/settings.ini`.'
                    type: str
                    required: true
                  contains:
                    description:
                      - Text that each must hold.
                      - 'Example: `DATABASE_URL=`.'
                    type: str
                    default: ''
                  matches:
                    description:
                      - Python regular expression that must be found in each; `^` and `$` are a line's
                        ends.
                      - 'Example: `^version = [0-9]+$`.'
                    type: str
                    default: ''
              json:
                description:
                  - JSON files that must parse.
                type: dict
                options:
                  path:
                    description:
                      - 'Absolute path, as it is on the live host. Shell patterns are allowed (`*`, `?`,
                        `[a-z]`, and `**` for any number of directories): at least one file must match,
                        and all that do are looked at.'
                      - 'Example: `/srv/app/cache/*.json`.'
                    type: str
                    required: true
                  keys:
                    description:
                      - Keys that the object in each must have.
                      - 'Example: `[''collected_at'', ''entities'']`.'
                    type: list
                    elements: str
                    default: []
              sqlite:
                description:
                  - SQLite databases that must be whole.
                type: dict
                options:
                  path:
                    description:
                      - 'Absolute path, as it is on the live host. Shell patterns are allowed (`*`, `?`,
                        `[a-z]`, and `**` for any number of directories): at least one file must match,
                        and all that do are looked at.'
                      - 'Example: `/srv/app/app.db`.'
                    type: str
                    required: true
              live_only:
                description:
                  - 'Whether the check needs the running system (its services, its network): then it is
                    run after a restore to `live` and by `restaura check`, and in no drill.'
                type: bool
                default: false
              timeout:
                description:
                  - Seconds after which the check has failed. A service that cannot be reached, or answers
                    that it is not ready (502, 503, 504), is asked again until then.
                  - At least 1.
                type: int
                default: 300
            default: []
          unit:
            description:
              - 'Its systemd unit. With `unit: ''''` and no `container` it is elsewhere: `url` and a token
                then give its export.'
            type: str
            default: grafana-server.service
          container:
            description:
              - Name of the container that it runs in.
            type: str
            default: ''
          config:
            description:
              - 'Path of grafana.ini, as Grafana sees it. Empty: as its environment says, or /etc/grafana/grafana.ini.'
            type: str
            default: ''
          url:
            description:
              - 'Where its API answers. Empty: what its settings say, at 127.0.0.1 or the container''s
                address.'
              - 'Example: `https://grafana.example.com`.'
            type: str
            default: ''
          ca_file:
            description:
              - PEM file of the only authority to trust.
            type: str
            default: ''
          token:
            description:
              - Token of a service account with the role Admin, for the export. Without it and `password`,
                dashboards are exported from the database, and all else stands in `grafana.db` alone.
            type: str
          user:
            description:
              - User, where there is a `password` and no `token`.
            type: str
            default: admin
          password:
            description:
              - Password of that user.
            type: str
          org:
            description:
              - Organisation to export; 0 is that of the token, or the user's own.
              - At least 0.
            type: int
            default: 0
          external_database:
            description:
              - 'Whether its Postgres or MySQL database is another component''s business: this one then
                holds all the rest.'
            type: bool
            default: false
          stop_timeout:
            description:
              - Seconds that its container gets to stop for a restore, before Docker kills it.
              - At least 1.
            type: int
            default: 30
      infra:
        description:
          - Components of the `infra` source.
        type: list
        elements: dict
        options:
          name:
            description:
              - Name of the component, unique on the host.
              - A name is letters, digits, '_', '-' and '.', beginning with a letter or digit, at most
                63 characters.
            type: str
            required: true
          accept_torn:
            description:
              - Whether data that could not be captured at one instant (shown as `torn`) may count as
                good.
            type: bool
            default: false
          shrink_guard:
            description:
              - Per cent by which the component may shrink against its last good point before it is kept
                as *suspect*, which evicts nothing until `restaura accept`. 100 turns the guard off.
              - At least 0.
            type: int
            default: 50
          checks:
            description:
              - What must be true of the data, in drills and after restores. Each check has exactly one
                of `command`, `http`, `file`, `json` and `sqlite`.
            type: list
            elements: dict
            options:
              name:
                description:
                  - Name shown in reports.
                  - A name is letters, digits, '_', '-' and '.', beginning with a letter or digit, at
                    most 63 characters.
                type: str
                required: true
              command:
                description:
                  - 'Shell command (`/bin/sh -c`). Exit 0 means the data is good. The environment names
                    the data: `RESTAURA_TARGET` (the directory that stands for `/`, or the socket directory
                    of a database) and what the source adds. No secret: it stands in the runbook, in the
                    clear.'
                  - 'Example: `test -s "$RESTAURA_TARGET/srv/app/orders.csv"`.'
                type: str
                default: ''
              http:
                description:
                  - A service that must answer. Implies `live_only`.
                type: dict
                options:
                  url:
                    description:
                      - Where to ask (GET, redirects are not followed).
                      - 'Example: `http://127.0.0.1:8000/health`.'
                    type: str
                    required: true
                  status:
                    description:
                      - Status that the answer must have.
                      - At least 100.
                    type: int
                    default: 200
                  contains:
                    description:
                      - Text that the answer's first 10 MB must hold.
                      - 'Example: `"status": "ok"`.'
                    type: str
                    default: ''
              file:
                description:
                  - Files that must be there, and hold something.
                type: dict
                options:
                  path:
                    description:
                      - 'Absolute path, as it is on the live host. Shell patterns are allowed (`*`, `?`,
                        `[a-z]`, and `**` for any number of directories): at least one file must match,
                        and all that do are looked at.'
                      - 'Example: `/srv/app/settings.ini`.'
                    type: str
                    required: true
                  contains:
                    description:
                      - Text that each must hold.
                      - 'Example: `DATABASE_URL=`.'
                    type: str
                    default: ''
                  matches:
                    description:
                      - Python regular expression that must be found in each; `^` and `$` are a line's
                        ends.
                      - 'Example: `^version = [0-9]+$`.'
                    type: str
                    default: ''
              json:
                description:
                  - JSON files that must parse.
                type: dict
                options:
                  path:
                    description:
                      - 'Absolute path, as it is on the live host. Shell patterns are allowed (`*`, `?`,
                        `[a-z]`, and `**` for any number of directories): at least one file must match,
                        and all that do are looked at.'
                      - 'Example: `/srv/app/cache/*.json`.'
                    type: str
                    required: true
                  keys:
                    description:
                      - Keys that the object in each must have.
                      - 'Example: `[''collected_at'', ''entities'']`.'
                    type: list
                    elements: str
                    default: []
              sqlite:
                description:
                  - SQLite databases that must be whole.
                type: dict
                options:
                  path:
                    description:
                      - 'Absolute path, as it is on the live host. Shell patterns are allowed (`*`, `?`,
                        `[a-z]`, and `**` for any number of directories): at least one file must match,
                        and all that do are looked at.'
                      - 'Example: `/srv/app/app.db`.'
                    type: str
                    required: true
              live_only:
                description:
                  - 'Whether the check needs the running system (its services, its network): then it is
                    run after a restore to `live` and by `restaura check`, and in no drill.'
                type: bool
                default: false
              timeout:
                description:
                  - Seconds after which the check has failed. A service that cannot be reached, or answers
                    that it is not ready (502, 503, 504), is asked again until then.
                  - At least 1.
                type: int
                default: 300
            default: []
          directory:
            description:
              - Absolute directory that the files are in, and that paths are relative to.
              - 'Example: `/srv/app`.'
            type: str
            required: true
          files:
            description:
              - Further files and directories to back up, absolute or relative to `directory`.
              - 'Example: `[''requirements.txt'', ''src'']`.'
            type: list
            elements: str
            default: []
          exclude:
            description:
              - 'What to leave out of directories: patterns as in `files` components.'
            type: list
            elements: str
            default:
              - __pycache__/
              - .git/
              - .venv/
              - node_modules/
          secrets:
            description:
              - 'Patterns of the same kind: files that no store keeps in the clear.'
            type: list
            elements: str
            default:
              - .env
              - .env.*
              - '*.env'
              - '*.key'
              - '*.pem'
          restore_stops:
            description:
              - systemd units that are stopped while restored files change places with live ones, if they
                run.
              - 'Example: `[''app.service'']`.'
            type: list
            elements: str
            default: []
          compose:
            description:
              - Compose files, as they are given to `docker compose -f`. `NAME.override.yaml` beside the
                first goes with it. What they name (`include`, `extends`, `env_file`, `secrets`, `configs`)
                goes along.
            type: list
            elements: str
            default:
              - docker-compose.yaml
          env:
            description:
              - Files of variables; always encrypted.
            type: list
            elements: str
            default:
              - .env
          variables:
            description:
              - Variables of the Compose files that are given in another way than by `env`.
              - 'Example: `[''TAG'']`.'
            type: list
            elements: str
            default: []
          kubernetes:
            description:
              - Kubernetes manifests and directories of them. Those of a Secret are encrypted.
              - 'Example: `[''k8s'']`.'
            type: list
            elements: str
            default: []
          scripts:
            description:
              - Directories of scripts, kept as `etl_scripts.tar.gz`.
              - 'Example: `[''/opt/etl'']`.'
            type: list
            elements: str
            default: []
          images:
            description:
              - Whether the digests of the images that the stack runs are kept, where there is a Docker
                daemon.
            type: bool
            default: true
      langchain:
        description:
          - Components of the `langchain` source.
        type: list
        elements: dict
        options:
          name:
            description:
              - Name of the component, unique on the host.
              - A name is letters, digits, '_', '-' and '.', beginning with a letter or digit, at most
                63 characters.
            type: str
            required: true
          accept_torn:
            description:
              - Whether data that could not be captured at one instant (shown as `torn`) may count as
                good.
            type: bool
            default: false
          shrink_guard:
            description:
              - Per cent by which the component may shrink against its last good point before it is kept
                as *suspect*, which evicts nothing until `restaura accept`. 100 turns the guard off.
              - At least 0.
            type: int
            default: 50
          checks:
            description:
              - What must be true of the data, in drills and after restores. Each check has exactly one
                of `command`, `http`, `file`, `json` and `sqlite`.
            type: list
            elements: dict
            options:
              name:
                description:
                  - Name shown in reports.
                  - A name is letters, digits, '_', '-' and '.', beginning with a letter or digit, at
                    most 63 characters.
                type: str
                required: true
              command:
                description:
                  - 'Shell command (`/bin/sh -c`). Exit 0 means the data is good. The environment names
                    the data: `RESTAURA_TARGET` (the directory that stands for `/`, or the socket directory
                    of a database) and what the source adds. No secret: it stands in the runbook, in the
                    clear.'
                  - 'Example: `test -s "$RESTAURA_TARGET/srv/app/orders.csv"`.'
                type: str
                default: ''
              http:
                description:
                  - A service that must answer. Implies `live_only`.
                type: dict
                options:
                  url:
                    description:
                      - Where to ask (GET, redirects are not followed).
                      - 'Example: `http://127.0.0.1:8000/health`.'
                    type: str
                    required: true
                  status:
                    description:
                      - Status that the answer must have.
                      - At least 100.
                    type: int
                    default: 200
                  contains:
                    description:
                      - Text that the answer's first 10 MB must hold.
                      - 'Example: `"status": "ok"`.'
                    type: str
                    default: ''
              file:
                description:
                  - Files that must be there, and hold something.
                type: dict
                options:
                  path:
                    description:
                      - 'Absolute path, as it is on the live host. Shell patterns are allowed (`*`, `?`,
                        `[a-z]`, and `**` for any number of directories): at least one file must match,
                        and all that do are looked at.'
                      - 'Example: `/srv/app/settings.ini`.'
                    type: str
                    required: true
                  contains:
                    description:
                      - Text that each must hold.
                      - 'Example: `DATABASE_URL=`.'
                    type: str
                    default: ''
                  matches:
                    description:
                      - Python regular expression that must be found in each; `^` and `$` are a line's
                        ends.
                      - 'Example: `^version = [0-9]+$`.'
                    type: str
                    default: ''
              json:
                description:
                  - JSON files that must parse.
                type: dict
                options:
                  path:
                    description:
                      - 'Absolute path, as it is on the live host. Shell patterns are allowed (`*`, `?`,
                        `[a-z]`, and `**` for any number of directories): at least one file must match,
                        and all that do are looked at.'
                      - 'Example: `/srv/app/cache/*.json`.'
                    type: str
                    required: true
                  keys:
                    description:
                      - Keys that the object in each must have.
                      - 'Example: `[''collected_at'', ''entities'']`.'
                    type: list
                    elements: str
                    default: []
              sqlite:
                description:
                  - SQLite databases that must be whole.
                type: dict
                options:
                  path:
                    description:
                      - 'Absolute path, as it is on the live host. Shell patterns are allowed (`*`, `?`,
                        `[a-z]`, and `**` for any number of directories): at least one file must match,
                        and all that do are looked at.'
                      - 'Example: `/srv/app/app.db`.'
                    type: str
                    required: true
              live_only:
                description:
                  - 'Whether the check needs the running system (its services, its network): then it is
                    run after a restore to `live` and by `restaura check`, and in no drill.'
                type: bool
                default: false
              timeout:
                description:
                  - Seconds after which the check has failed. A service that cannot be reached, or answers
                    that it is not ready (502, 503, 504), is asked again until then.
                  - At least 1.
                type: int
                default: 300
            default: []
          directory:
            description:
              - Absolute directory that the files are in, and that paths are relative to.
              - 'Example: `/srv/app`.'
            type: str
            required: true
          files:
            description:
              - Further files and directories to back up, absolute or relative to `directory`.
              - 'Example: `[''requirements.txt'', ''src'']`.'
            type: list
            elements: str
            default: []
          exclude:
            description:
              - 'What to leave out of directories: patterns as in `files` components.'
            type: list
            elements: str
            default:
              - __pycache__/
              - .git/
              - .venv/
              - node_modules/
          secrets:
            description:
              - 'Patterns of the same kind: files that no store keeps in the clear.'
            type: list
            elements: str
            default:
              - .env
              - .env.*
              - '*.env'
              - '*.key'
              - '*.pem'
          restore_stops:
            description:
              - systemd units that are stopped while restored files change places with live ones, if they
                run.
              - 'Example: `[''app.service'']`.'
            type: list
            elements: str
            default: []
          prompts:
            description:
              - 'Its prompt templates, YAML or JSON. Empty: there are none.'
            type: str
            default: prompts.yaml
          chains:
            description:
              - 'Its chains. Empty: there are none.'
            type: str
            default: chains.json
          agents:
            description:
              - 'Its agents. Empty: there are none.'
            type: str
            default: agents.yaml
          python:
            description:
              - 'Python interpreter that has the application''s langchain-core. With one, prompts are
                loaded by it at preflight and in drills: as an account without rights, without network,
                from copies of the files. Empty: they are not.'
              - 'Example: `/srv/app/.venv/bin/python`.'
            type: str
            default: ''
      langsmith:
        description:
          - Components of the `langsmith` source.
        type: list
        elements: dict
        options:
          name:
            description:
              - Name of the component, unique on the host.
              - A name is letters, digits, '_', '-' and '.', beginning with a letter or digit, at most
                63 characters.
            type: str
            required: true
          accept_torn:
            description:
              - Whether data that could not be captured at one instant (shown as `torn`) may count as
                good.
            type: bool
            default: false
          shrink_guard:
            description:
              - Per cent by which the component may shrink against its last good point before it is kept
                as *suspect*, which evicts nothing until `restaura accept`. 100 turns the guard off.
              - At least 0.
            type: int
            default: 50
          checks:
            description:
              - What must be true of the data, in drills and after restores. Each check has exactly one
                of `command`, `http`, `file`, `json` and `sqlite`.
            type: list
            elements: dict
            options:
              name:
                description:
                  - Name shown in reports.
                  - A name is letters, digits, '_', '-' and '.', beginning with a letter or digit, at
                    most 63 characters.
                type: str
                required: true
              command:
                description:
                  - 'Shell command (`/bin/sh -c`). Exit 0 means the data is good. The environment names
                    the data: `RESTAURA_TARGET` (the directory that stands for `/`, or the socket directory
                    of a database) and what the source adds. No secret: it stands in the runbook, in the
                    clear.'
                  - 'Example: `test -s "$RESTAURA_TARGET/srv/app/orders.csv"`.'
                type: str
                default: ''
              http:
                description:
                  - A service that must answer. Implies `live_only`.
                type: dict
                options:
                  url:
                    description:
                      - Where to ask (GET, redirects are not followed).
                      - 'Example: `http://127.0.0.1:8000/health`.'
                    type: str
                    required: true
                  status:
                    description:
                      - Status that the answer must have.
                      - At least 100.
                    type: int
                    default: 200
                  contains:
                    description:
                      - Text that the answer's first 10 MB must hold.
                      - 'Example: `"status": "ok"`.'
                    type: str
                    default: ''
              file:
                description:
                  - Files that must be there, and hold something.
                type: dict
                options:
                  path:
                    description:
                      - 'Absolute path, as it is on the live host. Shell patterns are allowed (`*`, `?`,
                        `[a-z]`, and `**` for any number of directories): at least one file must match,
                        and all that do are looked at.'
                      - 'Example: `/srv/app/settings.ini`.'
                    type: str
                    required: true
                  contains:
                    description:
                      - Text that each must hold.
                      - 'Example: `DATABASE_URL=`.'
                    type: str
                    default: ''
                  matches:
                    description:
                      - Python regular expression that must be found in each; `^` and `$` are a line's
                        ends.
                      - 'Example: `^version = [0-9]+$`.'
                    type: str
                    default: ''
              json:
                description:
                  - JSON files that must parse.
                type: dict
                options:
                  path:
                    description:
                      - 'Absolute path, as it is on the live host. Shell patterns are allowed (`*`, `?`,
                        `[a-z]`, and `**` for any number of directories): at least one file must match,
                        and all that do are looked at.'
                      - 'Example: `/srv/app/cache/*.json`.'
                    type: str
                    required: true
                  keys:
                    description:
                      - Keys that the object in each must have.
                      - 'Example: `[''collected_at'', ''entities'']`.'
                    type: list
                    elements: str
                    default: []
              sqlite:
                description:
                  - SQLite databases that must be whole.
                type: dict
                options:
                  path:
                    description:
                      - 'Absolute path, as it is on the live host. Shell patterns are allowed (`*`, `?`,
                        `[a-z]`, and `**` for any number of directories): at least one file must match,
                        and all that do are looked at.'
                      - 'Example: `/srv/app/app.db`.'
                    type: str
                    required: true
              live_only:
                description:
                  - 'Whether the check needs the running system (its services, its network): then it is
                    run after a restore to `live` and by `restaura check`, and in no drill.'
                type: bool
                default: false
              timeout:
                description:
                  - Seconds after which the check has failed. A service that cannot be reached, or answers
                    that it is not ready (502, 503, 504), is asked again until then.
                  - At least 1.
                type: int
                default: 300
            default: []
          url:
            description:
              - Address of the API. In the EU `https://eu.api.smith.langchain.com`; self-hosted, the address
                of the server.
            type: str
            default: https://api.smith.langchain.com
          api_key:
            description:
              - API key; a restore needs one that may write.
            type: str
          workspace:
            description:
              - Id of the workspace; needed with a key of a whole organisation.
            type: str
            default: ''
          ca_file:
            description:
              - 'PEM file of the only authority that is trusted; empty: the host''s.'
            type: str
            default: ''
          projects:
            description:
              - 'Projects whose runs are read (shell patterns); empty: all.'
              - 'Example: `[''shop-*'']`.'
            type: list
            elements: str
            default: []
          exclude_projects:
            description:
              - Projects that are left out (shell patterns).
            type: list
            elements: str
            default: []
          since:
            description:
              - 'Day from which runs are read the first time; empty: all that the server has.'
              - 'Example: `2026-01-01`.'
            type: str
            default: ''
          late_hours:
            description:
              - Hours before the last point that are read again, for runs that came or ended late.
              - At least 1.
            type: int
            default: 48
          page_size:
            description:
              - Runs asked for at a time (at most 1000).
              - At least 1.
            type: int
            default: 100
          compare_counts:
            description:
              - Whether the number of runs must not be short of what the server counts (`/runs/stats`).
            type: bool
            default: true
          requests_per_minute:
            description:
              - Requests sent in a minute, at most.
              - At least 1.
            type: int
            default: 600
          deadline:
            description:
              - Seconds for reading the workspace before the freeze, and again after it.
              - At least 1.
            type: int
            default: 3000
      llm:
        description:
          - Components of the `llm` source.
        type: list
        elements: dict
        options:
          name:
            description:
              - Name of the component, unique on the host.
              - A name is letters, digits, '_', '-' and '.', beginning with a letter or digit, at most
                63 characters.
            type: str
            required: true
          accept_torn:
            description:
              - Whether data that could not be captured at one instant (shown as `torn`) may count as
                good.
            type: bool
            default: false
          shrink_guard:
            description:
              - Per cent by which the component may shrink against its last good point before it is kept
                as *suspect*, which evicts nothing until `restaura accept`. 100 turns the guard off.
              - At least 0.
            type: int
            default: 50
          checks:
            description:
              - What must be true of the data, in drills and after restores. Each check has exactly one
                of `command`, `http`, `file`, `json` and `sqlite`.
            type: list
            elements: dict
            options:
              name:
                description:
                  - Name shown in reports.
                  - A name is letters, digits, '_', '-' and '.', beginning with a letter or digit, at
                    most 63 characters.
                type: str
                required: true
              command:
                description:
                  - 'Shell command (`/bin/sh -c`). Exit 0 means the data is good. The environment names
                    the data: `RESTAURA_TARGET` (the directory that stands for `/`, or the socket directory
                    of a database) and what the source adds. No secret: it stands in the runbook, in the
                    clear.'
                  - 'Example: `test -s "$RESTAURA_TARGET/srv/app/orders.csv"`.'
                type: str
                default: ''
              http:
                description:
                  - A service that must answer. Implies `live_only`.
                type: dict
                options:
                  url:
                    description:
                      - Where to ask (GET, redirects are not followed).
                      - 'Example: `http://127.0.0.1:8000/health`.'
                    type: str
                    required: true
                  status:
                    description:
                      - Status that the answer must have.
                      - At least 100.
                    type: int
                    default: 200
                  contains:
                    description:
                      - Text that the answer's first 10 MB must hold.
                      - 'Example: `"status": "ok"`.'
                    type: str
                    default: ''
              file:
                description:
                  - Files that must be there, and hold something.
                type: dict
                options:
                  path:
                    description:
                      - 'Absolute path, as it is on the live host. Shell patterns are allowed (`*`, `?`,
                        `[a-z]`, and `**` for any number of directories): at least one file must match,
                        and all that do are looked at.'
                      - 'Example: `/srv/app/settings.ini`.'
                    type: str
                    required: true
                  contains:
                    description:
                      - Text that each must hold.
                      - 'Example: `DATABASE_URL=`.'
                    type: str
                    default: ''
                  matches:
                    description:
                      - Python regular expression that must be found in each; `^` and `$` are a line's
                        ends.
                      - 'Example: `^version = [0-9]+$`.'
                    type: str
                    default: ''
              json:
                description:
                  - JSON files that must parse.
                type: dict
                options:
                  path:
                    description:
                      - 'Absolute path, as it is on the live host. Shell patterns are allowed (`*`, `?`,
                        `[a-z]`, and `**` for any number of directories): at least one file must match,
                        and all that do are looked at.'
                      - 'Example: `/srv/app/cache/*.json`.'
                    type: str
                    required: true
                  keys:
                    description:
                      - Keys that the object in each must have.
                      - 'Example: `[''collected_at'', ''entities'']`.'
                    type: list
                    elements: str
                    default: []
              sqlite:
                description:
                  - SQLite databases that must be whole.
                type: dict
                options:
                  path:
                    description:
                      - 'Absolute path, as it is on the live host. Shell patterns are allowed (`*`, `?`,
                        `[a-z]`, and `**` for any number of directories): at least one file must match,
                        and all that do are looked at.'
                      - 'Example: `/srv/app/app.db`.'
                    type: str
                    required: true
              live_only:
                description:
                  - 'Whether the check needs the running system (its services, its network): then it is
                    run after a restore to `live` and by `restaura check`, and in no drill.'
                type: bool
                default: false
              timeout:
                description:
                  - Seconds after which the check has failed. A service that cannot be reached, or answers
                    that it is not ready (502, 503, 504), is asked again until then.
                  - At least 1.
                type: int
                default: 300
            default: []
          directory:
            description:
              - Absolute directory that the files are in, and that paths are relative to.
              - 'Example: `/srv/app`.'
            type: str
            required: true
          files:
            description:
              - Further files and directories to back up, absolute or relative to `directory`.
              - 'Example: `[''requirements.txt'', ''src'']`.'
            type: list
            elements: str
            default: []
          exclude:
            description:
              - 'What to leave out of directories: patterns as in `files` components.'
            type: list
            elements: str
            default:
              - __pycache__/
              - .git/
              - .venv/
              - node_modules/
          secrets:
            description:
              - 'Patterns of the same kind: files that no store keeps in the clear.'
            type: list
            elements: str
            default:
              - .env
              - .env.*
              - '*.env'
              - '*.key'
              - '*.pem'
          restore_stops:
            description:
              - systemd units that are stopped while restored files change places with live ones, if they
                run.
              - 'Example: `[''app.service'']`.'
            type: list
            elements: str
            default: []
          model_config:
            description:
              - JSON file that says which model is used, and how (docs/sources/llm.md).
            type: str
            default: model_config.json
          system_prompts:
            description:
              - 'JSON file of the system prompts by name. Empty: there are none.'
            type: str
            default: system_prompts.json
          weights:
            description:
              - Files and directories of the weights, where the model is local; absolute or relative to
                `directory`.
              - 'Example: `[''weights/model.gguf'']`.'
            type: list
            elements: str
            default: []
          qdrant_component:
            description:
              - 'Name of a `qdrant` component of this host: the dimension of embeddings is held against
                its collections.'
            type: str
            default: ''
      mongodb:
        description:
          - Components of the `mongodb` source.
        type: list
        elements: dict
        options:
          name:
            description:
              - Name of the component, unique on the host.
              - A name is letters, digits, '_', '-' and '.', beginning with a letter or digit, at most
                63 characters.
            type: str
            required: true
          accept_torn:
            description:
              - Whether data that could not be captured at one instant (shown as `torn`) may count as
                good.
            type: bool
            default: false
          shrink_guard:
            description:
              - Per cent by which the component may shrink against its last good point before it is kept
                as *suspect*, which evicts nothing until `restaura accept`. 100 turns the guard off.
              - At least 0.
            type: int
            default: 50
          checks:
            description:
              - What must be true of the data, in drills and after restores. Each check has exactly one
                of `command`, `http`, `file`, `json` and `sqlite`.
            type: list
            elements: dict
            options:
              name:
                description:
                  - Name shown in reports.
                  - A name is letters, digits, '_', '-' and '.', beginning with a letter or digit, at
                    most 63 characters.
                type: str
                required: true
              command:
                description:
                  - 'Shell command (`/bin/sh -c`). Exit 0 means the data is good. The environment names
                    the data: `RESTAURA_TARGET` (the directory that stands for `/`, or the socket directory
                    of a database) and what the source adds. No secret: it stands in the runbook, in the
                    clear.'
                  - 'Example: `test -s "$RESTAURA_TARGET/srv/app/orders.csv"`.'
                type: str
                default: ''
              http:
                description:
                  - A service that must answer. Implies `live_only`.
                type: dict
                options:
                  url:
                    description:
                      - Where to ask (GET, redirects are not followed).
                      - 'Example: `http://127.0.0.1:8000/health`.'
                    type: str
                    required: true
                  status:
                    description:
                      - Status that the answer must have.
                      - At least 100.
                    type: int
                    default: 200
                  contains:
                    description:
                      - Text that the answer's first 10 MB must hold.
                      - 'Example: `"status": "ok"`.'
                    type: str
                    default: ''
              file:
                description:
                  - Files that must be there, and hold something.
                type: dict
                options:
                  path:
                    description:
                      - 'Absolute path, as it is on the live host. Shell patterns are allowed (`*`, `?`,
                        `[a-z]`, and `**` for any number of directories): at least one file must match,
                        and all that do are looked at.'
                      - 'Example: `/srv/app/settings.ini`.'
                    type: str
                    required: true
                  contains:
                    description:
                      - Text that each must hold.
                      - 'Example: `DATABASE_URL=`.'
                    type: str
                    default: ''
                  matches:
                    description:
                      - Python regular expression that must be found in each; `^` and `$` are a line's
                        ends.
                      - 'Example: `^version = [0-9]+$`.'
                    type: str
                    default: ''
              json:
                description:
                  - JSON files that must parse.
                type: dict
                options:
                  path:
                    description:
                      - 'Absolute path, as it is on the live host. Shell patterns are allowed (`*`, `?`,
                        `[a-z]`, and `**` for any number of directories): at least one file must match,
                        and all that do are looked at.'
                      - 'Example: `/srv/app/cache/*.json`.'
                    type: str
                    required: true
                  keys:
                    description:
                      - Keys that the object in each must have.
                      - 'Example: `[''collected_at'', ''entities'']`.'
                    type: list
                    elements: str
                    default: []
              sqlite:
                description:
                  - SQLite databases that must be whole.
                type: dict
                options:
                  path:
                    description:
                      - 'Absolute path, as it is on the live host. Shell patterns are allowed (`*`, `?`,
                        `[a-z]`, and `**` for any number of directories): at least one file must match,
                        and all that do are looked at.'
                      - 'Example: `/srv/app/app.db`.'
                    type: str
                    required: true
              live_only:
                description:
                  - 'Whether the check needs the running system (its services, its network): then it is
                    run after a restore to `live` and by `restaura check`, and in no drill.'
                type: bool
                default: false
              timeout:
                description:
                  - Seconds after which the check has failed. A service that cannot be reached, or answers
                    that it is not ready (502, 503, 504), is asked again until then.
                  - At least 1.
                type: int
                default: 300
            default: []
          host:
            description:
              - Name or address of the server.
            type: str
            default: localhost
          port:
            description:
              - Port of the server.
              - At least 1.
            type: int
            default: 27017
          container:
            description:
              - Name of the container that the server runs in; `port` is the one in there.
            type: str
            default: ''
          user:
            description:
              - 'User to log in as: with the roles `backup` and `clusterMonitor`, and for restores `restore`.'
            type: str
            default: ''
          password:
            description:
              - Password of that user.
            type: str
          auth_database:
            description:
              - Database that the user is defined in.
            type: str
            default: admin
          replica_set:
            description:
              - 'Name of a replica set whose primary is to be found by way of `host`. Empty: this very
                server.'
            type: str
            default: ''
          tls:
            description:
              - Whether the server is reached over TLS.
            type: bool
            default: false
          tls_ca_file:
            description:
              - File with the certificate of the authority that signed the server's.
            type: str
            default: ''
          tls_certificate_key_file:
            description:
              - File with the client's own certificate and key.
            type: str
            default: ''
          timeout:
            description:
              - Seconds that the server may take for one answer.
              - At least 1.
            type: int
            default: 300
          databases:
            description:
              - 'Databases to back up. Empty: every one but `local` and `config`.'
            type: list
            elements: str
            default: []
          exclude_databases:
            description:
              - Databases to leave out.
            type: list
            elements: str
            default: []
          users:
            description:
              - Whether users and roles are backed up too.
            type: bool
            default: true
          export:
            description:
              - Whether each collection is also kept as canonical extended JSON (`export/`).
            type: bool
            default: true
          lock:
            description:
              - 'Whether a server that has no snapshots is locked (`fsyncLock`) while it is copied: whoever
                writes waits.'
            type: bool
            default: false
          tools:
            description:
              - 'Whether mongodump and mongorestore are used where a server has no snapshots and they
                are there: on the host, or in the container.'
            type: str
            choices:
              - auto
              - never
            default: auto
          snapshot_window:
            description:
              - Seconds for which a replica set is to keep the snapshot that is read; what it keeps by
                itself is 300.
              - At least 1.
            type: int
            default: 7200
          swap_while_connected:
            description:
              - Whether a restore to `live` may go ahead while clients are connected to the server.
            type: bool
            default: false
      postgres:
        description:
          - Components of the `postgres` source.
        type: list
        elements: dict
        options:
          name:
            description:
              - Name of the component, unique on the host.
              - A name is letters, digits, '_', '-' and '.', beginning with a letter or digit, at most
                63 characters.
            type: str
            required: true
          accept_torn:
            description:
              - Whether data that could not be captured at one instant (shown as `torn`) may count as
                good.
            type: bool
            default: false
          shrink_guard:
            description:
              - Per cent by which the component may shrink against its last good point before it is kept
                as *suspect*, which evicts nothing until `restaura accept`. 100 turns the guard off.
              - At least 0.
            type: int
            default: 50
          checks:
            description:
              - What must be true of the data, in drills and after restores. Each check has exactly one
                of `command`, `http`, `file`, `json` and `sqlite`.
            type: list
            elements: dict
            options:
              name:
                description:
                  - Name shown in reports.
                  - A name is letters, digits, '_', '-' and '.', beginning with a letter or digit, at
                    most 63 characters.
                type: str
                required: true
              command:
                description:
                  - 'Shell command (`/bin/sh -c`). Exit 0 means the data is good. The environment names
                    the data: `RESTAURA_TARGET` (the directory that stands for `/`, or the socket directory
                    of a database) and what the source adds. No secret: it stands in the runbook, in the
                    clear.'
                  - 'Example: `test -s "$RESTAURA_TARGET/srv/app/orders.csv"`.'
                type: str
                default: ''
              http:
                description:
                  - A service that must answer. Implies `live_only`.
                type: dict
                options:
                  url:
                    description:
                      - Where to ask (GET, redirects are not followed).
                      - 'Example: `http://127.0.0.1:8000/health`.'
                    type: str
                    required: true
                  status:
                    description:
                      - Status that the answer must have.
                      - At least 100.
                    type: int
                    default: 200
                  contains:
                    description:
                      - Text that the answer's first 10 MB must hold.
                      - 'Example: `"status": "ok"`.'
                    type: str
                    default: ''
              file:
                description:
                  - Files that must be there, and hold something.
                type: dict
                options:
                  path:
                    description:
                      - 'Absolute path, as it is on the live host. Shell patterns are allowed (`*`, `?`,
                        `[a-z]`, and `**` for any number of directories): at least one file must match,
                        and all that do are looked at.'
                      - 'Example: `/srv/app/settings.ini`.'
                    type: str
                    required: true
                  contains:
                    description:
                      - Text that each must hold.
                      - 'Example: `DATABASE_URL=`.'
                    type: str
                    default: ''
                  matches:
                    description:
                      - Python regular expression that must be found in each; `^` and `$` are a line's
                        ends.
                      - 'Example: `^version = [0-9]+$`.'
                    type: str
                    default: ''
              json:
                description:
                  - JSON files that must parse.
                type: dict
                options:
                  path:
                    description:
                      - 'Absolute path, as it is on the live host. Shell patterns are allowed (`*`, `?`,
                        `[a-z]`, and `**` for any number of directories): at least one file must match,
                        and all that do are looked at.'
                      - 'Example: `/srv/app/cache/*.json`.'
                    type: str
                    required: true
                  keys:
                    description:
                      - Keys that the object in each must have.
                      - 'Example: `[''collected_at'', ''entities'']`.'
                    type: list
                    elements: str
                    default: []
              sqlite:
                description:
                  - SQLite databases that must be whole.
                type: dict
                options:
                  path:
                    description:
                      - 'Absolute path, as it is on the live host. Shell patterns are allowed (`*`, `?`,
                        `[a-z]`, and `**` for any number of directories): at least one file must match,
                        and all that do are looked at.'
                      - 'Example: `/srv/app/app.db`.'
                    type: str
                    required: true
              live_only:
                description:
                  - 'Whether the check needs the running system (its services, its network): then it is
                    run after a restore to `live` and by `restaura check`, and in no drill.'
                type: bool
                default: false
              timeout:
                description:
                  - Seconds after which the check has failed. A service that cannot be reached, or answers
                    that it is not ready (502, 503, 504), is asked again until then.
                  - At least 1.
                type: int
                default: 300
            default: []
          cluster:
            description:
              - 'Debian''s cluster (`VERSION/NAME`). Empty: the only one that runs.'
            type: str
            default: ''
          container:
            description:
              - Name of the container that the server runs in.
            type: str
            default: ''
          host:
            description:
              - Name or address of a server reached over TCP.
            type: str
            default: ''
          port:
            description:
              - Port of the server; 0 is the cluster's own, or 5432.
              - At least 0.
            type: int
            default: 0
          user:
            description:
              - Database role to connect as.
            type: str
            default: postgres
          password:
            description:
              - Password of that role.
            type: str
          sslmode:
            description:
              - How TLS is used over TCP, as libpq names it.
            type: str
            choices:
              - disable
              - prefer
              - require
              - verify-ca
              - verify-full
            default: prefer
          system_user:
            description:
              - 'Account, on the host or in the container, that runs the client programs. Empty: the cluster''s
                owner, in a container `postgres`, over TCP root.'
            type: str
            default: ''
          databases:
            description:
              - 'Databases to back up. Empty: every one but template0.'
            type: list
            elements: str
            default: []
          exclude_databases:
            description:
              - Databases to leave out.
            type: list
            elements: str
            default: []
          restricted_role:
            description:
              - 'Whether `user` may be no superuser but a role with `pg_read_all_data`, `BYPASSRLS` and
                `CONNECT`. Such a role cannot read large objects: preflight refuses it where there are
                any. It cannot restore.'
            type: bool
            default: false
          lock_timeout:
            description:
              - Seconds that one attempt to lock the tables waits; other sessions queue behind it.
              - At least 1.
            type: int
            default: 2
          lock_wait:
            description:
              - Seconds after which locking is given up.
              - At least 1.
            type: int
            default: 120
          snapshot_max_age:
            description:
              - Seconds that a snapshot may be held.
              - At least 1.
            type: int
            default: 3600
          terminate_sessions:
            description:
              - Whether a restore to `live` may end the sessions that use a database.
            type: bool
            default: false
      prometheus:
        description:
          - Components of the `prometheus` source.
        type: list
        elements: dict
        options:
          name:
            description:
              - Name of the component, unique on the host.
              - A name is letters, digits, '_', '-' and '.', beginning with a letter or digit, at most
                63 characters.
            type: str
            required: true
          accept_torn:
            description:
              - Whether data that could not be captured at one instant (shown as `torn`) may count as
                good.
            type: bool
            default: false
          shrink_guard:
            description:
              - Per cent by which the component may shrink against its last good point before it is kept
                as *suspect*, which evicts nothing until `restaura accept`. 100 turns the guard off.
              - At least 0.
            type: int
            default: 50
          checks:
            description:
              - What must be true of the data, in drills and after restores. Each check has exactly one
                of `command`, `http`, `file`, `json` and `sqlite`.
            type: list
            elements: dict
            options:
              name:
                description:
                  - Name shown in reports.
                  - A name is letters, digits, '_', '-' and '.', beginning with a letter or digit, at
                    most 63 characters.
                type: str
                required: true
              command:
                description:
                  - 'Shell command (`/bin/sh -c`). Exit 0 means the data is good. The environment names
                    the data: `RESTAURA_TARGET` (the directory that stands for `/`, or the socket directory
                    of a database) and what the source adds. No secret: it stands in the runbook, in the
                    clear.'
                  - 'Example: `test -s "$RESTAURA_TARGET/srv/app/orders.csv"`.'
                type: str
                default: ''
              http:
                description:
                  - A service that must answer. Implies `live_only`.
                type: dict
                options:
                  url:
                    description:
                      - Where to ask (GET, redirects are not followed).
                      - 'Example: `http://127.0.0.1:8000/health`.'
                    type: str
                    required: true
                  status:
                    description:
                      - Status that the answer must have.
                      - At least 100.
                    type: int
                    default: 200
                  contains:
                    description:
                      - Text that the answer's first 10 MB must hold.
                      - 'Example: `"status": "ok"`.'
                    type: str
                    default: ''
              file:
                description:
                  - Files that must be there, and hold something.
                type: dict
                options:
                  path:
                    description:
                      - 'Absolute path, as it is on the live host. Shell patterns are allowed (`*`, `?`,
                        `[a-z]`, and `**` for any number of directories): at least one file must match,
                        and all that do are looked at.'
                      - 'Example: `/srv/app/settings.ini`.'
                    type: str
                    required: true
                  contains:
                    description:
                      - Text that each must hold.
                      - 'Example: `DATABASE_URL=`.'
                    type: str
                    default: ''
                  matches:
                    description:
                      - Python regular expression that must be found in each; `^` and `$` are a line's
                        ends.
                      - 'Example: `^version = [0-9]+$`.'
                    type: str
                    default: ''
              json:
                description:
                  - JSON files that must parse.
                type: dict
                options:
                  path:
                    description:
                      - 'Absolute path, as it is on the live host. Shell patterns are allowed (`*`, `?`,
                        `[a-z]`, and `**` for any number of directories): at least one file must match,
                        and all that do are looked at.'
                      - 'Example: `/srv/app/cache/*.json`.'
                    type: str
                    required: true
                  keys:
                    description:
                      - Keys that the object in each must have.
                      - 'Example: `[''collected_at'', ''entities'']`.'
                    type: list
                    elements: str
                    default: []
              sqlite:
                description:
                  - SQLite databases that must be whole.
                type: dict
                options:
                  path:
                    description:
                      - 'Absolute path, as it is on the live host. Shell patterns are allowed (`*`, `?`,
                        `[a-z]`, and `**` for any number of directories): at least one file must match,
                        and all that do are looked at.'
                      - 'Example: `/srv/app/app.db`.'
                    type: str
                    required: true
              live_only:
                description:
                  - 'Whether the check needs the running system (its services, its network): then it is
                    run after a restore to `live` and by `restaura check`, and in no drill.'
                type: bool
                default: false
              timeout:
                description:
                  - Seconds after which the check has failed. A service that cannot be reached, or answers
                    that it is not ready (502, 503, 504), is asked again until then.
                  - At least 1.
                type: int
                default: 300
            default: []
          unit:
            description:
              - systemd unit of a server on this host.
            type: str
            default: prometheus.service
          container:
            description:
              - Name of the container that the server runs in.
            type: str
            default: ''
          url:
            description:
              - 'Where the server answers, with its path prefix. Empty: where the flags of the unit or
                of the container say.'
              - 'Example: `https://127.0.0.1:9090/prometheus`.'
            type: str
            default: ''
          username:
            description:
              - User name for the server's basic authentication.
            type: str
            default: ''
          password:
            description:
              - Password of that user.
            type: str
          token:
            description:
              - Bearer token, where a proxy in front of the server asks for one.
            type: str
          ca_file:
            description:
              - 'PEM file of the only authority that is trusted for `https`. Empty: the system''s.'
            type: str
            default: ''
          data_directory:
            description:
              - 'Where on this host the server keeps its data (`--storage.tsdb.path`). Empty: found by
                its flags. It must be given for a server that is only reached over the network, and then
                be mounted here.'
            type: str
            default: ''
          snapshot_timeout:
            description:
              - Seconds that the server may take for its snapshot.
              - At least 1.
            type: int
            default: 600
          start_timeout:
            description:
              - Seconds that the server may take to be ready after a restore.
              - At least 1.
            type: int
            default: 300
      qdrant:
        description:
          - Components of the `qdrant` source.
        type: list
        elements: dict
        options:
          name:
            description:
              - Name of the component, unique on the host.
              - A name is letters, digits, '_', '-' and '.', beginning with a letter or digit, at most
                63 characters.
            type: str
            required: true
          accept_torn:
            description:
              - Whether data that could not be captured at one instant (shown as `torn`) may count as
                good.
            type: bool
            default: false
          shrink_guard:
            description:
              - Per cent by which the component may shrink against its last good point before it is kept
                as *suspect*, which evicts nothing until `restaura accept`. 100 turns the guard off.
              - At least 0.
            type: int
            default: 50
          checks:
            description:
              - What must be true of the data, in drills and after restores. Each check has exactly one
                of `command`, `http`, `file`, `json` and `sqlite`.
            type: list
            elements: dict
            options:
              name:
                description:
                  - Name shown in reports.
                  - A name is letters, digits, '_', '-' and '.', beginning with a letter or digit, at
                    most 63 characters.
                type: str
                required: true
              command:
                description:
                  - 'Shell command (`/bin/sh -c`). Exit 0 means the data is good. The environment names
                    the data: `RESTAURA_TARGET` (the directory that stands for `/`, or the socket directory
                    of a database) and what the source adds. No secret: it stands in the runbook, in the
                    clear.'
                  - 'Example: `test -s "$RESTAURA_TARGET/srv/app/orders.csv"`.'
                type: str
                default: ''
              http:
                description:
                  - A service that must answer. Implies `live_only`.
                type: dict
                options:
                  url:
                    description:
                      - Where to ask (GET, redirects are not followed).
                      - 'Example: `http://127.0.0.1:8000/health`.'
                    type: str
                    required: true
                  status:
                    description:
                      - Status that the answer must have.
                      - At least 100.
                    type: int
                    default: 200
                  contains:
                    description:
                      - Text that the answer's first 10 MB must hold.
                      - 'Example: `"status": "ok"`.'
                    type: str
                    default: ''
              file:
                description:
                  - Files that must be there, and hold something.
                type: dict
                options:
                  path:
                    description:
                      - 'Absolute path, as it is on the live host. Shell patterns are allowed (`*`, `?`,
                        `[a-z]`, and `**` for any number of directories): at least one file must match,
                        and all that do are looked at.'
                      - 'Example: `/srv/app/settings.ini`.'
                    type: str
                    required: true
                  contains:
                    description:
                      - Text that each must hold.
                      - 'Example: `DATABASE_URL=`.'
                    type: str
                    default: ''
                  matches:
                    description:
                      - Python regular expression that must be found in each; `^` and `$` are a line's
                        ends.
                      - 'Example: `^version = [0-9]+$`.'
                    type: str
                    default: ''
              json:
                description:
                  - JSON files that must parse.
                type: dict
                options:
                  path:
                    description:
                      - 'Absolute path, as it is on the live host. Shell patterns are allowed (`*`, `?`,
                        `[a-z]`, and `**` for any number of directories): at least one file must match,
                        and all that do are looked at.'
                      - 'Example: `/srv/app/cache/*.json`.'
                    type: str
                    required: true
                  keys:
                    description:
                      - Keys that the object in each must have.
                      - 'Example: `[''collected_at'', ''entities'']`.'
                    type: list
                    elements: str
                    default: []
              sqlite:
                description:
                  - SQLite databases that must be whole.
                type: dict
                options:
                  path:
                    description:
                      - 'Absolute path, as it is on the live host. Shell patterns are allowed (`*`, `?`,
                        `[a-z]`, and `**` for any number of directories): at least one file must match,
                        and all that do are looked at.'
                      - 'Example: `/srv/app/app.db`.'
                    type: str
                    required: true
              live_only:
                description:
                  - 'Whether the check needs the running system (its services, its network): then it is
                    run after a restore to `live` and by `restaura check`, and in no drill.'
                type: bool
                default: false
              timeout:
                description:
                  - Seconds after which the check has failed. A service that cannot be reached, or answers
                    that it is not ready (502, 503, 504), is asked again until then.
                  - At least 1.
                type: int
                default: 300
            default: []
          url:
            description:
              - 'Where the server answers by HTTP. Empty: in the `container`, or on this host at port
                6333.'
              - 'Example: `https://qdrant.example.org:6333`.'
            type: str
            default: ''
          container:
            description:
              - Name of the container that the server runs in.
            type: str
            default: ''
          port:
            description:
              - HTTP port of the server in the container.
              - At least 1.
            type: int
            default: 6333
          ca_file:
            description:
              - PEM file of the authority that signed the server's certificate.
            type: str
            default: ''
          api_key:
            description:
              - API key that may manage the server.
            type: str
          collections:
            description:
              - 'Collections (or aliases of them) to back up. Empty: every one. One alone has its files
                in the component''s own folder.'
            type: list
            elements: str
            default: []
          exclude_collections:
            description:
              - Collections to leave out.
            type: list
            elements: str
            default: []
          export:
            description:
              - Whether the points are also kept as JSON, which any program reads and any version takes.
            type: bool
            default: true
          timeout:
            description:
              - 'Seconds that one answer of the server may take: a snapshot is one.'
              - At least 1.
            type: int
            default: 600
      redis:
        description:
          - Components of the `redis` source.
        type: list
        elements: dict
        options:
          name:
            description:
              - Name of the component, unique on the host.
              - A name is letters, digits, '_', '-' and '.', beginning with a letter or digit, at most
                63 characters.
            type: str
            required: true
          accept_torn:
            description:
              - Whether data that could not be captured at one instant (shown as `torn`) may count as
                good.
            type: bool
            default: false
          shrink_guard:
            description:
              - Per cent by which the component may shrink against its last good point before it is kept
                as *suspect*, which evicts nothing until `restaura accept`. 100 turns the guard off.
              - At least 0.
            type: int
            default: 50
          checks:
            description:
              - What must be true of the data, in drills and after restores. Each check has exactly one
                of `command`, `http`, `file`, `json` and `sqlite`.
            type: list
            elements: dict
            options:
              name:
                description:
                  - Name shown in reports.
                  - A name is letters, digits, '_', '-' and '.', beginning with a letter or digit, at
                    most 63 characters.
                type: str
                required: true
              command:
                description:
                  - 'Shell command (`/bin/sh -c`). Exit 0 means the data is good. The environment names
                    the data: `RESTAURA_TARGET` (the directory that stands for `/`, or the socket directory
                    of a database) and what the source adds. No secret: it stands in the runbook, in the
                    clear.'
                  - 'Example: `test -s "$RESTAURA_TARGET/srv/app/orders.csv"`.'
                type: str
                default: ''
              http:
                description:
                  - A service that must answer. Implies `live_only`.
                type: dict
                options:
                  url:
                    description:
                      - Where to ask (GET, redirects are not followed).
                      - 'Example: `http://127.0.0.1:8000/health`.'
                    type: str
                    required: true
                  status:
                    description:
                      - Status that the answer must have.
                      - At least 100.
                    type: int
                    default: 200
                  contains:
                    description:
                      - Text that the answer's first 10 MB must hold.
                      - 'Example: `"status": "ok"`.'
                    type: str
                    default: ''
              file:
                description:
                  - Files that must be there, and hold something.
                type: dict
                options:
                  path:
                    description:
                      - 'Absolute path, as it is on the live host. Shell patterns are allowed (`*`, `?`,
                        `[a-z]`, and `**` for any number of directories): at least one file must match,
                        and all that do are looked at.'
                      - 'Example: `/srv/app/settings.ini`.'
                    type: str
                    required: true
                  contains:
                    description:
                      - Text that each must hold.
                      - 'Example: `DATABASE_URL=`.'
                    type: str
                    default: ''
                  matches:
                    description:
                      - Python regular expression that must be found in each; `^` and `$` are a line's
                        ends.
                      - 'Example: `^version = [0-9]+$`.'
                    type: str
                    default: ''
              json:
                description:
                  - JSON files that must parse.
                type: dict
                options:
                  path:
                    description:
                      - 'Absolute path, as it is on the live host. Shell patterns are allowed (`*`, `?`,
                        `[a-z]`, and `**` for any number of directories): at least one file must match,
                        and all that do are looked at.'
                      - 'Example: `/srv/app/cache/*.json`.'
                    type: str
                    required: true
                  keys:
                    description:
                      - Keys that the object in each must have.
                      - 'Example: `[''collected_at'', ''entities'']`.'
                    type: list
                    elements: str
                    default: []
              sqlite:
                description:
                  - SQLite databases that must be whole.
                type: dict
                options:
                  path:
                    description:
                      - 'Absolute path, as it is on the live host. Shell patterns are allowed (`*`, `?`,
                        `[a-z]`, and `**` for any number of directories): at least one file must match,
                        and all that do are looked at.'
                      - 'Example: `/srv/app/app.db`.'
                    type: str
                    required: true
              live_only:
                description:
                  - 'Whether the check needs the running system (its services, its network): then it is
                    run after a restore to `live` and by `restaura check`, and in no drill.'
                type: bool
                default: false
              timeout:
                description:
                  - Seconds after which the check has failed. A service that cannot be reached, or answers
                    that it is not ready (502, 503, 504), is asked again until then.
                  - At least 1.
                type: int
                default: 300
            default: []
          container:
            description:
              - Name of the container that the server runs in.
            type: str
            default: ''
          host:
            description:
              - 'Name or address of a server on another host. Empty: this host''s own, at 127.0.0.1.'
            type: str
            default: ''
          port:
            description:
              - Port of the server.
              - At least 1.
            type: int
            default: 6379
          socket:
            description:
              - Unix socket of a server of this host, in place of host and port.
            type: str
            default: ''
          user:
            description:
              - 'ACL user to log in as. Empty: `default`.'
            type: str
            default: ''
          password:
            description:
              - Password of that user.
            type: str
          tls:
            description:
              - Whether the server is reached over TLS.
            type: bool
            default: false
          tls_ca_file:
            description:
              - CA certificates (PEM) that the server's must be signed by.
            type: str
            default: ''
          tls_cert_file:
            description:
              - Certificate (PEM) to show to the server.
            type: str
            default: ''
          tls_key_file:
            description:
              - Key (PEM) of that certificate.
            type: str
            default: ''
          save_timeout:
            description:
              - Seconds that a background save may take.
              - At least 1.
            type: int
            default: 3600
          terminate_clients:
            description:
              - Whether a restore to `live` may end the connections of clients, which then connect again.
            type: bool
            default: false
"""
