-- How often a replay has put back rows of sync_live. The tailer remembers what it read of them: an append that was made of memory
-- holds only where this stands as it did then, which costs nothing in the UPDATE that moves the head.
ALTER TABLE sync_state ADD COLUMN live_mended BIGINT UNSIGNED NOT NULL DEFAULT 0;
