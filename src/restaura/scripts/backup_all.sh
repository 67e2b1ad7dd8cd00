#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Managed by Restaura: what is edited here by hand is put back by setup_backup.yml.
case "${1-}" in
-h | --help)
    cat <<'EOF'
usage: backup_all.sh [OPTION]...

Takes a restore point of every plan of this host now, one after the other, and keeps
it as long as its plan says. One plan alone: restaura run PLAN

  --check           only see whether every plan can run
  --wait SECONDS    wait so long for a backup that is already running
  --drill           prove each new point by restoring it to a throw-away place

exit codes: 0 done, 1 failed, 2 usage or configuration, 3 partial, 4 locked
EOF
    exit 0
    ;;
esac
exec /usr/local/bin/restaura run --all "$@"
