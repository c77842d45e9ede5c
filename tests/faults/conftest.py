"""One service on servers of its own for all tests that break it; each leaves it whole."""

from collections.abc import Iterator

import pytest

from tests.builders.rig import Rig
from tests.builders.servers import fresh_bucket


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """They stay together, so that it is started once."""
    for item in items:
        if "rig" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("rig"))


_LAST = pytest.StashKey[bool]()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Note whether the test is the last one that needs the rig."""
    item.stash[_LAST] = "rig" not in getattr(nextitem, "fixturenames", ())


@pytest.fixture(scope="session")
def _rig(s3_endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with Rig(tmp_path_factory.mktemp("rig"), fresh_bucket(s3_endpoint)) as running:
        running.register("faces")
        yield running


@pytest.fixture
def rig(_rig: Rig, request: pytest.FixtureRequest) -> Iterator[Rig]:
    """The running service, all of it at work; after the test everything that must hold is looked at."""
    _rig.start()
    _rig.wait_api()
    yield _rig
    _rig.start()
    assert _rig.check() == []
    if request.node.stash[_LAST]:
        _rig.service.rest()
