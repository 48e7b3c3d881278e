"""The sections of the page, one file each: from findings to tables, charts and sentences."""
