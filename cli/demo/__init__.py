"""`matrix-sync demo`: trading days of a real retailer, played through the public HTTP API and a plain SQL client."""
