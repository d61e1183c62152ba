"""Reading of inputs, from a storage to decoded ECGs, and the units that work is cut into.

Others use:
    storage: `Storage` (and `FileMissing`, `StorageFault`, `StorageDenied`), `join`, `is_glob`.
    local_files: `FileKind`, `shown_path`, `write_whole`, `open_to_others`.
    inputs: `IdRule`, `list_input` and what it returns; names of archives are in `archives`.
    index: `IndexMatch` (which records of an index are there), `RecordIndex` (what it says of them).
    layout: `Layout`, `load_layout`.
    units: `Piece`, `Unit`, `UnitSummary`, `cut_units`, `merge_summaries`, `digest`, `path_digest`.
    unit_reader: `UnitReader`.
    blocks: `Chunk`, `EcgRow`, `Reject`, `prefetch` and what is computed of rows.
    parquet_input: `read_footer`, `read_table`, `read_keys`, `column_problems`.
    array_input: `is_array_file`, `is_stack`, `open_stack`, `stack_keys`, `stack_durations`.

Formats of device files are known to `lvm_core.formats.registry` alone.
"""
