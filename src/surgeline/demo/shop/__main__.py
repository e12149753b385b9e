"""`python -m surgeline.demo.shop`: opens the bookshop from a command line."""

import argparse
import sys
import tempfile
from pathlib import Path

from surgeline.demo.shop.faults import FAULTS, choose
from surgeline.demo.shop.server import serve


def main(arguments: list[str] | None = None) -> int:
    """Serves until stopped. 0 after a stop, 2 for arguments that cannot be, each with one sentence on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m surgeline.demo.shop",
        description="A bookshop to put under load, with planted faults. Says its address in one line of JSON.",
        epilog="faults: " + " · ".join(fault.id for fault in FAULTS),
    )
    parser.add_argument("--host", default="127.0.0.1", help="loopback address to listen on (default %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (the default)")
    parser.add_argument("--faults", default="default", help="all, none, default, or ids with commas between")
    parser.add_argument("--data", type=Path, help="folder for the databases, kept; by default a temporary one")
    parser.add_argument("--access-log", type=Path, help="file for one JSON line per request")
    parser.add_argument("--stop-with-stdin", action="store_true", help="stop when stdin ends, as when a parent dies")
    chosen = parser.parse_args(arguments)
    try:
        faults = choose(chosen.faults)
        if not 0 <= chosen.port <= 65535:
            raise ValueError(f"{chosen.port} is not a port; take 0 to 65535")
        if chosen.data:
            serve(chosen.host, chosen.port, faults, chosen.data, chosen.access_log, chosen.stop_with_stdin)
        else:
            with tempfile.TemporaryDirectory(prefix="bookshop-") as folder:
                serve(chosen.host, chosen.port, faults, Path(folder), chosen.access_log, chosen.stop_with_stdin)
    except (ValueError, OSError) as error:
        print(f"bookshop: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
