#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Managed by Restaura: what is edited here by hand is put back by setup_backup.yml.
case "${1-}" in
-h | --help)
    cat <<'EOF'
usage: backup_postgres.sh [OPTION]...

Takes a restore point of every plan that holds a Postgres server, now. A plan is taken
as a whole: what else it holds is backed up too, and its retention counts as always.
Exits with 2 when this host has no such plan.

  --check           only see whether those plans can run
  --wait SECONDS    wait so long for a backup that is already running
  --drill           prove each new point by restoring it to a throw-away place

exit codes: 0 done, 1 failed, 2 usage or configuration, 3 partial, 4 locked
EOF
    exit 0
    ;;
esac
exec /usr/local/bin/restaura run --source postgres "$@"
