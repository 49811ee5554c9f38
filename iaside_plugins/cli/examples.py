"""One example of every command, shown at the end of its `--help` and parsed by a test."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

EXAMPLES: Mapping[str, str] = MappingProxyType(
    {
        "demo": "iaside demo --out iaside-demo",
        "explain": "iaside explain timm:resnet50 --data val --attacks pgd",
        "profile": "iaside profile timm:resnet50 --data val --n-images 100",
        "heatmap": "iaside heatmap timm:resnet50 --data val --plot map.png",
        "compare": "iaside compare timm:resnet50 --data val --n-images 20",
        "doctor": "iaside doctor data",
        "evaluate": "iaside evaluate timm:resnet50 --data val --out entry.json",
        "sensitivity": "iaside sensitivity timm:resnet50 timm:vit_base_patch16_224 --data val",
        "show": "iaside show profile.npz --plot profile.png",
        "spectrum": "iaside spectrum --data val --corruptions fog,snow",
        "leaderboard validate": "iaside leaderboard validate entry.json",
        "leaderboard build": "iaside leaderboard build --check",
        "leaderboard add": "iaside leaderboard add entry.json",
        "leaderboard rename": "iaside leaderboard rename rn50 ResNet-50",
        "leaderboard schema": "iaside leaderboard schema",
        "leaderboard space": "iaside leaderboard space site --pages",
        "leaderboard submission": "iaside leaderboard submission HEAD --out checked",
        "leaderboard export": "iaside leaderboard export entry.json --to bibtex",
    }
)


def epilog(command: str) -> str:
    """Return the last line of a command's `--help`."""
    return f"Example: {EXAMPLES[command]}"
