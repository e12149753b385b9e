"""`python -m surgeline.locust path` prints the plugin's file, for `locust -f locustfile.py,<path>`."""

import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """`path`, or `finish DIRECTORY AT_NS`, which the plugin calls for a run that has ended."""
    match arguments:
        case ["path"]:
            print(Path(__file__).with_name("surgeline_plugin.py"))
            return 0
        case ["finish", path, at_ns]:
            from surgeline.locust.door import finish

            return finish(Path(path), int(at_ns))
    sys.stderr.write("usage: locust -f locustfile.py,$(python -m surgeline.locust path)\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
