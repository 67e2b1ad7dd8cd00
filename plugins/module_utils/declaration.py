# SPDX-License-Identifier: GPL-3.0-or-later
"""The argument spec of a whole declaration. Written by `make generate` from src/restaura; edit that instead."""

from typing import Any

SPEC: dict[str, Any] = {
    "settings": {
        "type": "dict",
        "options": {
            "host": {"type": "str", "required": True},
            "reserve_percent": {"type": "int", "default": 10},
            "reserve_bytes": {"type": "int", "default": 5000000000},
            "metrics_file": {"type": "str", "default": ""},
            "log_days": {"type": "int", "default": 90},
            "contacts": {
                "type": "list",
                "elements": "dict",
                "options": {
                    "name": {"type": "str", "required": True},
                    "role": {"type": "str", "default": ""},
                    "email": {"type": "str", "default": ""},
                    "phone": {"type": "str", "default": ""},
                    "note": {"type": "str", "default": ""},
                },
                "default": [],
            },
        },
    },
    "stores": {
        "type": "list",
        "elements": "dict",
        "options": {
            "name": {"type": "str", "required": True},
            "type": {"type": "str", "choices": ["restic", "dated"], "default": "restic"},
            "location": {"type": "str", "required": True},
            "s3_access_key": {"type": "str", "no_log": True},
            "s3_secret_key": {"type": "str", "no_log": True},
            "s3_region": {"type": "str", "default": "us-east-1"},
            "password": {"type": "str", "no_log": True},
            "compression": {"type": "str", "choices": ["zstd", "none"], "default": "zstd"},
            "encrypt": {"type": "bool", "default": False},
            "age_recipients": {"type": "list", "elements": "str", "default": []},
            "host_segment": {"type": "bool", "default": True},
            "plan_segment": {"type": "bool", "default": True},
            "host_may_delete": {"type": "bool", "default": True},
        },
    },
    "plans": {
        "type": "list",
        "elements": "dict",
        "options": {
            "name": {"type": "str", "required": True},
            "components": {"type": "list", "elements": "str", "default": []},
            "stores": {"type": "list", "elements": "str", "default": []},
            "schedule": {"type": "str", "default": "daily"},
            "timezone": {"type": "str", "default": ""},
            "retention": {
                "type": "dict",
                "options": {
                    "keep_last": {"type": "int", "default": 3},
                    "keep_within": {"type": "str", "default": ""},
                    "keep_daily": {"type": "int", "default": 7},
                    "keep_weekly": {"type": "int", "default": 4},
                    "keep_monthly": {"type": "int", "default": 6},
                    "floor": {"type": "int", "default": 2},
                },
            },
            "fingerprint": {"type": "str", "choices": ["content", "catalog"], "default": "content"},
            "drill": {"type": "str", "default": "weekly"},
            "verify": {"type": "str", "default": "daily"},
            "pause": {
                "type": "dict",
                "options": {
                    "command": {"type": "str", "default": ""},
                    "resume": {"type": "str", "default": ""},
                    "units": {"type": "list", "elements": "str", "default": []},
                    "containers": {
                        "type": "dict",
                        "options": {
                            "names": {"type": "list", "elements": "str", "default": []},
                            "labels": {"type": "list", "elements": "str", "default": []},
                            "hold": {"type": "str", "choices": ["stop", "pause"], "default": "stop"},
                        },
                    },
                    "http": {
                        "type": "dict",
                        "options": {
                            "pause": {
                                "type": "dict",
                                "options": {
                                    "url": {"type": "str", "required": True},
                                    "method": {
                                        "type": "str",
                                        "choices": ["POST", "PUT", "PATCH", "GET", "DELETE"],
                                        "default": "POST",
                                    },
                                    "body": {"type": "str", "default": ""},
                                    "status": {"type": "int", "default": 0},
                                },
                                "required": True,
                            },
                            "resume": {
                                "type": "dict",
                                "options": {
                                    "url": {"type": "str", "required": True},
                                    "method": {
                                        "type": "str",
                                        "choices": ["POST", "PUT", "PATCH", "GET", "DELETE"],
                                        "default": "POST",
                                    },
                                    "body": {"type": "str", "default": ""},
                                    "status": {"type": "int", "default": 0},
                                },
                                "required": True,
                            },
                            "headers": {"type": "str", "no_log": True},
                            "ca_file": {"type": "str", "default": ""},
                        },
                    },
                    "only_if": {"type": "str", "default": ""},
                    "steps": {
                        "type": "list",
                        "elements": "dict",
                        "options": {
                            "command": {"type": "str", "default": ""},
                            "resume": {"type": "str", "default": ""},
                            "units": {"type": "list", "elements": "str", "default": []},
                            "containers": {
                                "type": "dict",
                                "options": {
                                    "names": {"type": "list", "elements": "str", "default": []},
                                    "labels": {"type": "list", "elements": "str", "default": []},
                                    "hold": {"type": "str", "choices": ["stop", "pause"], "default": "stop"},
                                },
                            },
                            "http": {
                                "type": "dict",
                                "options": {
                                    "pause": {
                                        "type": "dict",
                                        "options": {
                                            "url": {"type": "str", "required": True},
                                            "method": {
                                                "type": "str",
                                                "choices": ["POST", "PUT", "PATCH", "GET", "DELETE"],
                                                "default": "POST",
                                            },
                                            "body": {"type": "str", "default": ""},
                                            "status": {"type": "int", "default": 0},
                                        },
                                        "required": True,
                                    },
                                    "resume": {
                                        "type": "dict",
                                        "options": {
                                            "url": {"type": "str", "required": True},
                                            "method": {
                                                "type": "str",
                                                "choices": ["POST", "PUT", "PATCH", "GET", "DELETE"],
                                                "default": "POST",
                                            },
                                            "body": {"type": "str", "default": ""},
                                            "status": {"type": "int", "default": 0},
                                        },
                                        "required": True,
                                    },
                                    "headers": {"type": "str", "no_log": True},
                                    "ca_file": {"type": "str", "default": ""},
                                },
                            },
                            "only_if": {"type": "str", "default": ""},
                        },
                        "default": [],
                    },
                    "limit": {"type": "int", "default": 300},
                },
            },
            "freeze_timeout": {"type": "int", "default": 3600},
            "stop_limit": {"type": "int", "default": 600},
            "failure_command": {"type": "str", "default": ""},
            "heartbeat_url": {"type": "str", "no_log": True},
        },
    },
    "components": {
        "type": "dict",
        "options": {
            "docker_volumes": {
                "type": "list",
                "elements": "dict",
                "options": {
                    "name": {"type": "str", "required": True},
                    "accept_torn": {"type": "bool", "default": False},
                    "shrink_guard": {"type": "int", "default": 50},
                    "checks": {
                        "type": "list",
                        "elements": "dict",
                        "options": {
                            "name": {"type": "str", "required": True},
                            "command": {"type": "str", "default": ""},
                            "http": {
                                "type": "dict",
                                "options": {
                                    "url": {"type": "str", "required": True},
                                    "status": {"type": "int", "default": 200},
                                    "contains": {"type": "str", "default": ""},
                                },
                            },
                            "file": {
                                "type": "dict",
                                "options": {
                                    "path": {"type": "str", "required": True},
                                    "contains": {"type": "str", "default": ""},
                                    "matches": {"type": "str", "default": ""},
                                },
                            },
                            "json": {
                                "type": "dict",
                                "options": {
                                    "path": {"type": "str", "required": True},
                                    "keys": {"type": "list", "elements": "str", "default": []},
                                },
                            },
                            "sqlite": {"type": "dict", "options": {"path": {"type": "str", "required": True}}},
                            "live_only": {"type": "bool", "default": False},
                            "timeout": {"type": "int", "default": 300},
                        },
                        "default": [],
                    },
                    "volumes": {"type": "list", "elements": "str", "default": []},
                    "labels": {"type": "list", "elements": "str", "default": []},
                    "projects": {"type": "list", "elements": "str", "default": []},
                    "all": {"type": "bool", "default": False},
                    "exclude": {"type": "list", "elements": "str", "default": []},
                    "anonymous": {"type": "bool", "default": False},
                    "hold": {"type": "str", "choices": ["stop", "pause", "none"], "default": "stop"},
                    "holds": {
                        "type": "list",
                        "elements": "dict",
                        "options": {
                            "volumes": {"type": "list", "elements": "str", "required": True},
                            "hold": {
                                "type": "str",
                                "choices": ["stop", "pause", "command", "none"],
                                "default": "command",
                            },
                            "container": {"type": "str", "default": ""},
                            "user": {"type": "str", "default": ""},
                            "command": {"type": "str", "default": ""},
                            "resume": {"type": "str", "default": ""},
                        },
                        "default": [],
                    },
                    "stop_timeout": {"type": "int", "default": 0},
                    "project_files": {"type": "bool", "default": True},
                },
            },
            "files": {
                "type": "list",
                "elements": "dict",
                "options": {
                    "name": {"type": "str", "required": True},
                    "accept_torn": {"type": "bool", "default": False},
                    "shrink_guard": {"type": "int", "default": 50},
                    "checks": {
                        "type": "list",
                        "elements": "dict",
                        "options": {
                            "name": {"type": "str", "required": True},
                            "command": {"type": "str", "default": ""},
                            "http": {
                                "type": "dict",
                                "options": {
                                    "url": {"type": "str", "required": True},
                                    "status": {"type": "int", "default": 200},
                                    "contains": {"type": "str", "default": ""},
                                },
                            },
                            "file": {
                                "type": "dict",
                                "options": {
                                    "path": {"type": "str", "required": True},
                                    "contains": {"type": "str", "default": ""},
                                    "matches": {"type": "str", "default": ""},
                                },
                            },
                            "json": {
                                "type": "dict",
                                "options": {
                                    "path": {"type": "str", "required": True},
                                    "keys": {"type": "list", "elements": "str", "default": []},
                                },
                            },
                            "sqlite": {"type": "dict", "options": {"path": {"type": "str", "required": True}}},
                            "live_only": {"type": "bool", "default": False},
                            "timeout": {"type": "int", "default": 300},
                        },
                        "default": [],
                    },
                    "paths": {"type": "list", "elements": "str", "required": True},
                    "exclude": {"type": "list", "elements": "str", "default": []},
                    "include": {"type": "list", "elements": "str", "default": []},
                    "one_file_system": {"type": "bool", "default": True},
                    "sqlite": {"type": "str", "choices": ["backup", "plain"], "default": "backup"},
                    "secret": {"type": "bool", "default": False},
                    "stops": {"type": "list", "elements": "str", "default": []},
                    "restore_stops": {"type": "list", "elements": "str", "default": []},
                },
            },
            "postgres": {
                "type": "list",
                "elements": "dict",
                "options": {
                    "name": {"type": "str", "required": True},
                    "accept_torn": {"type": "bool", "default": False},
                    "shrink_guard": {"type": "int", "default": 50},
                    "checks": {
                        "type": "list",
                        "elements": "dict",
                        "options": {
                            "name": {"type": "str", "required": True},
                            "command": {"type": "str", "default": ""},
                            "http": {
                                "type": "dict",
                                "options": {
                                    "url": {"type": "str", "required": True},
                                    "status": {"type": "int", "default": 200},
                                    "contains": {"type": "str", "default": ""},
                                },
                            },
                            "file": {
                                "type": "dict",
                                "options": {
                                    "path": {"type": "str", "required": True},
                                    "contains": {"type": "str", "default": ""},
                                    "matches": {"type": "str", "default": ""},
                                },
                            },
                            "json": {
                                "type": "dict",
                                "options": {
                                    "path": {"type": "str", "required": True},
                                    "keys": {"type": "list", "elements": "str", "default": []},
                                },
                            },
                            "sqlite": {"type": "dict", "options": {"path": {"type": "str", "required": True}}},
                            "live_only": {"type": "bool", "default": False},
                            "timeout": {"type": "int", "default": 300},
                        },
                        "default": [],
                    },
                    "cluster": {"type": "str", "default": ""},
                    "container": {"type": "str", "default": ""},
                    "host": {"type": "str", "default": ""},
                    "port": {"type": "int", "default": 0},
                    "user": {"type": "str", "default": "postgres"},
                    "password": {"type": "str", "no_log": True},
                    "sslmode": {
                        "type": "str",
                        "choices": ["disable", "prefer", "require", "verify-ca", "verify-full"],
                        "default": "prefer",
                    },
                    "system_user": {"type": "str", "default": ""},
                    "databases": {"type": "list", "elements": "str", "default": []},
                    "exclude_databases": {"type": "list", "elements": "str", "default": []},
                    "restricted_role": {"type": "bool", "default": False},
                    "lock_timeout": {"type": "int", "default": 2},
                    "lock_wait": {"type": "int", "default": 120},
                    "snapshot_max_age": {"type": "int", "default": 3600},
                    "terminate_sessions": {"type": "bool", "default": False},
                },
            },
        },
    },
}
