"""Tables of people: one reader and one set of rules for every command.

`read_people` reads participants, `read_cmr_table` CMR examinations, `read_people_list` lists of
people, `read_code_table` code lists; `ParticipantTable` joins participants to ECGs and
`judge_people` looks at a table as a whole. docs/people_tables.md states the rules.
"""

from lvm_core.tables.cmr import CmrExaminations, read_cmr_table
from lvm_core.tables.codes import code_key, read_code_table, read_published_codes, system_key, with_phecodes
from lvm_core.tables.index import INDEX_PRESETS, Index, IndexLayout, index_layout_of_file, read_index
from lvm_core.tables.layout import PRESETS, ParticipantsLayout, layout_of_file, preset_layout
from lvm_core.tables.lists import PeopleList, read_people_list
from lvm_core.tables.participants import (
    Demographics,
    ParticipantTable,
    PeopleTable,
    TableJudgement,
    completed_years,
    demographics_problem,
    judge_people,
    unknown_demographics,
)
from lvm_core.tables.people import People, read_people, table_files
from lvm_core.tables.values import PLACEHOLDER_DATES, UNKNOWN_TEXTS, no_formula

__all__ = [
    "INDEX_PRESETS",
    "PLACEHOLDER_DATES",
    "PRESETS",
    "UNKNOWN_TEXTS",
    "CmrExaminations",
    "Demographics",
    "Index",
    "IndexLayout",
    "ParticipantTable",
    "ParticipantsLayout",
    "People",
    "PeopleList",
    "PeopleTable",
    "TableJudgement",
    "code_key",
    "completed_years",
    "demographics_problem",
    "index_layout_of_file",
    "judge_people",
    "layout_of_file",
    "no_formula",
    "preset_layout",
    "read_cmr_table",
    "read_code_table",
    "read_index",
    "read_people",
    "read_people_list",
    "read_published_codes",
    "system_key",
    "table_files",
    "unknown_demographics",
    "with_phecodes",
]
