"""The server and the cases of the differential suite of Locust's clients."""
