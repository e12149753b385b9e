"""A locustfile without users that records what the others do: `locust -f locustfile.py,<this file>`."""

from surgeline.locust.plugin import install

install()
