"""Task sets in task sets, and one whose tasks come in their order."""

from locust import HttpUser, SequentialTaskSet, TaskSet, constant, task


class Checkout(SequentialTaskSet):
    @task
    def address(self):
        self.client.post("/echo", json={"street": "Elm"}, name="1 address")

    @task
    def payment(self):
        self.client.post("/echo", data={"card": "4111"}, name="2 payment")

    @task
    class Confirmation(TaskSet):
        @task
        def confirm(self):
            self.client.put("/echo", name="3 confirm")
            self.interrupt()

    @task
    def thanks(self):
        self.client.get("/ok", name="4 thanks")
        self.interrupt()


class Forum(TaskSet):
    wait_time = constant(0.005)

    @task(2)
    def threads(self):
        self.client.get("/ok", name="threads")

    @task(2)
    class Thread(TaskSet):
        @task(3)
        def read(self):
            self.client.get("/ok", name="read")

        @task
        def back(self):
            assert isinstance(self.parent, Forum)
            self.interrupt()

    @task
    def leave(self):
        self.interrupt()


class Customer(HttpUser):
    wait_time = constant(0.005)
    tasks = {Forum: 1, Checkout: 2}
