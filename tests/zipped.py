"""Zip files and notebooks for the tests of collecting and giving back."""

import json
import zipfile
from pathlib import Path


def notebook(text: str) -> bytes:
    """A notebook of one raw cell."""
    return json.dumps({"cells": [{"cell_type": "raw", "metadata": {}, "source": text}], "nbformat": 4}).encode()


def archive(path: Path, files: dict, when: tuple = (2026, 3, 1, 12, 0, 0)) -> Path:
    """A zip file with these members, by name: the content, or the content and when it was changed."""
    with zipfile.ZipFile(path, "w") as made:
        for name, content in files.items():
            content, date = content if isinstance(content, tuple) else (content, when)
            made.writestr(zipfile.ZipInfo(name, date), content)
    return path
