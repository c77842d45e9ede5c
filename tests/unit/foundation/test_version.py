"""Which code a run says that it was carried out by."""

import re

from core.platform.version import code


def test_what_the_build_says_goes_before_what_a_checkout_says() -> None:
    assert code("abc")["commit"] == "abc"
    found = code()["commit"]
    assert found is None or re.fullmatch(r"[0-9a-f]{40}(-dirty)?", found)
    assert code()["version"].count(".") == 2
