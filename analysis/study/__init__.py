"""A study: its settings, its inputs, and the people that it analyses."""
