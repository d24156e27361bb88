"""From the dictionaries of the parser to nested query blocks; `queries.Planner` is the way in."""
