"""The short code a company leases each device for its document numbers (domain.md, rule 6)."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.document_codes import LETTERS, code_of
from tests.api.conftest import Api, Person
from tests.servers import Database
from tests.sql_client import SqlClient

SEQ_MAX = len(LETTERS) ** 4


async def code(person: Person, device_id: str, **more: int) -> str | None:
    """What the status of a device says."""
    query = "".join(f"&{name}={value}" for name, value in more.items())
    reply = await person.get(f"/api/sync/status?device_id={device_id}{query}")
    assert reply.status == 200, reply.body
    found: str | None = reply.body["status"]["document_code"]
    return found


@given(st.integers(1, SEQ_MAX), st.integers(1, SEQ_MAX))
def test_no_two_devices_have_one_code_and_earlier_ones_are_not_longer(one: int, other: int) -> None:
    first, second = sorted((one, other))
    assert (code_of(first) == code_of(second)) is (first == second)
    assert len(code_of(first)) <= len(code_of(second)) <= 4
    assert set(code_of(first)) <= set(LETTERS)


async def test_each_device_of_a_company_is_told_a_code_of_its_own_and_always_the_same(api: Api) -> None:
    owner = await api.register()
    assert [await code(owner, f"d{owner.company_id}-{n}") for n in (1, 2, 1, 2, 3)] == ["B", "C", "B", "C", "D"]


async def test_companies_lease_codes_apart(api: Api, admin: SqlClient) -> None:
    owner, other = await api.register(), await api.register()
    assert await code(owner, "apart-1") == await code(other, "apart-2") == "B"
    admin.run(
        "INSERT INTO users (company_id, login_id, full_name, role) "
        f"VALUES ({other.company_id}, {owner.login_id}, 'Guest', 'accountant')"
    )
    again = await api.login(owner.email)
    assert await code(again, "apart-1", company_id=owner.company_id) == "B"
    assert await code(again, "apart-1", company_id=other.company_id) == "C"


async def test_a_sign_in_as_a_device_tells_its_code_in_each_company(api: Api) -> None:
    owner = await api.register(device_id="signs-in")
    [company] = owner.user["companies"]
    assert company["document_code"] == "B"
    again = await api.login(owner.email, device_id="signs-in")
    assert again.user["companies"] == owner.user["companies"]
    assert (await again.get("/api/auth/user")).body["user"] == again.user
    plain = await api.login(owner.email)
    assert "document_code" not in plain.user["companies"][0], "no device, no code"


async def test_devices_that_ask_at_once_get_different_codes(api: Api) -> None:
    owner = await api.register()
    devices = [f"at-once-{owner.company_id}-{n}" for n in range(12)]
    codes = await asyncio.gather(*(code(owner, device) for device in devices for _ in range(2)))
    assert codes[::2] == codes[1::2] and len(set(codes)) == 12 and set(codes) == {code_of(seq) for seq in range(1, 13)}


async def test_a_revoked_devices_code_is_not_given_to_another(api: Api, admin: SqlClient) -> None:
    owner = await api.register()
    assert await code(owner, "lost-one") == "B"
    admin.run("UPDATE devices SET revoked_at = NOW() WHERE device_id = 'lost-one'")
    assert await code(owner, "next-one") == "C"


@pytest.mark.parametrize("statement", ["INSERT", "UPDATE", "DELETE"])
async def test_a_lease_is_for_ever(shared: Database, admin: SqlClient, statement: str) -> None:
    grants = {row[0] for row in admin.rows(
        "SELECT privilege_type FROM information_schema.table_privileges WHERE table_name = 'document_codes' "
        "AND table_schema = %s AND grantee LIKE %s", shared.name, f"%{shared.settings.api().user}%",
    )}  # fmt: skip
    assert (statement in grants) is (statement == "INSERT")
