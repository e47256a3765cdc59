-- The domain: every synced table, and what signs people and devices in.
--
-- Common to all synced tables:
-- * UNIQUE (company_id, id) is what composite foreign keys point to, so that not even plain SQL can link two companies' rows.
-- * The three times are set by MySQL, so that plain SQL sets them too. TIMESTAMP, because DATETIME with CURRENT_TIMESTAMP
--   stores the session's zone.
-- * No ON DELETE CASCADE or SET NULL: before MySQL 9.6 the rows they change are not in the binlog.
-- * KEY (company_id, deleted_at) lists a company's live rows.
-- * A name that must be unique is compared byte by byte (utf8mb4_0900_bin): two offline devices may make what a collation
--   would call equal. Among live rows only, by a functional key part that is NULL for deleted ones; document numbers over all rows.

CREATE TABLE companies (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    name VARCHAR(255) NOT NULL,
    primary_currency CHAR(3) NULL,
    financial_year_start_month TINYINT UNSIGNED NULL,
    address TEXT NULL,
    phone VARCHAR(255) NULL,
    email VARCHAR(255) NULL,
    is_active TINYINT(1) NOT NULL DEFAULT 1,
    books_locked_until DATE NULL,
    created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
    deleted_at TIMESTAMP(6) NULL,
    PRIMARY KEY (id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_0900_ai_ci;

-- One person, whatever companies they work for. Not synced: the password hash must never be near the change log.
CREATE TABLE logins (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    email VARCHAR(255) NOT NULL,
    full_name VARCHAR(255) NOT NULL,
    password_hash VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    is_active TINYINT(1) NOT NULL DEFAULT 1,
    created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (id),
    UNIQUE KEY logins_email (email)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_0900_ai_ci;

-- One install of the app. Its row, locked first, is what puts two pushes of one device one after the other.
-- device_id is compared byte by byte: utf8mb4_bin would take 'x' and 'x ' for one device.
CREATE TABLE devices (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    device_id VARCHAR(128) COLLATE utf8mb4_0900_bin NOT NULL,
    login_id BIGINT UNSIGNED NOT NULL,
    name VARCHAR(255) NULL,
    capabilities JSON NULL,
    clock_lead_ms BIGINT NULL,
    revoked_at TIMESTAMP(6) NULL,
    created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (id),
    UNIQUE KEY devices_device_id (device_id),
    CONSTRAINT devices_login FOREIGN KEY (login_id) REFERENCES logins (id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_0900_ai_ci;

-- One sign-in. The access token names it, so revoking it ends both tokens; the refresh token rotates inside the row,
-- and the hash before the present one tells a retry over a bad line from a stolen token (RFC 9700, 4.14.2).
CREATE TABLE sessions (
    id BINARY(16) NOT NULL,
    login_id BIGINT UNSIGNED NOT NULL,
    device_id VARCHAR(128) COLLATE utf8mb4_0900_bin NULL,
    refresh_hash BINARY(32) NOT NULL,
    previous_refresh_hash BINARY(32) NULL,
    rotated_at TIMESTAMP(6) NULL,
    expires_at TIMESTAMP(6) NOT NULL,
    revoked_at TIMESTAMP(6) NULL,
    created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (id),
    UNIQUE KEY sessions_refresh (refresh_hash),
    KEY sessions_previous_refresh (previous_refresh_hash),
    CONSTRAINT sessions_login FOREIGN KEY (login_id) REFERENCES logins (id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_0900_ai_ci;

CREATE TABLE users (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    company_id BIGINT UNSIGNED NOT NULL,
    login_id BIGINT UNSIGNED NULL,
    full_name VARCHAR(255) NOT NULL,
    email VARCHAR(255) NULL,
    role ENUM('owner', 'admin', 'accountant', 'sales', 'viewer') NOT NULL DEFAULT 'viewer',
    is_active TINYINT(1) NOT NULL DEFAULT 1,
    created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
    deleted_at TIMESTAMP(6) NULL,
    PRIMARY KEY (id),
    UNIQUE KEY users_company_id (company_id, id),
    UNIQUE KEY users_company_login (company_id, login_id),
    KEY users_live (company_id, deleted_at),
    CONSTRAINT users_company FOREIGN KEY (company_id) REFERENCES companies (id),
    CONSTRAINT users_login FOREIGN KEY (login_id) REFERENCES logins (id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_0900_ai_ci;

CREATE TABLE parties (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    company_id BIGINT UNSIGNED NOT NULL,
    name VARCHAR(255) NOT NULL,
    party_type ENUM('customer', 'supplier', 'both') NOT NULL DEFAULT 'customer',
    customer_class ENUM('retailer', 'wholesaler', 'other') NOT NULL DEFAULT 'other',
    phone VARCHAR(255) NULL,
    email VARCHAR(255) NULL,
    address TEXT NULL,
    tax_number VARCHAR(255) NULL,
    opening_balance DECIMAL(15,2) NOT NULL DEFAULT 0,
    credit_limit DECIMAL(15,2) NOT NULL DEFAULT 0,
    payment_terms_days INT NULL,
    is_active TINYINT(1) NOT NULL DEFAULT 1,
    created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
    deleted_at TIMESTAMP(6) NULL,
    PRIMARY KEY (id),
    UNIQUE KEY parties_company_id (company_id, id),
    KEY parties_live (company_id, deleted_at),
    CONSTRAINT parties_company FOREIGN KEY (company_id) REFERENCES companies (id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_0900_ai_ci;

CREATE TABLE item_categories (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    company_id BIGINT UNSIGNED NOT NULL,
    name VARCHAR(255) NOT NULL,
    parent_category_id BIGINT UNSIGNED NULL,
    created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
    deleted_at TIMESTAMP(6) NULL,
    PRIMARY KEY (id),
    UNIQUE KEY item_categories_company_id (company_id, id),
    KEY item_categories_live (company_id, deleted_at),
    CONSTRAINT item_categories_company FOREIGN KEY (company_id) REFERENCES companies (id),
    CONSTRAINT item_categories_parent_category_id FOREIGN KEY (company_id, parent_category_id) REFERENCES item_categories (company_id, id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_0900_ai_ci;

CREATE TABLE units_of_measure (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    company_id BIGINT UNSIGNED NOT NULL,
    name VARCHAR(255) NOT NULL,
    abbrev VARCHAR(255) NULL,
    created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
    deleted_at TIMESTAMP(6) NULL,
    PRIMARY KEY (id),
    UNIQUE KEY units_of_measure_company_id (company_id, id),
    KEY units_of_measure_live (company_id, deleted_at),
    CONSTRAINT units_of_measure_company FOREIGN KEY (company_id) REFERENCES companies (id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_0900_ai_ci;

CREATE TABLE products (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    company_id BIGINT UNSIGNED NOT NULL,
    sku VARCHAR(255) COLLATE utf8mb4_0900_bin NULL,
    name VARCHAR(255) NOT NULL,
    description TEXT NULL,
    category_id BIGINT UNSIGNED NULL,
    uom_id BIGINT UNSIGNED NULL,
    is_tracked TINYINT(1) NOT NULL DEFAULT 1,
    last_cost DECIMAL(15,2) NOT NULL DEFAULT 0,
    sale_price DECIMAL(15,2) NOT NULL DEFAULT 0,
    opening_qty DECIMAL(15,3) NOT NULL DEFAULT 0,
    is_active TINYINT(1) NOT NULL DEFAULT 1,
    created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
    deleted_at TIMESTAMP(6) NULL,
    PRIMARY KEY (id),
    UNIQUE KEY products_company_id (company_id, id),
    UNIQUE KEY products_sku (company_id, sku, (IF(deleted_at IS NULL, 1, NULL))),
    KEY products_live (company_id, deleted_at),
    CONSTRAINT products_company FOREIGN KEY (company_id) REFERENCES companies (id),
    CONSTRAINT products_category_id FOREIGN KEY (company_id, category_id) REFERENCES item_categories (company_id, id),
    CONSTRAINT products_uom_id FOREIGN KEY (company_id, uom_id) REFERENCES units_of_measure (company_id, id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_0900_ai_ci;

CREATE TABLE accounts (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    company_id BIGINT UNSIGNED NOT NULL,
    name VARCHAR(255) NOT NULL,
    code VARCHAR(255) COLLATE utf8mb4_0900_bin NULL,
    account_type ENUM('asset', 'liability', 'equity', 'revenue', 'expense') NOT NULL,
    parent_account_id BIGINT UNSIGNED NULL,
    description TEXT NULL,
    opening_balance DECIMAL(15,2) NOT NULL DEFAULT 0,
    is_system TINYINT(1) NOT NULL DEFAULT 0,
    is_active TINYINT(1) NOT NULL DEFAULT 1,
    created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
    deleted_at TIMESTAMP(6) NULL,
    PRIMARY KEY (id),
    UNIQUE KEY accounts_company_id (company_id, id),
    UNIQUE KEY accounts_code (company_id, code, (IF(deleted_at IS NULL, 1, NULL))),
    KEY accounts_live (company_id, deleted_at),
    CONSTRAINT accounts_company FOREIGN KEY (company_id) REFERENCES companies (id),
    CONSTRAINT accounts_parent_account_id FOREIGN KEY (company_id, parent_account_id) REFERENCES accounts (company_id, id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_0900_ai_ci;

CREATE TABLE payment_accounts (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    company_id BIGINT UNSIGNED NOT NULL,
    account_type ENUM('cash', 'bank', 'cheque') NOT NULL,
    account_name VARCHAR(255) NOT NULL,
    bank_name VARCHAR(255) NULL,
    account_number VARCHAR(255) NULL,
    ifsc_code VARCHAR(255) NULL,
    icon VARCHAR(255) NULL,
    is_active TINYINT(1) NOT NULL DEFAULT 1,
    is_default TINYINT(1) NOT NULL DEFAULT 0,
    created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
    deleted_at TIMESTAMP(6) NULL,
    PRIMARY KEY (id),
    UNIQUE KEY payment_accounts_company_id (company_id, id),
    KEY payment_accounts_live (company_id, deleted_at),
    CONSTRAINT payment_accounts_company FOREIGN KEY (company_id) REFERENCES companies (id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_0900_ai_ci;

CREATE TABLE transactions (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    company_id BIGINT UNSIGNED NOT NULL,
    type ENUM('sale', 'purchase', 'expense', 'receipt', 'payment', 'saleReturn', 'purchaseReturn', 'journal') NOT NULL,
    date DATE NOT NULL,
    reference_no VARCHAR(255) NULL,
    party_id BIGINT UNSIGNED NULL,
    payment_account_id BIGINT UNSIGNED NULL,
    description TEXT NULL,
    total_amount DECIMAL(15,2) NOT NULL DEFAULT 0,
    is_posted TINYINT(1) NOT NULL DEFAULT 1,
    created_by_user_id BIGINT UNSIGNED NULL,
    created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
    deleted_at TIMESTAMP(6) NULL,
    PRIMARY KEY (id),
    UNIQUE KEY transactions_company_id (company_id, id),
    KEY transactions_live (company_id, deleted_at),
    CONSTRAINT transactions_company FOREIGN KEY (company_id) REFERENCES companies (id),
    CONSTRAINT transactions_party_id FOREIGN KEY (company_id, party_id) REFERENCES parties (company_id, id),
    CONSTRAINT transactions_payment_account_id FOREIGN KEY (company_id, payment_account_id) REFERENCES payment_accounts (company_id, id),
    CONSTRAINT transactions_created_by_user_id FOREIGN KEY (company_id, created_by_user_id) REFERENCES users (company_id, id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_0900_ai_ci;

CREATE TABLE transaction_lines (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    company_id BIGINT UNSIGNED NOT NULL,
    transaction_id BIGINT UNSIGNED NOT NULL,
    product_id BIGINT UNSIGNED NULL,
    account_id BIGINT UNSIGNED NULL,
    description TEXT NULL,
    quantity DECIMAL(15,3) NOT NULL DEFAULT 0,
    unit_price DECIMAL(15,2) NOT NULL DEFAULT 0,
    line_amount DECIMAL(15,2) NOT NULL DEFAULT 0,
    created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
    deleted_at TIMESTAMP(6) NULL,
    PRIMARY KEY (id),
    UNIQUE KEY transaction_lines_company_id (company_id, id),
    KEY transaction_lines_live (company_id, deleted_at),
    CONSTRAINT transaction_lines_company FOREIGN KEY (company_id) REFERENCES companies (id),
    CONSTRAINT transaction_lines_transaction_id FOREIGN KEY (company_id, transaction_id) REFERENCES transactions (company_id, id),
    CONSTRAINT transaction_lines_product_id FOREIGN KEY (company_id, product_id) REFERENCES products (company_id, id),
    CONSTRAINT transaction_lines_account_id FOREIGN KEY (company_id, account_id) REFERENCES accounts (company_id, id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_0900_ai_ci;

CREATE TABLE invoices (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    company_id BIGINT UNSIGNED NOT NULL,
    transaction_id BIGINT UNSIGNED NULL,
    invoice_type ENUM('sale', 'purchase', 'saleReturn', 'purchaseReturn') NOT NULL,
    invoice_number VARCHAR(255) COLLATE utf8mb4_0900_bin NOT NULL,
    party_id BIGINT UNSIGNED NULL,
    invoice_date DATE NOT NULL,
    due_date DATE NULL,
    grand_total DECIMAL(15,2) NOT NULL DEFAULT 0,
    status ENUM('draft', 'sent', 'paid', 'overdue', 'void') NOT NULL DEFAULT 'draft',
    notes TEXT NULL,
    created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
    deleted_at TIMESTAMP(6) NULL,
    PRIMARY KEY (id),
    UNIQUE KEY invoices_company_id (company_id, id),
    UNIQUE KEY invoices_invoice_number (company_id, invoice_type, invoice_number),
    KEY invoices_live (company_id, deleted_at),
    CONSTRAINT invoices_company FOREIGN KEY (company_id) REFERENCES companies (id),
    CONSTRAINT invoices_transaction_id FOREIGN KEY (company_id, transaction_id) REFERENCES transactions (company_id, id),
    CONSTRAINT invoices_party_id FOREIGN KEY (company_id, party_id) REFERENCES parties (company_id, id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_0900_ai_ci;

CREATE TABLE account_transactions (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    company_id BIGINT UNSIGNED NOT NULL,
    account_id BIGINT UNSIGNED NOT NULL,
    transaction_type ENUM('saleInvoice', 'purchaseInvoice', 'paymentIn', 'paymentOut', 'journalEntry', 'saleReturn', 'purchaseReturn', 'expense') NOT NULL,
    reference_id BIGINT UNSIGNED NULL,
    transaction_id BIGINT UNSIGNED NULL,
    transaction_date DATE NOT NULL,
    debit DECIMAL(15,2) NOT NULL DEFAULT 0,
    credit DECIMAL(15,2) NOT NULL DEFAULT 0,
    description TEXT NULL,
    reference_no VARCHAR(255) NULL,
    party_id BIGINT UNSIGNED NULL,
    created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
    deleted_at TIMESTAMP(6) NULL,
    PRIMARY KEY (id),
    UNIQUE KEY account_transactions_company_id (company_id, id),
    KEY account_transactions_live (company_id, deleted_at),
    CONSTRAINT account_transactions_company FOREIGN KEY (company_id) REFERENCES companies (id),
    CONSTRAINT account_transactions_account_id FOREIGN KEY (company_id, account_id) REFERENCES accounts (company_id, id),
    CONSTRAINT account_transactions_transaction_id FOREIGN KEY (company_id, transaction_id) REFERENCES transactions (company_id, id),
    CONSTRAINT account_transactions_party_id FOREIGN KEY (company_id, party_id) REFERENCES parties (company_id, id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_0900_ai_ci;

CREATE TABLE payment_ins (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    company_id BIGINT UNSIGNED NOT NULL,
    receipt_no VARCHAR(255) COLLATE utf8mb4_0900_bin NOT NULL,
    receipt_date DATE NOT NULL,
    party_id BIGINT UNSIGNED NULL,
    total_amount DECIMAL(15,2) NOT NULL DEFAULT 0,
    description TEXT NULL,
    attachment_path VARCHAR(255) NULL,
    created_by_user_id BIGINT UNSIGNED NULL,
    created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
    deleted_at TIMESTAMP(6) NULL,
    PRIMARY KEY (id),
    UNIQUE KEY payment_ins_company_id (company_id, id),
    UNIQUE KEY payment_ins_receipt_no (company_id, receipt_no),
    KEY payment_ins_live (company_id, deleted_at),
    CONSTRAINT payment_ins_company FOREIGN KEY (company_id) REFERENCES companies (id),
    CONSTRAINT payment_ins_party_id FOREIGN KEY (company_id, party_id) REFERENCES parties (company_id, id),
    CONSTRAINT payment_ins_created_by_user_id FOREIGN KEY (company_id, created_by_user_id) REFERENCES users (company_id, id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_0900_ai_ci;

CREATE TABLE payment_in_lines (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    company_id BIGINT UNSIGNED NOT NULL,
    payment_in_id BIGINT UNSIGNED NOT NULL,
    payment_account_id BIGINT UNSIGNED NULL,
    amount DECIMAL(15,2) NOT NULL DEFAULT 0,
    reference_no VARCHAR(255) NULL,
    created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
    deleted_at TIMESTAMP(6) NULL,
    PRIMARY KEY (id),
    UNIQUE KEY payment_in_lines_company_id (company_id, id),
    KEY payment_in_lines_live (company_id, deleted_at),
    CONSTRAINT payment_in_lines_company FOREIGN KEY (company_id) REFERENCES companies (id),
    CONSTRAINT payment_in_lines_payment_in_id FOREIGN KEY (company_id, payment_in_id) REFERENCES payment_ins (company_id, id),
    CONSTRAINT payment_in_lines_payment_account_id FOREIGN KEY (company_id, payment_account_id) REFERENCES payment_accounts (company_id, id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_0900_ai_ci;

CREATE TABLE payment_outs (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    company_id BIGINT UNSIGNED NOT NULL,
    voucher_no VARCHAR(255) COLLATE utf8mb4_0900_bin NOT NULL,
    voucher_date DATE NOT NULL,
    party_id BIGINT UNSIGNED NULL,
    total_amount DECIMAL(15,2) NOT NULL DEFAULT 0,
    description TEXT NULL,
    attachment_path VARCHAR(255) NULL,
    created_by_user_id BIGINT UNSIGNED NULL,
    created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
    deleted_at TIMESTAMP(6) NULL,
    PRIMARY KEY (id),
    UNIQUE KEY payment_outs_company_id (company_id, id),
    UNIQUE KEY payment_outs_voucher_no (company_id, voucher_no),
    KEY payment_outs_live (company_id, deleted_at),
    CONSTRAINT payment_outs_company FOREIGN KEY (company_id) REFERENCES companies (id),
    CONSTRAINT payment_outs_party_id FOREIGN KEY (company_id, party_id) REFERENCES parties (company_id, id),
    CONSTRAINT payment_outs_created_by_user_id FOREIGN KEY (company_id, created_by_user_id) REFERENCES users (company_id, id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_0900_ai_ci;

CREATE TABLE payment_out_lines (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    company_id BIGINT UNSIGNED NOT NULL,
    payment_out_id BIGINT UNSIGNED NOT NULL,
    payment_account_id BIGINT UNSIGNED NULL,
    amount DECIMAL(15,2) NOT NULL DEFAULT 0,
    reference_no VARCHAR(255) NULL,
    created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
    deleted_at TIMESTAMP(6) NULL,
    PRIMARY KEY (id),
    UNIQUE KEY payment_out_lines_company_id (company_id, id),
    KEY payment_out_lines_live (company_id, deleted_at),
    CONSTRAINT payment_out_lines_company FOREIGN KEY (company_id) REFERENCES companies (id),
    CONSTRAINT payment_out_lines_payment_out_id FOREIGN KEY (company_id, payment_out_id) REFERENCES payment_outs (company_id, id),
    CONSTRAINT payment_out_lines_payment_account_id FOREIGN KEY (company_id, payment_account_id) REFERENCES payment_accounts (company_id, id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_0900_ai_ci;

CREATE TABLE stock_ledger (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    company_id BIGINT UNSIGNED NOT NULL,
    product_id BIGINT UNSIGNED NOT NULL,
    date DATE NOT NULL,
    movement_type ENUM('inPurchase', 'outSale', 'inAdjustment', 'outAdjustment') NOT NULL,
    quantity_delta DECIMAL(15,3) NOT NULL DEFAULT 0,
    unit_cost DECIMAL(15,2) NOT NULL DEFAULT 0,
    total_cost DECIMAL(15,2) NOT NULL DEFAULT 0,
    transaction_id BIGINT UNSIGNED NULL,
    invoice_id BIGINT UNSIGNED NULL,
    created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
    deleted_at TIMESTAMP(6) NULL,
    PRIMARY KEY (id),
    UNIQUE KEY stock_ledger_company_id (company_id, id),
    KEY stock_ledger_live (company_id, deleted_at),
    CONSTRAINT stock_ledger_company FOREIGN KEY (company_id) REFERENCES companies (id),
    CONSTRAINT stock_ledger_product_id FOREIGN KEY (company_id, product_id) REFERENCES products (company_id, id),
    CONSTRAINT stock_ledger_transaction_id FOREIGN KEY (company_id, transaction_id) REFERENCES transactions (company_id, id),
    CONSTRAINT stock_ledger_invoice_id FOREIGN KEY (company_id, invoice_id) REFERENCES invoices (company_id, id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_0900_ai_ci;

CREATE TABLE settings (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    company_id BIGINT UNSIGNED NOT NULL,
    name VARCHAR(255) COLLATE utf8mb4_0900_bin NOT NULL,
    value JSON NULL,
    created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
    deleted_at TIMESTAMP(6) NULL,
    PRIMARY KEY (id),
    UNIQUE KEY settings_company_id (company_id, id),
    UNIQUE KEY settings_name (company_id, name, (IF(deleted_at IS NULL, 1, NULL))),
    KEY settings_live (company_id, deleted_at),
    CONSTRAINT settings_company FOREIGN KEY (company_id) REFERENCES companies (id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_0900_ai_ci;

