"""Keep the source of the tests out of tracebacks: notebooks show the lines around an error, which hold the answer."""

import functools
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

CHECKS = str(Path(__file__).parent / "checks")


def without_source(check: Callable[..., None]) -> Callable[..., None]:
    """The test; its errors come with the frames of the student's own code and none of the test.

    IPython asks an error for `_render_traceback_`, and passes over a frame in which `__tracebackhide__` is set.
    """

    @functools.wraps(check)
    def quiet(*args: Any, **kwargs: Any) -> None:
        __tracebackhide__ = True
        try:
            check(*args, **kwargs)
        except BaseException as error:
            raise _stripped(error)  # noqa: B904 - it is the same error

    return quiet


def _stripped(error: BaseException) -> BaseException:
    frames, rest = error.__traceback__, error.__traceback__
    while frames is not None:
        if frames.tb_frame.f_code.co_filename.startswith(CHECKS):
            rest = frames.tb_next
        frames = frames.tb_next
    if rest is None and not hasattr(error, "_render_traceback_"):
        text = f"The test could not use the answer ({type(error).__name__}: {error})."
        error._render_traceback_ = lambda: [text]  # type: ignore[attr-defined]
    return error.with_traceback(_beyond(rest))


def _beyond(rest: TracebackType | None) -> TracebackType | None:
    """Without the frame of this module, which the traceback starts with if the error did not come from a test."""
    return rest.tb_next if rest is not None and rest.tb_frame.f_code.co_filename == __file__ else rest
