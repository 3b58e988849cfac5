"""What holds for every test: how long something takes never decides."""

from hypothesis import settings

settings.register_profile("tiltyard", deadline=None, max_examples=30)
settings.load_profile("tiltyard")
