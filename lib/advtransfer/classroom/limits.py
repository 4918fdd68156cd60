"""What a submission may use, and what can go wrong with it."""

from typing import NamedTuple

START_SECONDS = 120.0
LONGER = 10  # times its limit may an answer take on a busy machine
STARTS = 12  # of one submission: the first one, and those after it has ended its process


class Limits(NamedTuple):
    """What a submission may use."""

    seconds: float = 20.0
    """For one cell or one call."""
    total_seconds: float = 180.0
    """For everything together."""
    memory: int = 2**30
    """Bytes for each process, beyond what the imports take."""
    processes: int = 8
    """Processes and threads."""
    disk: int = 2**26
    """Bytes of files."""
    check_seconds: float = 20.0
    """Of the processor, for the grader's own work on one exercise."""


class SandboxError(ValueError):
    """There is no sandbox on this machine, or it does not start, so nothing is graded."""


class SubmissionError(Exception):
    """The student's code raised an error, or returned something that is not plain data."""


class Unanswered(SubmissionError):
    """The code raised NotImplementedError, as the cells of a student edition do."""


class Missing(SubmissionError):
    """The code has not defined what a test asks for."""


class Stopped(SubmissionError):
    """The process of the submission has ended or was ended; another one can be started."""
