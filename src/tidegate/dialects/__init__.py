"""One module per API dialect. Pure: no I/O, no clock."""
