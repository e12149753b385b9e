"""`python -m tests.locust_client CLIENT PORT`: all cases of the differential suite, as `cases` shows them."""

from tests.locust_client import cases, corners  # noqa: F401  # which adds cases

if __name__ == "__main__":
    cases.main()
