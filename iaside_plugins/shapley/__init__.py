"""From a value table to Shapley values and the score; numpy only."""
