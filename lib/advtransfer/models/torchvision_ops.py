"""Let a CPU build of torch and a CUDA wheel of torchvision be imported together.

The CUDA wheel cannot load its compiled operators without CUDA, and torchvision (and with it transformers)
then fails on import, because it looks two of them up by name. Declaring the two names is all it needs.
"""

from importlib.util import find_spec
from pathlib import Path

import torch

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def declare_missing_operators() -> None:
    """Declare ``torchvision::nms`` and ``qnms`` where torch has no CUDA and torchvision expects it.

    It does nothing in every other case and when it is called again. Only the names are declared: calling one of the
    operators still fails.
    """
    if torch.version.cuda is None and _torchvision_is_cuda_build():
        for name in ("nms", "qnms"):
            if not hasattr(torch.ops.torchvision, name):
                torch.library.define(f"torchvision::{name}", _SCHEMA)


def _torchvision_is_cuda_build() -> bool:
    # The version file names the build. The metadata of the wheel does not, and importing torchvision may fail.
    spec = find_spec("torchvision")
    if spec is None or spec.origin is None:
        return False
    version_file = Path(spec.origin).with_name("version.py")
    return version_file.is_file() and "+cu" in version_file.read_text(encoding="utf-8")
