"""Guards of the books and of who may see and write what."""

from __future__ import annotations

from tests.guards.guard import guard, layered
from tests.guards.promises import BOOKS, BYPASSED, SEEN

RULES = "tests/schema/test_rules.py::test"
DATA = "tests/api/test_data.py::test"
PUSH = "tests/api/sync/test_push.py::test"
TOLD = "tests/api/sync/test_refused_is_told.py::test"
SCOPE = "tests/api/sync/test_pull_scope.py::test"
REFERENCES = "tests/api/sync/test_push_references.py::test"
GRANTS = "tests/schema/test_migrations.py::test"
DERIVE = "tests/cdc/test_derive.py::test"

RULES_OF_THE_BOOKS = (
    guard(
        "debits-equal-credits",
        BOOKS,
        "schema/rules.py",
        "    if sums.entries and sums.debit != sums.credit:",
        "    if False:",
        f"{RULES}_entries_balance_exactly_or_are_refused_and_may_be_sent_again",
    ),
    guard(
        "lines-add-up",
        BOOKS,
        "schema/rules.py",
        "    if sums.is_posted and sums.lines and abs(sums.line_amount - sums.total_amount) > CENT * sums.lines:",
        "    if False:",
        f"{RULES}_lines_add_up_to_the_total_within_a_cent_a_line",
    ),
    guard(
        "an-entry-has-one-side",
        BOOKS,
        "schema/rules.py",
        "    if debit and credit:",
        "    if False:",
        f"{RULES}_a_journal_entry_has_one_side_and_is_not_negative",
    ),
    guard(
        "nothing-negative",
        BOOKS,
        "schema/rules.py",
        "    if debit < 0 or credit < 0:",
        "    if False:",
        f"{RULES}_a_journal_entry_has_one_side_and_is_not_negative",
    ),
    guard(
        "locked-periods",
        BOOKS,
        "schema/rules.py",
        "row[column] <= locked_until.isoformat():",
        "row[column] < locked_until.isoformat():",
        f"{RULES}_nothing_is_dated_in_a_locked_period_before_or_after",
        f"{DATA}_the_accounting_rules_hold_here_too",
    ),
    guard(
        "out-of-a-locked-period-neither",
        BOOKS,
        "schema/rules.py",
        "    for row in (before, after):\n        if row is not None and row.get(column)",
        "    for row in (after,):\n        if row is not None and row.get(column)",
        f"{RULES}_nothing_is_dated_in_a_locked_period_before_or_after",
    ),
    guard(
        "posted-stays",
        BOOKS,
        "schema/rules.py",
        '    if table == "transactions" and before["is_posted"]:',
        "    if False:",
        f"{RULES}_a_posted_transaction_does_not_change_and_an_unposted_one_does",
        f"{DATA}_the_accounting_rules_hold_here_too",
    ),
    guard(
        "issued-invoices-stay",
        BOOKS,
        "schema/rules.py",
        "or not set(changed) <= INVOICE_MUTABLE:",
        "or False:",
        f"{RULES}_an_issued_invoice_only_changes_as_paying_and_voiding_do",
    ),
    guard(
        "void-stays-void",
        BOOKS,
        "schema/rules.py",
        "        if after is None or is_reopened or is_void or",
        "        if after is None or is_reopened or",
        f"{RULES}_an_issued_invoice_only_changes_as_paying_and_voiding_do",
    ),
    guard(
        "parts-of-posted-documents-stay",
        BOOKS,
        "schema/rules.py",
        '    if transaction is not None and transaction["is_posted"]:',
        "    if False:",
        f"{RULES}_parts_of_issued_documents_stay_but_new_ones_may_come",
    ),
    guard(
        "referenced-rows-are-not-deleted",
        BOOKS,
        "api/bookkeeping.py",
        "        if breach is None and after is None and table.name in KEPT_WHILE_REFERENCED:",
        "        if False:",
        f"{DATA}_the_accounting_rules_hold_here_too",
    ),
    guard(
        "single-writes-balance",
        BOOKS,
        "api/data_write.py",
        '        await books.demand_balance(self.table, {**new, "id": record_id})',
        "        pass",
        f"{DATA}_the_accounting_rules_hold_here_too",
    ),
    guard(
        "created-by-is-who-wrote-it",
        BOOKS,
        "api/cleaning.py",
        "            cleaned.values[WRITER_COLUMN] = scope.user_id",
        "            cleaned.values[WRITER_COLUMN] = data.get(WRITER_COLUMN)",
        f"{PUSH}_created_by_is_the_pusher_whatever_is_sent",
        f"{DATA}_the_writer_of_a_document_is_who_wrote_it",
    ),
)

WHO_SEES_AND_TOUCHES = (
    layered(
        "references-within-the-company",
        SEEN,
        (
            (
                "api/writes.py",
                '    return f"SELECT id FROM {_found_by_id(table)} AND id IN ({_marks(wanted)}) ORDER BY id FOR SHARE"',
                '    return f"SELECT id FROM {table.name} WHERE 0 < %s AND id IN ({_marks(wanted)}) ORDER BY id FOR SHARE"',
            ),
            (
                "sql/0001_domain.sql",
                "products_category_id FOREIGN KEY (company_id, category_id) REFERENCES item_categories (company_id, id),",
                "products_category_id FOREIGN KEY (category_id) REFERENCES item_categories (id),",
            ),
        ),
        f"{REFERENCES}_a_foreign_reference_answers_exactly_like_a_missing_one",
        why="the API looks a reference up in the company; without that, MySQL's composite foreign key refuses it in the same words",
    ),
    guard(
        "rows-of-the-company",
        SEEN,
        "api/writes.py",
        '    return f"`{table.name}` FORCE INDEX (`{index}`) WHERE `{table.company_column}` = %s"',
        '    return f"`{table.name}` FORCE INDEX (`{index}`) WHERE 0 < %s"',
        f"{REFERENCES}_a_foreign_row_answers_exactly_like_a_missing_one",
        f"{DATA}_a_reference_to_another_company_answers_as_one_to_nothing",
    ),
    guard(
        "feed-of-the-company",
        SEEN,
        "api/feed.py",
        "WHERE c.company_id = %s AND c.version > %s AND c.version <= %s AND (c.for_device IS NULL",
        "WHERE 0 < %s AND c.version > %s AND c.version <= %s AND (c.for_device IS NULL",
        f"{SCOPE}_what_came_since_is_of_the_devices_own_company_only",
    ),
    guard(
        "live-rows-of-the-company",
        SEEN,
        "api/feed.py",
        "WHERE l.company_id = %s AND l.version > %s",
        "WHERE 0 < %s AND l.version > %s",
        f"{SCOPE}_two_companies_never_see_each_other",
    ),
    guard(
        "a-company-that-is-not-ones-own",
        SEEN,
        "api/scope.py",
        "    return next((m for m in memberships if m.company_id == company_id), None)",
        "    return next((Membership(company_id, m.user_id, m.role) for m in memberships), None)",
        f"{REFERENCES}_a_foreign_company_answers_exactly_like_one_that_does_not_exist",
    ),
    guard(
        "private-columns-stay-out-of-the-log",
        SEEN,
        "cdc/derive.py",
        "_Part(table, table.public)",
        "_Part(table, table.columns)",
        f"{DERIVE}_restricted_columns_are_sealed_and_private_ones_nowhere",
    ),
    guard(
        "restricted-columns-by-role",
        SEEN,
        "api/pull_page.py",
        "splice_sealed(row.change, row.sealed) if scope.may_see_restricted else row.change",
        "splice_sealed(row.change, row.sealed)",
        f"{SCOPE}_private_columns_never_leave_and_restricted_ones_only_for_roles_that_may",
    ),
    guard(
        "told-rows-by-role",
        SEEN,
        "api/push_answer.py",
        "(c.access is Access.RESTRICTED and scope.may_see_restricted))",
        "(c.access is Access.RESTRICTED))",
        f"{SCOPE}_a_told_row_hides_what_a_pull_hides",
    ),
    guard(
        "told-rows-of-an-unread-table",
        SEEN,
        "api/push_answer.py",
        "    if table not in scope.readable:\n        return {}\n",
        "",
        f"{TOLD}_an_insert_with_other_data_by_somebody_who_may_no_longer_write_is_refused_and_has_its_id",
    ),
    guard(
        "tables-by-role",
        SEEN,
        "api/pull_request.py",
        "    return tuple(name for name in (tables or TABLES) if name in readable)",
        "    return tuple(tables or TABLES)",
        f"{SCOPE}_tables_that_are_lost_stand_in_revoked_and_one_that_is_gained_arrives_whole",
        f"{SCOPE}_a_device_narrowed_to_tables_reads_and_writes_those_only",
    ),
    layered(
        "writing-by-role",
        SEEN,
        (
            ("api/push_apply.py", "    if table.name not in scope.writable or", "    if"),
            ("api/scope.py", "        if table not in self.writable:\n            return False\n", ""),
        ),
        f"{SCOPE}_a_viewer_reads_and_whatever_it_pushes_is_refused_and_told",
        why="a change is refused by its table at once, and by its row when it is about to be written",
    ),
    guard(
        "rows-by-role",
        SEEN,
        "api/push_context.py",
        "    if not context.scope.may_write_row(table.name, row, values, heads):",
        "    if False:",
        f"{SCOPE}_sales_writes_its_own_sales_only",
    ),
    guard(
        "one-device-one-login",
        SEEN,
        "api/scope.py",
        "        if device.login_id != login_id:",
        "        if False:",
        "tests/api/sync/test_pull.py::test_a_request_without_a_good_token_or_for_a_foreign_device_is_refused",
    ),
    layered(
        "revoked-devices",
        SEEN,
        (
            ("api/devices.py", "    if device.is_revoked:\n        raise device_revoked()", "    pass"),
            ("api/scope.py", "        if device.is_revoked:", "        if False:"),
        ),
        f"{SCOPE}_a_revoked_device_is_given_nothing_though_its_token_serves_every_device",
        why="a revoked device is refused where it is read, and where it is kept for two seconds",
    ),
)

LAW_OF_MYSQL = (
    guard(
        "the-api-cannot-write-the-change-log",
        BYPASSED,
        "sql/grants.sql",
        "GRANT SELECT ON {database}.sync_changes TO {api};",
        "GRANT SELECT, INSERT ON {database}.sync_changes TO {api};",
        f"{GRANTS}_the_api_account_cannot_write_the_change_log",
    ),
    guard(
        "the-tailer-cannot-write-domain-tables",
        BYPASSED,
        "sql/grants.sql",
        "GRANT SELECT ON {database}.* TO {tailer};",
        "GRANT SELECT, INSERT, UPDATE ON {database}.* TO {tailer};",
        f"{GRANTS}_tailer_and_operator_cannot_write_domain_tables",
    ),
    guard(
        "a-newer-database-is-refused",
        BYPASSED,
        "schema/migrations.py",
        "    if newer:",
        "    if False:",
        f"{GRANTS}_a_newer_database_and_a_changed_file_are_refused",
    ),
)
