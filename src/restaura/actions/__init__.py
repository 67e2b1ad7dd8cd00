# SPDX-License-Identifier: GPL-3.0-or-later
"""One module a verb (or a few that belong together): `verb(host, options) -> Answer`."""

from restaura.config.schema import Plan
from restaura.errors import ConfigError
from restaura.host import Host


def find_plan(host: Host, name: str | None) -> Plan:
    """Return the plan called `name`; ConfigError names the plans there are."""
    plans = {one.name: one for one in host.config.plans}
    if name is None and len(plans) == 1:
        return next(iter(plans.values()))
    if name not in plans:
        what = f"no plan is called {name!r}" if name else "which plan?"
        raise ConfigError(what, where="restaura", fix=f"one of: {', '.join(plans) or '(none configured)'}")
    return plans[name]


def lock_names(host: Host, plan: Plan) -> list[str]:
    """Return the names of the locks that an act on a plan holds."""
    components = [f"component:{one.name}" for one in host.config.plan_components(plan)]
    return components + [f"store:{one.name}" for one in host.config.plan_stores(plan)]
