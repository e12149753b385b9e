"""Master and workers tell each other things of their own."""

from locust import FastHttpUser, constant, events, task
from locust.runners import MasterRunner, WorkerRunner

names = []


def take_names(environment, msg, **_):
    names.extend(msg.data)
    environment.runner.send_message("thanks", f"for {len(msg.data)} names")


def hear_thanks(msg, **_):
    print("told: thanks", msg.data)


@events.init.add_listener
def on_init(environment, **_):
    if not isinstance(environment.runner, MasterRunner):
        environment.runner.register_message("names", take_names)
    if not isinstance(environment.runner, WorkerRunner):
        environment.runner.register_message("thanks", hear_thanks)


@events.test_start.add_listener
def on_test_start(environment, **_):
    if isinstance(environment.runner, WorkerRunner):
        return
    everybody = [f"user-{number}" for number in range(8)]
    workers = list(environment.runner.clients)
    share = len(everybody) // len(workers)
    for number, worker in enumerate(workers):
        environment.runner.send_message("names", everybody[number * share : (number + 1) * share], worker)


class Named(FastHttpUser):
    wait_time = constant(0.02)

    def on_start(self):
        self.name = names.pop()

    @task
    def go(self):
        self.client.get("/echo", headers={"X-Name": self.name}, name="/named")
