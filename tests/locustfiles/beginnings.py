"""What happens once: for the test, for each user at its start and at its end."""

from locust import HttpUser, SequentialTaskSet, constant, events, task


@events.test_start.add_listener
def on_test_start(environment, **_):
    print("told: the test starts at", environment.host.rpartition(":")[0])


@events.test_stop.add_listener
def on_test_stop(environment, **_):
    print("told: the test stops after", environment.stats.total.num_requests, "requests")


class Member(HttpUser):
    wait_time = constant(0.05)

    def on_start(self):
        self.client.get("/cookie?value=mine", name="/login")

    def on_stop(self):
        self.client.delete("/status/204", name="/logout")

    @task
    class Stay(SequentialTaskSet):
        def on_start(self):
            self.client.get("/ok", name="/enter")

        @task
        def read(self):
            told = self.client.get("/echo", name="/read").json()
            assert "session=mine" in told["headers"]["cookie"]

        @task
        def leave(self):
            self.interrupt(reschedule=False)
