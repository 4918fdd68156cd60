"""Tests of the assignments: they name the mistake.

A test calls the student's function with inputs drawn from a seed, and compares what it gives with the right answer.
If it is another, it is compared with the answers that the usual mistakes would have given. The tests are the same
in a student's notebook, under nbgrader, and in the grader, where the function is in the sandbox.
"""

from advtransfer.classroom.checks.answers import Mistake

__all__ = ["Mistake"]
