-- The short code that a company leases each device, so that document numbers made offline (INV-<code>-000123) cannot collide.
-- A lease never ends: numbers made under it may still be on their way when the device is revoked, and stand in the books after it.
-- device_id as in devices; seq is what code was made from.
CREATE TABLE document_codes (
    company_id BIGINT UNSIGNED NOT NULL,
    device_id VARCHAR(128) COLLATE utf8mb4_0900_bin NOT NULL,
    seq INT UNSIGNED NOT NULL,
    code VARCHAR(8) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    leased_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (company_id, device_id),
    UNIQUE KEY document_codes_seq (company_id, seq),
    UNIQUE KEY document_codes_code (company_id, code)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_0900_bin;
