-- What is neither applied nor in conflict is listed by company without reading everything that was ever pushed, and can be tried
-- again as it was sent: with its group.
ALTER TABLE sync_pushed
    ADD COLUMN group_name VARCHAR(255) COLLATE utf8mb4_0900_bin NULL AFTER operation,
    ADD KEY sync_pushed_status (company_id, status, id);
