"""The list of what changes state of the whole process names every module that does."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
CHANGES = re.compile(
    r"signal\.(signal|pthread_sigmask)\(|sys\.(unraisablehook|stdout|stderr) = |sys\.settrace\("
    r"|sys\.modules\[.*\] = |sys\.modules\.pop\(|sys\.path(\.insert\(| \+= )|os\.dup2\("
    r"|os\.environ(\[.*\] = |\.setdefault\()|mallopt\(|logging\.(disable|basicConfig)\("
    r"|\.setLevel\(|redirect_std(out|err)\(|setdefaulttimeout\(|set_start_method\("
    r"|threadpool_limits\(|LOAD_TRUNCATED_IMAGES = |torch\.manual_seed\(|set_num_threads\("
    r"|set_float32_matmul_precision\(|set_sync_debug_mode\(|register_module_forward_\w+\("
)


def test_every_module_that_changes_state_of_the_process_is_listed():
    source = (ROOT / "adapters" / "isolation.py").read_text(encoding="utf-8")
    listed = "\n".join(re.findall("^#.*", source, re.MULTILINE))
    missing = []
    for folder in ("iaside_plugins", "adapters", "leaderboard"):
        for file in (ROOT / folder).rglob("*.py"):
            name = ".".join(file.relative_to(ROOT / folder).with_suffix("").parts)
            name = name.removesuffix(".__main__")
            if CHANGES.search(file.read_text(encoding="utf-8")) and name != "isolation":
                missing += [name] * (re.search(rf"\b{re.escape(name)}\b", listed) is None)
    assert not missing
