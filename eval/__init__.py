"""From clips to tables: arithmetic on rows and frames. Imports no method."""
