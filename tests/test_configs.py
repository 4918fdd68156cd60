"""Configs: what is given is understood, or refused in one line that helps."""

import pytest
from pydantic import Field

from advtransfer.records.configs import Config, ConfigError, Epsilon


class Demo(Config):
    PROFILES = {"smoke": {"steps": 1}, "quick": {"steps": 10}, "paper": {"steps": 100}}  # noqa: RUF012
    eps: Epsilon = Field(4 / 255, description="radius")
    steps: int = Field(5, ge=1, description="steps")
    widths: tuple[int, ...] = Field((1, 2), description="widths")
    decay: float | None = Field(None, description="decay")


def test_profile_then_overrides():
    assert Demo.from_profile().steps == 10
    assert Demo.from_profile("paper").steps == 100
    assert Demo.from_profile("paper", steps=None, eps=None) == Demo(profile="paper", steps=100)
    assert Demo.from_profile("paper", steps=7).steps == 7


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [("eps", text, 4 / 255) for text in ("4/255", " 4 / 255")]
    + [("eps", "1e-3", 1e-3), ("steps", "3", 3), ("decay", "1e-3", 1e-3)]
    + [("widths", text, (1, 2, 3)) for text in ("1,2,3", "(1, 2, 3)", "[1,2,3]", "['1', \"2\", 3]")],
)
def test_text_is_understood(name, text, value):
    assert getattr(Demo.from_profile(**{name: text}), name) == value


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"eps": -1}, "eps: got -1; expected greater than 0"),
        ({"eps": "1/0"}, "eps: got '1/0'; expected a number or a fraction such as 4/255"),
        ({"eps": float("nan")}, "eps: got nan; expected a finite number"),
        ({"decay": float("inf")}, "decay: got inf; expected a finite number"),
        ({"steps": True}, "steps: got True; expected a value that is not true or false"),
        ({"steps": "1e-3"}, "steps: got '1e-3'; expected a valid integer"),
        ({"steps": 2.5}, "steps: got 2.5; expected a valid integer, got a number with a fractional part"),
        ({"widths": "1,b"}, "widths: got 'b'; expected a valid integer"),
        ({"seed": 2**32}, "seed: got 4294967296; expected less than 4294967296"),
        ({"profile": "quik"}, "profile: got 'quik'; expected 'smoke', 'quick' or 'paper'"),
        ({"epsilon": 1}, "unknown parameter 'epsilon'; did you mean 'eps'?"),
        ({"zzz": 1}, "unknown parameter 'zzz'; expected one of profile, seed, eps, steps, widths, decay"),
        ({"step": 1, "eps": 0}, "eps: got 0; expected greater than 0\nunknown parameter 'step'; did you mean 'steps'?"),
    ],
)
def test_one_line_for_each_problem(given, message):
    with pytest.raises(ConfigError) as caught:
        Demo.from_profile(**given)
    assert str(caught.value) == message
