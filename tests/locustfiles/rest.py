"""A JSON API, asked with `self.rest`."""

from locust import FastHttpUser, constant, task
from locust.contrib.fasthttp import RestResponseContextManager


class Api(FastHttpUser):
    wait_time = constant(0.05)
    default_headers = {"X-Api": "1"}

    @task
    def use(self):
        with self.rest("POST", "/echo", json={"n": 1}, name="/right") as answer:
            assert answer.js["body"] == '{"n":1}' or answer.js["body"] == '{"n": 1}'
            assert answer.js["headers"]["accept"] == "application/json"
            assert answer.js["headers"]["x-api"] == "1"
        with self.rest("GET", "/echo", name="/wrong") as answer:
            assert answer.js["method"] == "POST", "the method is another"
        with self.rest("GET", "/ok", name="/explained") as answer:
            if answer.js["text"] != "bye":
                answer.failure("it does not say bye")
        with self.rest("GET", "/slow/1", name="/no json"):
            pass
        with self.own("/ok", name="/own"):
            pass

    def own(self, path, **more) -> RestResponseContextManager:
        return self.rest("GET", path, headers={"X-Own": "1"}, **more)
