"""Copy the images of a saved decomposition, class folders and all.

python tests/bench/copy_images.py RESULT.npz DATA TARGET
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from iaside_plugins.decomposition.result import ErrorDecomposition

if __name__ == "__main__":
    result, data, target = map(Path, sys.argv[1:])
    for name in ErrorDecomposition.load(result).ids:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(data / name, target / name)
