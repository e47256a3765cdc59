-- The change log and what surrounds it. sync_changes, sync_live, sync_tx, sync_state and sync_epochs are written by the
-- tailer alone, sync_origins … sync_conflicts by the API alone: grants.sql makes that MySQL's law.

-- One row per change, never updated. Clustered by (company_id, version): a pull is one range read whose rows are joined as bytes.
-- `data`, `sealed` and `before` are TEXT, not JSON: MySQL would parse and print them again, and change numbers and key order.
-- device_id and local_id name the device that made the record and what it called it; origin_device_id made this change.
CREATE TABLE sync_changes (
    company_id BIGINT UNSIGNED NOT NULL,
    version BIGINT UNSIGNED NOT NULL,
    table_name VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    record_id BIGINT UNSIGNED NOT NULL,
    operation ENUM('INSERT', 'UPDATE', 'DELETE') NOT NULL,
    data LONGTEXT NOT NULL,
    sealed LONGTEXT NULL,
    `before` LONGTEXT NULL,
    timestamp VARCHAR(27) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    tx BIGINT UNSIGNED NOT NULL,
    origin ENUM('device', 'api', 'external', 'reconcile', 'system') NOT NULL,
    origin_id BIGINT UNSIGNED NULL,
    origin_device_id VARCHAR(128) COLLATE utf8mb4_0900_bin NULL,
    is_exact TINYINT(1) NOT NULL DEFAULT 0,
    device_id VARCHAR(128) COLLATE utf8mb4_0900_bin NULL,
    local_id VARCHAR(255) COLLATE utf8mb4_0900_bin NULL,
    for_device VARCHAR(128) COLLATE utf8mb4_0900_bin NULL,
    prev_version BIGINT UNSIGNED NULL,
    chain BINARY(32) NOT NULL,
    PRIMARY KEY (company_id, version),
    UNIQUE KEY sync_changes_version (version)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_0900_bin;

-- The newest version of each record a company has seen, deleted ones too: first and long pulls walk it by (company_id, version)
-- and so cost what the live records cost, not what the history costs. Narrow on purpose.
CREATE TABLE sync_live (
    company_id BIGINT UNSIGNED NOT NULL,
    table_name VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    record_id BIGINT UNSIGNED NOT NULL,
    version BIGINT UNSIGNED NOT NULL,
    is_deleted TINYINT(1) NOT NULL,
    device_id VARCHAR(128) COLLATE utf8mb4_0900_bin NULL,
    local_id VARCHAR(255) COLLATE utf8mb4_0900_bin NULL,
    PRIMARY KEY (company_id, table_name, record_id),
    UNIQUE KEY sync_live_version (company_id, version)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_0900_bin;

-- One row: the head and the checkpoint, which move in the same commit as the changes.
CREATE TABLE sync_state (
    id TINYINT UNSIGNED NOT NULL,
    epoch INT UNSIGNED NOT NULL,
    head BIGINT UNSIGNED NOT NULL,
    tx BIGINT UNSIGNED NOT NULL,
    gtid_set MEDIUMTEXT CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    binlog_file VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NULL,
    binlog_pos BIGINT UNSIGNED NULL,
    server_uuid CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    fencing_token BIGINT UNSIGNED NOT NULL,
    chain BINARY(32) NOT NULL,
    min_version BIGINT UNSIGNED NOT NULL,
    last_commit_at TIMESTAMP(6) NULL,
    PRIMARY KEY (id),
    CONSTRAINT sync_state_one_row CHECK (id = 1)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_0900_bin;

-- fork: the last version of the older past that is still true.
CREATE TABLE sync_epochs (
    epoch INT UNSIGNED NOT NULL,
    fork BIGINT UNSIGNED NOT NULL,
    reason VARCHAR(64) NOT NULL,
    started_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (epoch)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_0900_bin;

-- The tailer's right to write, apart from sync_state so that a waiting standby never blocks a commit.
CREATE TABLE sync_lease (
    id TINYINT UNSIGNED NOT NULL,
    holder VARCHAR(255) NOT NULL,
    connection_id BIGINT UNSIGNED NOT NULL,
    fencing_token BIGINT UNSIGNED NOT NULL,
    taken_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
    PRIMARY KEY (id),
    CONSTRAINT sync_lease_one_row CHECK (id = 1)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_0900_bin;

-- One row per MySQL transaction that made changes or came from the API; first_version is NULL where it changed nothing synced,
-- last_version is the head after it in any case: where in the order of versions it stands.
-- The epoch is part of the unique key: after a binlog reset a server counts its GTIDs from 1 again.
CREATE TABLE sync_tx (
    tx BIGINT UNSIGNED NOT NULL,
    epoch INT UNSIGNED NOT NULL,
    gtid VARCHAR(96) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    server_id INT UNSIGNED NOT NULL,
    commit_time_us BIGINT UNSIGNED NOT NULL,
    binlog_file VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    binlog_pos BIGINT UNSIGNED NOT NULL,
    origin ENUM('device', 'api', 'external', 'reconcile', 'system') NOT NULL,
    origin_id BIGINT UNSIGNED NULL,
    first_version BIGINT UNSIGNED NULL,
    last_version BIGINT UNSIGNED NOT NULL,
    statement MEDIUMTEXT NULL,
    PRIMARY KEY (tx),
    UNIQUE KEY sync_tx_gtid (epoch, gtid),
    KEY sync_tx_origin (origin_id),
    KEY sync_tx_first_version (first_version)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_0900_bin;

-- First in each transaction of the API: who caused it.
CREATE TABLE sync_origins (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    kind ENUM('device', 'api', 'system') NOT NULL,
    company_id BIGINT UNSIGNED NULL,
    device_id VARCHAR(128) COLLATE utf8mb4_0900_bin NULL,
    user_id BIGINT UNSIGNED NULL,
    login_id BIGINT UNSIGNED NULL,
    request_id VARCHAR(128) NOT NULL,
    push_id VARCHAR(255) NULL,
    created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_0900_bin;

-- What a device called a record, for ever: the same INSERT again finds the same row. In the same transaction as the row.
CREATE TABLE record_identities (
    company_id BIGINT UNSIGNED NOT NULL,
    device_id VARCHAR(128) COLLATE utf8mb4_0900_bin NOT NULL,
    install_id VARCHAR(128) COLLATE utf8mb4_0900_bin NOT NULL DEFAULT '',
    table_name VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    local_id VARCHAR(255) COLLATE utf8mb4_0900_bin NOT NULL,
    record_id BIGINT UNSIGNED NOT NULL,
    origin_id BIGINT UNSIGNED NOT NULL,
    PRIMARY KEY (company_id, device_id, install_id, table_name, local_id),
    KEY record_identities_record (company_id, table_name, record_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_0900_bin;

-- Each change of each push as it was sent, with its verdict; in the push's transaction. It overlays base images while the
-- tailer lags, repeats verdicts on a retry, and its row event tells the tailer local_id and is_exact.
-- fingerprint: the same for the same change sent again.
CREATE TABLE sync_pushed (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    origin_id BIGINT UNSIGNED NOT NULL,
    seq INT UNSIGNED NOT NULL,
    company_id BIGINT UNSIGNED NOT NULL,
    device_id VARCHAR(128) COLLATE utf8mb4_0900_bin NOT NULL,
    install_id VARCHAR(128) COLLATE utf8mb4_0900_bin NOT NULL DEFAULT '',
    table_name VARCHAR(64) NOT NULL,
    record_id BIGINT UNSIGNED NULL,
    local_id VARCHAR(255) COLLATE utf8mb4_0900_bin NULL,
    operation VARCHAR(16) NOT NULL,
    payload MEDIUMTEXT NOT NULL,
    base_version BIGINT UNSIGNED NULL,
    edited_at_us BIGINT NULL,
    status ENUM('applied', 'merged', 'noop', 'duplicate', 'conflict', 'rejected') NOT NULL,
    code VARCHAR(64) NULL,
    message TEXT NULL,
    fingerprint BINARY(32) NOT NULL,
    is_change TINYINT(1) NOT NULL,
    is_exact TINYINT(1) NOT NULL,
    is_maker TINYINT(1) NOT NULL,
    PRIMARY KEY (id),
    KEY sync_pushed_record (company_id, table_name, record_id, device_id, id),
    KEY sync_pushed_device (company_id, device_id, id),
    KEY sync_pushed_origin (origin_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_0900_bin;

-- What a device was answered and has been given, table by table (contract 1.3); `state` groups tables that stand alike, so a
-- pull writes one narrow row. Losing it errs on the safe side: rows come again.
CREATE TABLE sync_deliveries (
    company_id BIGINT UNSIGNED NOT NULL,
    device_id VARCHAR(128) COLLATE utf8mb4_0900_bin NOT NULL,
    state MEDIUMTEXT NOT NULL,
    last_pull_at TIMESTAMP(6) NULL,
    PRIMARY KEY (company_id, device_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_0900_bin;

-- Asked for by a push in its transaction: the row as it stands goes into that one device's feed under a new version.
CREATE TABLE sync_redeliveries (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    company_id BIGINT UNSIGNED NOT NULL,
    device_id VARCHAR(128) COLLATE utf8mb4_0900_bin NOT NULL,
    table_name VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    record_id BIGINT UNSIGNED NOT NULL,
    PRIMARY KEY (id),
    KEY sync_redeliveries_device (company_id, device_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_0900_bin;

-- Written by the snapshot around each range it reads.
CREATE TABLE sync_watermarks (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    run BINARY(16) NOT NULL,
    kind ENUM('low', 'high') NOT NULL,
    table_name VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    first_id BIGINT UNSIGNED NOT NULL,
    last_id BIGINT UNSIGNED NOT NULL,
    PRIMARY KEY (id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_0900_bin;

-- Refused payloads, with the base, both sides and who: nothing pushed is dropped.
CREATE TABLE sync_conflicts (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    company_id BIGINT UNSIGNED NOT NULL,
    device_id VARCHAR(128) COLLATE utf8mb4_0900_bin NOT NULL,
    user_id BIGINT UNSIGNED NULL,
    origin_id BIGINT UNSIGNED NOT NULL,
    table_name VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    record_id BIGINT UNSIGNED NULL,
    local_id VARCHAR(255) COLLATE utf8mb4_0900_bin NULL,
    operation VARCHAR(16) NOT NULL,
    type VARCHAR(32) NOT NULL,
    code VARCHAR(64) NULL,
    fields TEXT NULL,
    base MEDIUMTEXT NULL,
    client MEDIUMTEXT NOT NULL,
    server MEDIUMTEXT NULL,
    server_version BIGINT UNSIGNED NULL,
    fingerprint BINARY(32) NOT NULL,
    status ENUM('open', 'resolved') NOT NULL DEFAULT 'open',
    resolution VARCHAR(16) NULL,
    resolved_by BIGINT UNSIGNED NULL,
    resolved_at TIMESTAMP(6) NULL,
    created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (id),
    KEY sync_conflicts_open (company_id, status, id),
    KEY sync_conflicts_record (company_id, table_name, record_id),
    UNIQUE KEY sync_conflicts_fingerprint (company_id, device_id, fingerprint)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_0900_bin;

-- Operators' decisions, skips, epoch changes, sign-ins. Append only.
CREATE TABLE sync_audit (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    actor VARCHAR(255) NOT NULL,
    action VARCHAR(64) NOT NULL,
    details JSON NOT NULL,
    PRIMARY KEY (id),
    KEY sync_audit_action (action, id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_0900_bin;
