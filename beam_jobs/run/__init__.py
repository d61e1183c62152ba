"""A run: its settings, plan, units, commits, folder, report and end."""
