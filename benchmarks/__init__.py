"""What is measured once; each result is a file beside the module that wrote it."""
