"""The rows of sync_changes and sync_tx as they are sent to MySQL: value lists for an INSERT, and lines for LOAD DATA LOCAL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cdc.change_row import ChangeRow
from cdc.entries import PendingTx
from cdc.load import field, field_again, field_bytes
from cdc.sql import literal, literal_again, literal_bytes, quoted

CHANGE_COLUMNS = (
    "company_id, version, table_name, record_id, operation, data, sealed, `before`, timestamp, tx, origin, origin_id, "
    "origin_device_id, is_exact, device_id, local_id, for_device, prev_version, chain"
)
TX_COLUMNS = (
    "tx, epoch, gtid, server_id, commit_time_us, binlog_file, binlog_pos, origin, origin_id, first_version, last_version, statement"
)
_NULL, _ONE, _TWO = "\\N", "\\", "\\\\"
TxValues = tuple[int | str | None, ...]
"""A row of sync_tx."""


def change_literal(change: tuple[ChangeRow, bytes]) -> str:
    """A row and its chain hash as one SQL value list."""
    (
        company_id, version, table, record_id, operation, data, sealed, before, timestamp, tx, origin, origin_id,
        origin_device_id, is_exact, device_id, local_id, for_device, prev_version,
    ), chain = change  # fmt: skip
    return (
        f"({company_id},{version},{literal_again(table)},{record_id},{literal_again(operation)},{quoted(data)},"
        f"{literal(sealed)},{literal(before)},{literal_again(timestamp)},{tx},{literal_again(origin)},{literal(origin_id)},"
        f"{literal_again(origin_device_id)},{1 if is_exact else 0},{literal_again(device_id)},{literal(local_id)},"
        f"{literal_again(for_device)},{literal(prev_version)},{literal_bytes(chain)})"
    )


def change_lines(changes: Iterable[tuple[ChangeRow, bytes]]) -> Iterator[bytes]:
    """Lines of such rows; what JSON has no tabs and line ends in needs to have its backslashes escaped only."""
    number, told = 0, ""
    for (
        company_id, version, table, record_id, operation, data, sealed, before, timestamp, tx, origin, origin_id,
        origin_device_id, is_exact, device_id, local_id, for_device, prev_version,
    ), chain in changes:  # fmt: skip
        if tx != number:  # the same in all rows of a tx
            number = tx
            told = f"{timestamp}\t{tx}\t{origin}\t{field(origin_id)}\t{field(origin_device_id)}"
        text = (
            f"{company_id}\t{version}\t{table}\t{record_id}\t{operation}\t{data.replace(_ONE, _TWO)}\t"
            f"{_NULL if sealed is None else sealed.replace(_ONE, _TWO)}\t"
            f"{_NULL if before is None else before.replace(_ONE, _TWO)}\t"
            f"{told}\t{1 if is_exact else 0}\t{_NULL if device_id is None else field_again(device_id)}\t"
            f"{_NULL if local_id is None else field(local_id)}\t{_NULL if for_device is None else field_again(for_device)}\t"
            f"{_NULL if prev_version is None else prev_version}\t"
        )
        yield text.encode() + field_bytes(chain) + b"\n"


def tx_values_of(number: int, epoch: int, tx: PendingTx, versions: tuple[int | None, int]) -> TxValues:
    """`versions` are the first and the last of the tx; the first is None where it has none."""
    return (
        number,
        epoch,
        str(tx.gtid),
        tx.server_id,
        tx.commit_time_us,
        tx.file,
        tx.start_pos,
        tx.origin.kind.value,
        tx.origin.id,
        *versions,
        tx.statement,
    )


def tx_literal(values: TxValues) -> str:
    """As one SQL value list."""
    return f"({','.join(map(literal, values))})"


def tx_lines(rows: Iterable[TxValues]) -> Iterator[bytes]:
    """As lines."""
    for values in rows:
        yield ("\t".join(map(field, values)) + "\n").encode()
