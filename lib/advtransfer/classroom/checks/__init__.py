"""Tests of the assignments, which name the mistake.

A test calls the student's function with inputs drawn from a seed, and compares the result with the right answer. If
they differ, the result is compared with what the usual mistakes would have given. The tests are the same in a student's
notebook, under nbgrader, and in the grader, where the function is in the sandbox.
"""

from advtransfer.classroom.checks.answers import Mistake

__all__ = ["Mistake"]
