-- Retention: what of the change log was pruned on purpose, and how far. Written by cdc/retention.py alone, in the commits that
-- delete.

-- A stretch of versions that were pruned, side by side, and the chain hashes around it: so `verify --chain` proves what is left and
-- tells a pruned change from one that somebody deleted. Neighbours become one row, so there are never more than kept changes.
-- chain_before is NULL where the change before it was missing already.
CREATE TABLE sync_pruned (
    first_version BIGINT UNSIGNED NOT NULL,
    last_version BIGINT UNSIGNED NOT NULL,
    chain_before BINARY(32) NULL,
    chain_after BINARY(32) NOT NULL,
    PRIMARY KEY (first_version),
    UNIQUE KEY sync_pruned_last_version (last_version),
    CONSTRAINT sync_pruned_in_order CHECK (first_version <= last_version)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_0900_bin;

-- One row: how far retention has come, by versions and by numbers of sync_tx. From images_from on, the state of every version can
-- be told; the floor of cursors is sync_state.min_version. No transaction later than txs_before_us is gone from sync_tx.
CREATE TABLE sync_retention (
    id TINYINT UNSIGNED NOT NULL,
    images_walked BIGINT UNSIGNED NOT NULL DEFAULT 1,
    images_from BIGINT UNSIGNED NOT NULL DEFAULT 1,
    tombstones_walked BIGINT UNSIGNED NOT NULL DEFAULT 1,
    txs_walked BIGINT UNSIGNED NOT NULL DEFAULT 0,
    txs_before_us BIGINT UNSIGNED NOT NULL DEFAULT 0,
    PRIMARY KEY (id),
    CONSTRAINT sync_retention_one_row CHECK (id = 1)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_0900_bin;

INSERT IGNORE INTO sync_retention (id) VALUES (1);

-- From a time to the last transaction committed at or before it.
ALTER TABLE sync_tx ADD KEY sync_tx_commit_time (commit_time_us);
