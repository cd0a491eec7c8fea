"""One file per place that videos come from. Each gives rows of the `videos` table."""
