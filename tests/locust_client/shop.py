"""A locustfile as people write them: login, browsing, nested task sets, a checkout with an upload, checks of answers.

CLIENT_KIND chooses the stock or our classes; everything else is the same text.
"""

import itertools
import os
import random

from locust import LoadTestShape, SequentialTaskSet, TaskSet, between, constant, events, tag, task

if os.environ.get("CLIENT_KIND") == "native":
    from surgeline.locust import FastHttpUser, HttpUser
else:
    from locust import FastHttpUser, HttpUser

numbers = itertools.count()
seen = {"requests": 0, "failures": 0}


@events.request.add_listener
def on_request(exception, **_):
    """Counts what the statistics count."""
    seen["requests"] += 1
    seen["failures"] += exception is not None


class Checkout(SequentialTaskSet):
    @task
    def cart(self):
        with self.client.post("/echo", json={"item": 1, "n": 2}, catch_response=True, name="/cart") as response:
            if response.json()["method"] != "POST":
                response.failure("not what was sent")

    @task
    def receipt(self):
        self.client.post("/echo", files={"receipt": ("r.txt", b"paid", "text/plain")}, name="/receipt")

    @task
    def done(self):
        self.interrupt()


class Browsing(TaskSet):
    @task(3)
    def index(self):
        self.client.get("/json")

    @task(2)
    def product(self):
        self.client.get(f"/echo/{random.randint(1, 50)}?sort=price", name="/product/[id]")

    @task
    def missing(self):
        with self.client.get("/status/404", catch_response=True) as response:
            if response.status_code == 404:
                response.success()

    @task
    class Inner(TaskSet):  # noqa: D106
        @task
        def old(self):
            self.client.get("/redirect/302?to=/json", name="/old")
            self.interrupt(reschedule=False)

    tasks = {Checkout: 1}  # noqa: RUF012  # as Locust has it


class Shopper(HttpUser):
    wait_time = between(0.001, 0.005)
    weight = 2
    tasks = [Browsing]  # noqa: RUF012  # as Locust has it

    def on_start(self):
        self.number = next(numbers)
        self.client.get(f"/cookie/session/{self.number}", name="/login")

    @task
    def account(self):
        told = self.client.get("/echo", name="/account").json()
        cookies = dict(told["headers"]).get("Cookie", "")
        assert f"session={self.number}" in cookies, cookies

    @tag("slow")
    @task
    def report(self):
        with self.rest("GET", "/json", name="/report") as response:
            assert response.js["name"] == "x", "no name"


class Robot(FastHttpUser):
    wait_time = constant(0.002)

    def on_start(self):
        self.number = next(numbers)
        self.client.get(f"/cookie/session/{self.number}", name="/login")

    @task
    def search(self):
        told = self.client.get("/echo?q=shoes", name="/search").json()
        assert f"session={self.number}" in dict(told["headers"]).get("Cookie", "")

    @task
    def stream(self):
        assert list(self.client.iter_lines("/lines", name="/lines")) == ["one", "two", "three"]

    @task
    def failing(self):
        self.client.get("/status/503", name="/failing")


class Stairs(LoadTestShape):
    def tick(self):
        passed = self.get_run_time()
        return None if passed > 3 else (6 if passed < 1.5 else 10, 20)


@events.quitting.add_listener
def on_quitting(environment, **_):
    """The listener has seen what the statistics have."""
    total = environment.stats.total
    if (total.num_requests, total.num_failures) != (seen["requests"], seen["failures"]):
        environment.process_exit_code = 77
    elif {error.name for error in environment.stats.errors.values()} != {"/failing"}:
        environment.process_exit_code = 78
    elif environment.runner.exceptions:
        environment.process_exit_code = 79
    else:
        environment.process_exit_code = 0
