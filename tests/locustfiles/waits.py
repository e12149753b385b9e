"""Every kind of pause between tasks."""

from locust import FastHttpUser, HttpUser, between, constant, constant_pacing, constant_throughput, task


class Constant(HttpUser):
    fixed_count = 1
    wait_time = constant(0.1)

    @task
    def go(self):
        self.client.get("/ok", name="constant")


class Between(FastHttpUser):
    fixed_count = 1
    wait_time = between(0.05, 0.15)

    @task
    def go(self):
        self.client.get("/ok", name="between")


class Paced(FastHttpUser):
    fixed_count = 1
    wait_time = constant_pacing(0.2)

    @task
    def go(self):
        self.client.get("/slow/50", name="paced")


class Throughput(HttpUser):
    fixed_count = 1
    wait_time = constant_throughput(10)

    @task
    def go(self):
        self.client.get("/slow/20", name="throughput")


class Growing(HttpUser):
    fixed_count = 1
    last = 0.01

    def wait_time(self):
        self.last *= 2
        return self.last

    @task
    def go(self):
        self.client.get("/ok", name="growing")
