"""What holds for every test: how long something takes never decides."""

from hypothesis import settings

settings.register_profile("tiltyard", deadline=None, max_examples=20)
settings.load_profile("tiltyard")
