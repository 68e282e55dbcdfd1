"""What every test needs."""

import pytest


@pytest.fixture(autouse=True, scope="session")
def cache_of_the_tests(tmp_path_factory):
    """Features are kept in a folder of this session, never in that of the user who runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOUNDATION_REGISTRATION_CACHE", str(tmp_path_factory.mktemp("features")))
        yield
