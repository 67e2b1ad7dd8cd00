#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Managed by Restaura: what is edited here by hand is put back by setup_backup.yml.
case "${1-}" in
-h | --help)
    cat <<'EOF'
usage: recover.sh                        list the restore points
       recover.sh --all [OPTION]...      restore everything
       recover.sh COMPONENT [OPTION]...  restore one component
       recover.sh undo [ID|latest]       list restores, or swap one back

A restore shows what it would do and asks. What it replaces is kept until you say
`recover.sh undo ID --discard`. Without a terminal, give --yes.

  --date YYYY-MM-DD  the newest point of this day, not the newest of all
  --before TIME      the newest point before this time: 2026-11-21T10:00:00-03:00
  --point ID         this point
  --to dir:/PATH     into a directory, to look at; nothing live is touched
  --yes              do not ask
  --check            only show what would be done

Every option of `restaura restore --help` may stand here.
exit codes: 0 done, 1 failed, 2 refused or usage, 4 locked, 5 no such point, 6 mismatch
EOF
    exit 0
    ;;
"") exec /usr/local/bin/restaura list ;;
list | undo) exec /usr/local/bin/restaura "$@" ;;
--all) shift ;;
--component | --component=*) ;;
-*)
    echo "recover.sh: name a component, or say --all for everything: recover.sh -h" >&2
    exit 2
    ;;
*) set -- --component "$@" ;;
esac
exec /usr/local/bin/restaura restore --ask "$@"
