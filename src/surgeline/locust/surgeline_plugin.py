"""A locustfile without users that records what the others do: `locust -f locustfile.py,<this file>`."""

import locust

from surgeline.locust.launch import refuse

refuse(locust.__version__)
from surgeline.locust.plugin import install  # noqa: E402  # an older Locust lacks what it imports

install()
