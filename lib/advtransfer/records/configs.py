"""The parameters of an experiment: declared once, checked before anything runs."""

import hashlib
from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Literal, Self, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from advtransfer.names import unknown


class ConfigError(ValueError):
    """Parameters that cannot be used; one line per problem: the parameter, what was given, what is expected."""


def _fraction(value: Any) -> Any:
    try:
        return float(Fraction("".join(value.split()))) if isinstance(value, str) and "/" in value else value
    except (ValueError, ZeroDivisionError, OverflowError):
        raise ValueError("a number or a fraction such as 4/255") from None


Epsilon = Annotated[float, Field(gt=0), BeforeValidator(_fraction)]
"""A radius greater than 0; the text ``"4/255"`` is accepted."""


class Config(BaseModel):
    """Base of every experiment's parameters: frozen, complete, and strict about what it is given.

    A subclass declares each field with its type, its range and ``Field(description=...)``. Its ``PROFILES`` hold the
    values that each size of run sets.

    Examples
    --------
    >>> class Demo(Config):
    ...     PROFILES = {"quick": {"steps": 10}, "paper": {"steps": 100}}
    ...     eps: Epsilon = Field(4 / 255, description="radius of the attack")
    ...     steps: int = Field(1, ge=1, description="steps of the attack")
    >>> Demo.from_profile("paper", eps="8/255", steps=None)
    Demo(profile='paper', seed=0, eps=0.03137254901960784, steps=100)
    >>> Demo.from_profile(epsilon=0.1)
    Traceback (most recent call last):
    advtransfer.records.configs.ConfigError: unknown parameter 'epsilon'; did you mean 'eps'?
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    PROFILES: ClassVar[dict[str, dict[str, Any]]] = {}

    profile: Literal["smoke", "quick", "paper"] = Field("quick", description="size of the run: smoke, quick or paper")
    seed: int = Field(0, ge=0, lt=2**32, description="seed of everything random")

    def __init__(self, /, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigError(explain(error, list(type(self).model_fields))) from None

    @classmethod
    def from_profile(cls, profile: str = "quick", **overrides: Any) -> Self:
        """The values of `profile`, replaced by each override that is not None."""
        given = {name: value for name, value in overrides.items() if value is not None}
        return cls(**{**cls.PROFILES.get(profile, {}), **given, "profile": profile})

    @classmethod
    def from_cell(cls, namespace: Mapping[str, Any]) -> Self:
        """Read the parameters from the variables of a notebook, given as ``globals()``; the profile sets the others."""
        return cls.from_profile(**{name: namespace[name] for name in cls.model_fields if name in namespace})

    def seed_of(self, *what: str) -> int:
        """The seed of one random component, which `what` names; it does not depend on the other components."""
        return int.from_bytes(hashlib.sha256(repr((self.seed, *what)).encode()).digest()[:4])

    @field_validator("*", mode="before")
    @classmethod
    def _from_text(cls, value: Any, info: ValidationInfo) -> Any:
        assert info.field_name is not None
        kind = cls.model_fields[info.field_name].annotation
        if isinstance(value, bool) and kind is not bool:
            raise ValueError("a value that is not true or false")
        if kind is float:
            return _fraction(value)
        if isinstance(value, str) and get_origin(kind) in (list, tuple):
            return [part for item in value.strip("()[] ").split(",") if (part := item.strip("'\" "))]
        return value


def parameter_lines(kind: type[Config], defaults: Mapping[str, Any] | None = None) -> str:
    """The parameters cell of a notebook: one line ``name: type = default  # meaning`` per field.

    The default is None, which stands for the value of the profile, unless `defaults` or the base Config sets another.
    """
    usual = {name: field.default for name, field in Config.model_fields.items()} | dict(defaults or {})
    return "\n".join(
        f"{name}: {_type(field)} = {_literal(usual.get(name))}  # {field.description}"
        for name, field in kind.model_fields.items()
    )


def _type(field: FieldInfo) -> str:
    kind = field.annotation
    if get_origin(kind) is Literal:
        return type(get_args(kind)[0]).__name__
    return getattr(kind, "__name__", str(kind)) if get_origin(kind) is None else "list"


def _literal(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) and '"' not in value and "\\" not in value else repr(value)


def meaning(kind: type[Config], profile: str = "quick") -> list[tuple[str, str, str, str]]:
    """The name, the type, the default in a profile and the meaning of each parameter, as text."""
    defaults = kind.from_profile(profile)
    return [
        (name, described(field), _plain(getattr(defaults, name)), field.description or "")
        for name, field in kind.model_fields.items()
    ]


def described(field: FieldInfo) -> str:
    """The type of a parameter and its allowed values, e.g. "int, ≥ 1, ≤ 1000" or "smoke | quick | paper"."""
    kind = field.annotation
    if get_origin(kind) is Literal:
        return " | ".join(map(str, get_args(kind)))
    name = getattr(kind, "__name__", str(kind)) if get_origin(kind) is None else "list of " + _members(kind)
    bounds = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤", "multiple_of": "a multiple of"}
    limits = [
        f"{sign} {getattr(part, bound)}"
        for part in field.metadata
        for bound, sign in bounds.items()
        if getattr(part, bound, None) is not None
    ]
    return ", ".join([name, *limits])


def _members(kind: Any) -> str:
    member = get_args(kind)[0]
    while get_origin(member) is Annotated:
        member = get_args(member)[0]
    return " | ".join(map(str, get_args(member))) or member.__name__


def _plain(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ",".join(map(_plain, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def explain(error: ValidationError, names: list[str]) -> str:
    """One line per problem: the parameter, what was given and what is expected."""
    problems: dict[str, ErrorDetails] = {}
    for problem in error.errors():  # each member of a union reports one: the first is enough
        problems.setdefault(str(problem["loc"][0]) if problem["loc"] else "parameters", problem)
    return "\n".join(_line(name, problem, names) for name, problem in problems.items())


def _line(name: str, problem: ErrorDetails, names: list[str]) -> str:
    if problem["type"] == "extra_forbidden":
        return unknown("parameter", name, names)
    if problem["type"] == "missing":
        return f"{name}: not given; expected a value"
    expected = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ").partition(", unable")[0]
    return f"{name}: got {problem['input']!r}; expected {expected}"
