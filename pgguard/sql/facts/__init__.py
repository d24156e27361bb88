"""From the dictionaries of the parser to plain facts; `reading.read` is the way in."""
