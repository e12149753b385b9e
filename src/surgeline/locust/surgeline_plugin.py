"""A locustfile without users that records what the others do: `locust -f locustfile.py,<this file>`."""

import os

import locust
import locust.main

from surgeline.locust.launch import refuse

refuse(locust.__version__)
from surgeline.locust.plugin import install  # noqa: E402  # an older Locust lacks what it imports

install()

if hasattr(locust.main, "load_locustfile_pytest"):
    # Where no file has users Locust has pytest look for tests in each. This one has none, and what pytest would find
    # beside it, a configuration of Surgeline's own, is nobody's business.
    _look = locust.main.load_locustfile_pytest
    locust.main.load_locustfile_pytest = lambda path: {} if os.path.samefile(path, __file__) else _look(path)
