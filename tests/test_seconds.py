"""The table of slow files: what it names is there, and every room has quick tests."""

from pathlib import Path

from house import measure_house
from seconds import SECONDS

TESTS = Path(__file__).parent


def test_the_files_are_there():
    assert not [name for name in SECONDS if not (TESTS / name).is_file()]


def test_every_room_has_quick_tests():
    quick = {path.relative_to(TESTS).as_posix() for path in TESTS.rglob("test_*.py")}
    quick -= SECONDS.keys()
    assert {name.split("/")[0] for name in quick} >= set(measure_house().rooms)


def test_the_marker_is_that_of_the_table(request):
    """This file is quick, and so is its test."""
    assert request.node.get_closest_marker("quick") is not None
