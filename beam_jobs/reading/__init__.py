"""Reading of inputs: storage, archives, Parquet, raw device files, layouts."""
