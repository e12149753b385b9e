"""A protocol that Locust does not know: calls by XML-RPC, each told as a request, beside users of HTTP."""

import os
import time
from xmlrpc.client import Fault, ServerProxy

from locust import HttpUser, User, constant, task


class Calls:
    def __init__(self, url, event):
        self._proxy = ServerProxy(url, allow_none=True)
        self._event = event

    def __getattr__(self, name):
        def call(*arguments):
            told = {
                "request_type": "xmlrpc",
                "name": name,
                "start_time": time.time(),
                "response_length": 0,
                "response": None,
                "context": {},
                "exception": None,
            }
            began = time.perf_counter()
            try:
                told["response"] = getattr(self._proxy, name)(*arguments)
            except Fault as fault:
                told["exception"] = fault
            told["response_time"] = (time.perf_counter() - began) * 1000
            self._event.fire(**told)
            return told["response"]

        return call


class Caller(User):
    wait_time = constant(0.05)
    host = os.environ.get("XMLRPC_URL", "")

    def __init__(self, environment):
        super().__init__(environment)
        self.client = Calls(os.environ["XMLRPC_URL"], environment.events.request)

    @task
    def sum(self):
        assert self.client.add(2, 3) == 5

    @task
    def broken(self):
        self.client.broken()


class Visitor(HttpUser):
    wait_time = constant(0.05)

    @task
    def look(self):
        self.client.get("/ok")
