"""From the web to rows: sources, clips and features. Plain functions; knows nothing of Dagster or of any method."""
