"""RobustBench's `benchmark` with interpretability beside its numbers (extra `robustbench`)."""

from iaside_plugins.adapters.robustbench_adapter.api import (
    __getattr__,  # noqa: F401  RobustBench's own `load_model`, `BenchmarkDataset`, `ThreatModel`
    benchmark,
    cost,
    evaluate,
)

__all__ = ["benchmark", "cost", "evaluate"]
