"""Tasks with tags, of which the command line picks some."""

from locust import HttpUser, TaskSet, constant, tag, task


class Visitor(HttpUser):
    wait_time = constant(0.01)

    @tag("read", "quick")
    @task
    def quick(self):
        self.client.get("/ok", name="/quick")

    @tag("read", "slow")
    @task
    def slow(self):
        self.client.get("/slow/20", name="/slow")

    @task
    def untagged(self):
        self.client.get("/ok", name="/untagged")

    @tag("read")
    @task
    class More(TaskSet):
        @task
        def deep(self):
            self.client.get("/ok", name="/deep")
            self.interrupt()
