"""What every test needs."""

import locale
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from stand_in.system_packages import why_no_qt


def pytest_addoption(parser, pluginmanager):
    """Without Qt's libraries pytest-qt would end every test run; the tests that need it are then skipped."""
    if why_no_qt():
        pluginmanager.set_blocked("pytest-qt")


@pytest.fixture(autouse=True)
def same_locale():
    """ITK's reader of VTK files, called by itself, leaves the locale "C" behind."""
    before = locale.setlocale(locale.LC_ALL)
    yield
    locale.setlocale(locale.LC_ALL, before)


@pytest.fixture(autouse=True, scope="session")
def cache_of_the_tests(tmp_path_factory):
    """Features are kept in a folder of this session, never in that of the user who runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOUNDATION_REGISTRATION_CACHE", str(tmp_path_factory.mktemp("features")))
        yield
