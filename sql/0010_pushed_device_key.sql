-- What was pushed is looked for by record, by origin and by status. No query uses this key, and each pushed change had to keep it.
ALTER TABLE sync_pushed DROP KEY sync_pushed_device;
