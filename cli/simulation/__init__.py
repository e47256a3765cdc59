"""`matrix-sync simulate`: many devices of several companies under load, and at the end each compared with MySQL."""
