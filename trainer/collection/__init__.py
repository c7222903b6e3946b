"""From a CSV of addresses to a data set: table, polite download, verification, specifications."""
