"""The report of a study, made of masked tables.

`build` runs the `topics`, each a section with tables and `figures`, and masks what they publish;
`document` has what sections are made of, `words` the numbers as text, `methods` the paragraphs
about methods. `page` and `word` render; `write` fills the folders of a study.
"""
