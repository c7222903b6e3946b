"""From a CSV of addresses to a dataset: table, polite download, verification, specifications."""
