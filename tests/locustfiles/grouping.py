"""Requests to many URLs under one name, in each of the ways there are."""

import random

from locust import FastHttpUser, HttpUser, constant, task


class Plain(HttpUser):
    fixed_count = 1
    wait_time = constant(0.01)

    @task
    def go(self):
        number = random.randint(1, 1000)
        self.client.get(f"/echo/{number}", name="/echo/[id]")
        self.client.request_name = "/set"
        self.client.get(f"/echo?a={number}")
        self.client.get(f"/echo?b={number}")
        self.client.request_name = None
        with self.client.rename_request("/renamed"):
            self.client.get("/echo", params={"c": number})
        self.client.get("/ok")


class Fast(FastHttpUser):
    fixed_count = 1
    wait_time = constant(0.01)

    @task
    def go(self):
        number = random.randint(1, 1000)
        self.client.get(f"/echo/{number}", name="/echo/[id]")
        with self.client.rename_request("/renamed"):
            self.client.get(f"/echo?d={number}")
        self.client.get("/ok")
