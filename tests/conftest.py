"""What holds for every test: how long something takes never decides."""

from hypothesis import settings

settings.register_profile("tiltyard", deadline=None)
settings.load_profile("tiltyard")
