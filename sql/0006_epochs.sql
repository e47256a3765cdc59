-- What it takes to notice that MySQL's past was replaced, and to go on from there (contract 1.2).

-- The anchor is the last transaction that was read: by its time a binlog that was reset and grew again is told from one that goes
-- on. is_witnessed: the head is also kept outside MySQL, so from here on a missing witness halts.
ALTER TABLE sync_state
    ADD COLUMN anchor_gtid VARCHAR(96) CHARACTER SET ascii COLLATE ascii_bin NULL,
    ADD COLUMN anchor_time_us BIGINT UNSIGNED NULL,
    ADD COLUMN is_witnessed TINYINT(1) NOT NULL DEFAULT 0;

-- is_past_lost: devices may have been given versions beyond the fork. It is 0 where only unread transactions were passed over.
ALTER TABLE sync_epochs ADD COLUMN is_past_lost TINYINT(1) NOT NULL DEFAULT 1;

-- In this epoch, on this server, the AUTO_INCREMENT of every synced table has been raised: a lost id is not given again. By the
-- server too, since the raise makes no event: a replica that is promoted has not seen it. Written by the API.
CREATE TABLE sync_id_floors (
    epoch INT UNSIGNED NOT NULL,
    server_uuid CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    raised_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (epoch, server_uuid)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_0900_bin;
