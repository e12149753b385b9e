"""One user class: a login at the start, tasks by weight, a pause between them."""

from locust import HttpUser, between, task


class Visitor(HttpUser):
    wait_time = between(0.01, 0.05)

    def on_start(self):
        self.client.post("/echo", json={"user": "mia", "password": "x"}, name="/login")

    @task(3)
    def look(self):
        self.client.get("/ok")

    @task
    def search(self):
        for word in ("lamp", "chair"):
            self.client.get("/echo", params={"q": word}, name="/search")
