"""The paper: which runs each figure needs, what is read from them, its claims and their verdicts, and the figures."""
