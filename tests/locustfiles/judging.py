"""Answers that the locustfile judges itself."""

import time
from json import JSONDecodeError

from locust import FastHttpUser, HttpUser, User, constant, task
from locust.exception import RescheduleTask


class Judge(User):
    abstract = True

    @task
    def judge(self):
        with self.client.get("/echo", catch_response=True, name="json") as response:
            try:
                if response.json()["method"] != "POST":
                    response.failure("the method is not POST")
            except (JSONDecodeError, KeyError):
                response.failure("no such answer")
        with self.client.get("/status/404", catch_response=True, name="forgiven") as response:
            if response.status_code == 404:
                response.success()
        began = time.perf_counter()
        with self.client.get("/slow/30", catch_response=True, name="too slow") as response:
            if time.perf_counter() - began > 0.02:
                response.failure("took too long")
        self.client.get("/status/500", name="by status")
        with self.client.get("/ok", catch_response=True, name="rescheduled") as response:
            if "hello" in response.text:
                response.failure("again")
                raise RescheduleTask()
        raise AssertionError("not reached")


class Slow(Judge, HttpUser):
    fixed_count = 1
    wait_time = constant(0.05)


class Fast(Judge, FastHttpUser):
    fixed_count = 1
    wait_time = constant(0.05)
