"""Listeners to what Locust tells, with a context of their own, and an end that the listener of requests decides."""

import json
import os

from locust import FastHttpUser, HttpUser, constant, events, task

heard = {"requests": 0, "failures": 0, "bytes": 0, "contexts": [], "order": []}


@events.init.add_listener
def on_init(environment, **_):
    heard["order"].append("init")
    environment.seen = 0


@events.test_start.add_listener
def on_test_start(**_):
    heard["order"].append("test_start")


@events.spawning_complete.add_listener
def on_spawning_complete(user_count, **_):
    heard["order"].append(f"spawned {user_count}")


@events.request.add_listener
def on_request(request_type, name, response_time, response_length, response, context, exception, start_time, url, **_):
    heard["requests"] += 1
    heard["failures"] += exception is not None
    heard["bytes"] += response_length
    assert response_time >= 0 and start_time > 1e9 and url.startswith("http")
    if context and context not in heard["contexts"]:
        heard["contexts"].append(context)


@events.test_stop.add_listener
def on_test_stop(**_):
    heard["order"].append("test_stop")


@events.quitting.add_listener
def on_quitting(**_):
    with open(os.environ["HEARD"], "w") as file:
        json.dump(heard, file)


class Known(HttpUser):
    fixed_count = 1
    wait_time = constant(0.02)

    def context(self):
        return {"who": "known"}

    @task
    def go(self):
        self.client.get("/ok")
        self.client.get("/status/503", context={"why": "a try"})


class Fast(FastHttpUser):
    fixed_count = 1
    wait_time = constant(0.02)

    @task
    def go(self):
        self.client.get("/echo", context={"who": "fast"})
