"""The JSON entry of the board: its schema, checks and exports."""
