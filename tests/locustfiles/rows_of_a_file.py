"""Each user logs in as somebody else, from a file beside the locustfile."""

import csv
import itertools
from pathlib import Path

from locust import FastHttpUser, HttpUser, User, constant, task

with open(Path(__file__).with_name("people.csv"), encoding="utf-8", newline="") as file:
    people = itertools.cycle(list(csv.DictReader(file)))


class Login(User):
    abstract = True

    def on_start(self):
        self.person = next(people)
        self.client.post("/echo", data=self.person, name="/login")

    @task
    def who(self):
        self.client.get("/echo", headers={"X-Name": self.person["name"]}, name="/who")


class Plain(Login, HttpUser):
    fixed_count = 2
    wait_time = constant(0.05)


class Fast(Login, FastHttpUser):
    fixed_count = 1
    wait_time = constant(0.05)
