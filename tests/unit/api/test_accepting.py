"""Which form of an answer a caller gets."""

import pytest

from api.accepting import preferred
from api.errors import NotAcceptable

OFFERED = ("application/json", "application/jose", "text/html")


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("*/*", "application/json"),
        ("", "application/json"),
        ("application/*", "application/json"),
        ("Application/JOSE", "application/jose"),
        ("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", "text/html"),
        ("image/png, application/jose;q=0.5", "application/jose"),
        ("text/*", "text/html"),
    ],
)
def test_the_first_form_that_is_offered(accept: str, form: str) -> None:
    assert preferred(accept, OFFERED) == form


@pytest.mark.parametrize("accept", ["image/png", "text/csv, image/*", "html"])
def test_nothing_that_is_offered(accept: str) -> None:
    with pytest.raises(NotAcceptable):
        preferred(accept, OFFERED)
