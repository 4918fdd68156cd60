"""Assignments: editions for students and teachers, grading in a sandbox, feedback."""
