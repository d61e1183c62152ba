"""The report of a study, made of masked tables.

`build` runs the `topics`, each a section with tables and `figures`, and masks what they publish;
`document` has what sections are made of; `words` the numbers as text, in the format of one of the
`journals`; `statements` sentences with the rows of their numbers; `methods` the paragraphs about
methods; `manuscript` the text for authors, with `references`. `layout` says how tables are printed;
`page`, `word`, `latex` and `manuscript_files` render; `write` fills the folders of a study.
"""
