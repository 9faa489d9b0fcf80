"""What holds for all tests."""

from hypothesis import settings

# A slow machine is no failure: hypothesis would call an example that takes 200 ms one.
settings.register_profile("salvus", deadline=None)
settings.load_profile("salvus")
