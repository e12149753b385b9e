"""What holds for every test."""

from hypothesis import settings

# A deadline per example would measure the machine: it is shared, and tests run beside each other.
settings.register_profile("surgeline", deadline=None)
settings.load_profile("surgeline")
