"""Stock Locust with the plugin, as a process: `python -m surgeline.locust.launch <Locust's own arguments>`.

Listeners are added before Locust reads its arguments, so no argument is changed, and whatever Locust can be given
(files, directories, `-f -`, config files, LOCUST_* variables) works as it does without us. Exit codes are Locust's, but
for two.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from surgeline.locust.plugin import Plugin

MISSING = 71
"""Locust is not installed."""
TOO_OLD = 72
"""Locust is older than what the plugin knows."""
TOO_NEW = 73
"""Locust is newer than what the plugin knows."""
OLDEST, UNKNOWN = (2, 43), (3, 0)


def refuse(installed: str) -> None:
    """Ends the process, with a sentence, where the plugin does not know this version of Locust."""
    version = tuple(int(part) for part in installed.split(".")[:2] if part.isdigit())
    if version < OLDEST:
        sys.stderr.write(f"surgeline: Locust {installed} is too old; 2.43 or newer is needed\n")
        sys.exit(TOO_OLD)
    if version >= UNKNOWN:
        sys.stderr.write(f"surgeline: Locust {installed} is newer than what Surgeline knows, 2.43 to 2.x\n")
        sys.exit(TOO_NEW)


def main() -> NoReturn:
    """Runs Locust's own main function."""
    sys.argv[0] = "locust"
    try:
        import locust  # first of all: it patches the process
    except ImportError as error:
        sys.stderr.write(f"surgeline: Locust cannot be imported: {error}; `pip install locust` installs it\n")
        sys.exit(MISSING)
    refuse(locust.__version__)
    import locust.main

    from surgeline.locust import distributed, scripts
    from surgeline.locust.orders import Orders, die_with_parent
    from surgeline.locust.plugin import install
    from surgeline.locust.swap import swap, wanted

    if os.environ.pop("SURGELINE_LOCUST_DOOR", ""):  # as in `door`
        die_with_parent()
    orders, report = Orders.receive(), distributed.reporting()
    scripts.install()
    plugin = install(orders, report)
    locust.events.init_command_line_parser.add_listener(distributed.loopback_only)  # type: ignore[no-untyped-call]
    if orders is not None or report is not None:
        distributed.report_each_second()
    if orders is not None and orders.plan is not None:
        from surgeline.locust import lane

        lane.install(orders, plugin)
    elif orders is None:
        _host_plans(plugin)
    try:
        if wanted() == "native":
            swap()
    except ValueError as error:
        sys.stderr.write(f"surgeline: {error}\n")
        sys.exit(2)
    except ImportError as error:
        sys.stderr.write(f"surgeline: --client native needs the native engine, which is not built here: {error}\n")
        sys.exit(MISSING)
    locust.main.main()  # type: ignore[no-untyped-call]  # Locust's own entry point is not annotated
    sys.exit(0)


def _host_plans(plugin: "Plugin") -> None:
    """Puts our locustfile in the place of a plan among Locust's files; exits with 2 and a sentence where that fails.

    The last -f of a command line is the one that counts, whatever environment and config files say.
    """
    from locust.argument_parser import parse_locustfile_option

    from surgeline.locust import plans

    options: Any = parse_locustfile_option()
    names = [name.strip() for name in str(options.locustfile).split(",")]
    try:
        plan, others = plans.among(names)
        if plan is None:
            return
        from surgeline.engines.native import available

        missing = available()
        if missing is not None:
            raise ValueError(f"{plan}: {missing}, and it is what sends plans in Locust")
        from surgeline.locust import lane_users

        if not options.worker:  # a worker's plan comes from its master
            if not Path(plan).is_file():
                raise ValueError(f"there is no file {plan}")
            plugin.hosting = lane_users.Hosting(plans.HostedPlan.read(Path(plan)), plugin)
    except ValueError as error:
        sys.stderr.write(f"surgeline: {error}\n")
        sys.exit(2)
    rest = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    sys.argv[rest:rest] = ["-f", ",".join([str(Path(__file__).with_name("surgeline_plan.py")), *others])]


if __name__ == "__main__":
    main()
