"""Lets PyPI's torchvision, which is built for CUDA, be imported beside a CPU torch. For the test environment alone.

Its C++ operators do not load there, and importing it fails where it describes two of them to torch. Images need none
of them: resizing is torch's own.
"""

import sys
from importlib.abc import MetaPathFinder

SCHEMAS = {
    "torchvision::nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "torchvision::qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
declared = []


class BeforeTorchvision(MetaPathFinder):
    """Declares the operators when torchvision is about to be imported; finds nothing itself."""

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision" and not declared:
            import torch

            for operator, schema in SCHEMAS.items():
                torch.library.define(operator, schema)
            declared.append(operator)


sys.meta_path.insert(0, BeforeTorchvision())
