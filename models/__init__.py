"""From rows to generated clips. A folder is a paper; a file is a part that the papers share."""
