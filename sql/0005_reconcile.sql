-- One run of `matrix-sync reconcile` or `snapshot`: asked for by an operator, worked through by the tailer, kept for good.
-- tables: JSON, in the order in which they are read. table_name and next_id: where the run goes on, moved in the same commit as
-- the changes it made. is_open is NULL when the run is over, so that there is one open run at a time.
CREATE TABLE sync_reconcile_runs (
    run BINARY(16) NOT NULL,
    kind ENUM('reconcile', 'snapshot') NOT NULL,
    tables TEXT CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    requested_by VARCHAR(255) NOT NULL,
    requested_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    state ENUM('open', 'done', 'cancelled', 'failed') NOT NULL DEFAULT 'open',
    is_open TINYINT(1) NULL DEFAULT 1,
    table_name VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    next_id BIGINT UNSIGNED NOT NULL DEFAULT 0,
    rows_read BIGINT UNSIGNED NOT NULL DEFAULT 0,
    inserted BIGINT UNSIGNED NOT NULL DEFAULT 0,
    updated BIGINT UNSIGNED NOT NULL DEFAULT 0,
    deleted BIGINT UNSIGNED NOT NULL DEFAULT 0,
    problem TEXT NULL,
    ended_at TIMESTAMP(6) NULL,
    PRIMARY KEY (run),
    UNIQUE KEY sync_reconcile_runs_open (is_open),
    KEY sync_reconcile_runs_requested (requested_at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_0900_bin;

-- A range of one table's ids over all companies: what the change log has of the rows that a range of the table holds.
ALTER TABLE sync_live ADD KEY sync_live_record (table_name, record_id);
