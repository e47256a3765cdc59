-- What a device surely held of a record when it made a change that is stored as it was sent. A change that follows a newer version is
-- not taken as the device's exact own: the pulls that bring that version must bring what came after it. NULL: written before this
-- migration, by programs that did not ask.
ALTER TABLE sync_pushed ADD COLUMN held_version BIGINT UNSIGNED NULL AFTER is_exact;
