"""Read generators from the files of other projects, without running anything in the files."""
