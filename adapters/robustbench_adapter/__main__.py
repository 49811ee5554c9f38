"""`python -m iaside_plugins.adapters.robustbench_adapter`: the flags of RobustBench, and ours."""

from iaside_plugins.adapters.robustbench_adapter.flags import main

main()
