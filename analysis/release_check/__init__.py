"""An independent look at an export: what an output desk would ask about, worst first.

It reads files alone, and shares no code with the masking that made them. `command` is the command
line, `reading` turns files into tables and texts, `counts`, `figures` and `traces` find things.
"""
