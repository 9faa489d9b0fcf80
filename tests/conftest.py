"""What holds for all tests."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from controller.log import LOGGER

# A slow machine is no failure: hypothesis would call an example that takes 200 ms one.
settings.register_profile("salvus", deadline=None)
settings.load_profile("salvus")


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """A test that runs a command in this process has its log configured; the next test finds it as it was."""
    level, handlers, propagate = LOGGER.level, LOGGER.handlers[:], LOGGER.propagate
    yield
    LOGGER.setLevel(level)
    LOGGER.handlers[:], LOGGER.propagate = handlers, propagate
