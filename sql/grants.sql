-- Three accounts with least privilege; `migrate` fills in the database and the account names and runs this after each migration.
-- {database} {api} {tailer} {operator} are quoted identifiers and accounts. One direction is MySQL's law: the API cannot write the
-- change log, the tailer cannot write a domain table.

-- The API reads the change log …
GRANT SELECT ON {database}.schema_migrations TO {api};
GRANT SELECT ON {database}.sync_changes TO {api};
GRANT SELECT ON {database}.sync_live TO {api};
GRANT SELECT ON {database}.sync_state TO {api};
GRANT SELECT ON {database}.sync_epochs TO {api};
GRANT SELECT ON {database}.sync_lease TO {api};
GRANT SELECT ON {database}.sync_tx TO {api};
GRANT SELECT ON {database}.sync_retention TO {api};

-- … and writes what it says and hears. What must stay as it was written it can only append.
GRANT SELECT, INSERT ON {database}.sync_origins TO {api};
GRANT SELECT, INSERT ON {database}.record_identities TO {api};
GRANT SELECT, INSERT ON {database}.sync_pushed TO {api};
GRANT SELECT, INSERT ON {database}.sync_redeliveries TO {api};
GRANT SELECT, INSERT ON {database}.sync_audit TO {api};
GRANT SELECT, INSERT ON {database}.sync_id_floors TO {api};
GRANT SELECT, INSERT, UPDATE ON {database}.sync_conflicts TO {api};
GRANT SELECT, INSERT, UPDATE, DELETE ON {database}.sync_deliveries TO {api};
GRANT SELECT, INSERT, UPDATE ON {database}.logins TO {api};
GRANT SELECT, INSERT, UPDATE ON {database}.devices TO {api};
GRANT SELECT, INSERT ON {database}.document_codes TO {api};
GRANT SELECT, INSERT, UPDATE, DELETE ON {database}.sessions TO {api};

-- The tailer reads the binlog and everything beside it, and writes the change log.
GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO {tailer};
GRANT SELECT ON {database}.* TO {tailer};
GRANT INSERT, DELETE ON {database}.sync_changes TO {tailer};
GRANT INSERT, UPDATE, DELETE ON {database}.sync_live TO {tailer};
GRANT INSERT, UPDATE ON {database}.sync_state TO {tailer};
GRANT INSERT ON {database}.sync_epochs TO {tailer};
GRANT INSERT, UPDATE ON {database}.sync_lease TO {tailer};
GRANT INSERT, DELETE ON {database}.sync_tx TO {tailer};
GRANT INSERT, DELETE ON {database}.sync_watermarks TO {tailer};
GRANT UPDATE ON {database}.sync_reconcile_runs TO {tailer};
GRANT INSERT ON {database}.sync_audit TO {tailer};

-- Retention, by the tailer or by command: old history goes, and what the API appended beside it.
GRANT INSERT, DELETE ON {database}.sync_pruned TO {tailer};
GRANT UPDATE ON {database}.sync_retention TO {tailer};
GRANT DELETE ON {database}.sync_pushed TO {tailer};
GRANT DELETE ON {database}.sync_redeliveries TO {tailer};
GRANT DELETE ON {database}.sync_origins TO {tailer};
GRANT DELETE ON {database}.sync_watermarks TO {tailer};
GRANT INSERT, DELETE ON {database}.sync_pruned TO {operator};
GRANT UPDATE ON {database}.sync_retention TO {operator};
GRANT DELETE ON {database}.sync_pushed TO {operator};
GRANT DELETE ON {database}.sync_redeliveries TO {operator};
GRANT DELETE ON {database}.sync_origins TO {operator};
GRANT DELETE ON {database}.sync_watermarks TO {operator};

-- The operator's commands read all of it, read the binlog, and repair the change log. They write no domain table.
GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO {operator};
GRANT SELECT ON {database}.* TO {operator};
GRANT INSERT, DELETE ON {database}.sync_changes TO {operator};
GRANT INSERT, UPDATE, DELETE ON {database}.sync_live TO {operator};
GRANT INSERT, UPDATE ON {database}.sync_state TO {operator};
GRANT INSERT, DELETE ON {database}.sync_tx TO {operator};
GRANT INSERT ON {database}.sync_epochs TO {operator};
GRANT INSERT, UPDATE ON {database}.sync_reconcile_runs TO {operator};
GRANT INSERT ON {database}.sync_audit TO {operator};
GRANT UPDATE ON {database}.sync_conflicts TO {operator};
GRANT UPDATE ON {database}.devices TO {operator};
GRANT UPDATE ON {database}.sessions TO {operator};
