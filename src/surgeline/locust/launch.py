"""Stock Locust with the plugin, as a process: `python -m surgeline.locust.launch <Locust's own arguments>`.

Listeners are added before Locust reads its arguments, so no argument is changed, and whatever Locust can be given
(files, directories, `-f -`, config files, LOCUST_* variables) works as it does without us. Exit codes are Locust's, but
for two.
"""

import sys
from typing import NoReturn

MISSING = 71
"""Locust is not installed."""
TOO_OLD = 72
"""Locust is older than what the plugin knows."""
TOO_NEW = 73
"""Locust is newer than what the plugin knows."""
OLDEST, UNKNOWN = (2, 43), (3, 0)


def main() -> NoReturn:
    """Runs Locust's own main function."""
    sys.argv[0] = "locust"
    try:
        import locust  # first of all: it patches the process
    except ImportError as error:
        sys.stderr.write(f"surgeline: Locust cannot be imported: {error}\n")
        sys.exit(MISSING)
    version = tuple(int(part) for part in locust.__version__.split(".")[:2] if part.isdigit())
    if version < OLDEST:
        sys.stderr.write(f"surgeline: Locust {locust.__version__} is too old; 2.43 or newer is needed\n")
        sys.exit(TOO_OLD)
    if version >= UNKNOWN:
        sys.stderr.write(f"surgeline: Locust {locust.__version__} is newer than what Surgeline knows, 2.43 to 2.x\n")
        sys.exit(TOO_NEW)
    import locust.main

    from surgeline.locust import distributed
    from surgeline.locust.orders import Orders
    from surgeline.locust.plugin import install
    from surgeline.locust.swap import swap, wanted

    orders, report = Orders.receive(), distributed.reporting()
    plugin = install(orders, report)
    locust.events.init_command_line_parser.add_listener(distributed.loopback_only)  # type: ignore[no-untyped-call]
    if orders is not None or report is not None:
        distributed.report_each_second()
    if orders is not None and orders.plan is not None:
        from surgeline.locust import lane

        lane.install(orders, plugin)
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


if __name__ == "__main__":
    main()
