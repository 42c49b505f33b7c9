"""Organizations, projects, keys and admins are kept, followed and recorded, by either engine."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from tests.storage.stage import Place, execute, run
from tidegate.access.administration import Actor, Administration
from tidegate.access.keys import KeyRing
from tidegate.access.objects import (
    KeyChange,
    NewAdmin,
    NewKey,
    NewOrganization,
    NewProject,
    OrganizationChange,
    ProjectChange,
    digest,
)
from tidegate.access.pepper import Pepper
from tidegate.config.limits import Limits, Windows
from tidegate.config.load import load
from tidegate.server.database import has_managed_keys
from tidegate.storage.storage import Storage
from tidegate.wire.errors import Conflict, InvalidKey, NotFound, StorageUnavailable

PEPPER = Pepper("p" * 32)
WHO = Actor("adm_0123456789abcdef", "Ada", "req_1")


class Clock:
    """Unix time that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def managing(
    place: Place, clock: Clock | None = None, peppers: tuple[Pepper, ...] = (PEPPER,)
) -> AsyncIterator[Administration]:
    async with place.open() as storage:
        yield await begun(storage, clock, peppers)


async def begun(
    storage: Storage, clock: Clock | None = None, peppers: tuple[Pepper, ...] = (PEPPER,)
) -> Administration:
    made = Administration(storage, peppers, clock=clock or Clock())
    await made.start()
    return made


def ring(administration: Administration, clock: Clock | None = None) -> KeyRing:
    return KeyRing([], administration.directory, administration.peppers, clock or Clock())


def bearer(text: str) -> dict[bytes, bytes]:
    return {b"authorization": b"Bearer " + text.encode()}


def test_the_default_organization_and_project_are_always_there(place: Place) -> None:
    async def scenario() -> None:
        async with managing(place) as first, managing(place) as second:
            for one in (first, second):
                assert one.organization("default").created_by == ""
                assert one.project("default", "default").organization == "default"
            assert await place.count("organizations") == await place.count("projects") == 1
            for refused in (
                first.delete_organization(WHO, "default"),
                first.delete_project(WHO, "default", "default"),
            ):
                with pytest.raises(Conflict, match="always there"):
                    await refused

    run(scenario)


def test_a_key_is_made_found_changed_rotated_and_revoked(place: Place) -> None:
    async def scenario() -> None:
        clock = Clock()
        async with managing(place, clock) as one:
            made = await one.create_key(WHO, NewKey(name="app", models=("sim/*",), metadata={"team": "harbour"}))
            assert ring(one, clock).authenticate(bearer(made.key)).key_id == made.id
            shown = await one.key(made.id)
            assert (shown.name, shown.last4, shown.status, shown.created_by) == ("app", made.key[-4:], "active", WHO.id)
            changed = await one.change_key(WHO, made.id, KeyChange(name="web", models=()))
            assert (changed.name, changed.models, changed.metadata) == ("web", (), {"team": "harbour"})
            rotated = await one.rotate_key(WHO, made.id, 60)
            assert rotated.id == made.id
            assert [(old.last4, old.expires_at) for old in rotated.earlier] == [(made.key[-4:], int(clock.now) + 60)]
            for text in (made.key, rotated.key):
                assert ring(one, clock).authenticate(bearer(text)).key == "web"
            clock.now += 60
            with pytest.raises(InvalidKey, match="expired"):
                ring(one, clock).authenticate(bearer(made.key))
            assert ring(one, clock).authenticate(bearer(rotated.key)).key == "web"
            assert (await one.key(made.id)).earlier == ()
            revoked = await one.revoke_key(WHO, made.id)
            assert (revoked.status, revoked.revoked_at) == ("revoked", int(clock.now))
            assert (revoked.last4, revoked.earlier) == (rotated.key[-4:], ())
            with pytest.raises(InvalidKey, match="revoked"):
                ring(one, clock).authenticate(bearer(rotated.key))
            assert await one.revoke_key(WHO, made.id) == revoked
            for change in (one.change_key(WHO, made.id, KeyChange(name="x")), one.rotate_key(WHO, made.id, 0)):
                with pytest.raises(NotFound):
                    await change
            assert not ring(one).open, "a gateway whose keys are all revoked is not open to everybody"

    run(scenario)


def test_a_rotation_without_overlap_ends_the_old_text_at_once(place: Place) -> None:
    async def scenario() -> None:
        async with managing(place) as one:
            made = await one.create_key(WHO, NewKey(name="app"))
            kept = await one.rotate_key(WHO, made.id, 3600)
            last = await one.rotate_key(WHO, made.id, 0)
            for text in (made.key, kept.key):
                with pytest.raises(InvalidKey):
                    ring(one).authenticate(bearer(text))
            assert ring(one).authenticate(bearer(last.key)).key == "app"
            assert await place.count("key_texts") == 1

    run(scenario)


def test_another_process_sees_every_change(place: Place) -> None:
    async def scenario() -> None:
        async with managing(place) as one, managing(place) as other:
            told = asyncio.Event()
            other.on_change = told.set
            watch = asyncio.create_task(other.watch())
            made = await one.create_key(WHO, NewKey(name="app"))
            await asyncio.wait_for(told.wait(), 1)
            assert ring(other).authenticate(bearer(made.key)).key == "app"
            told.clear()
            await one.revoke_key(WHO, made.id)
            await asyncio.wait_for(told.wait(), 1)
            with pytest.raises(InvalidKey):
                ring(other).authenticate(bearer(made.key))
            watch.cancel()
        async with managing(place) as later:
            assert later.directory.version == one.directory.version
            assert not later.directory.keys

    run(scenario)


def test_what_is_read_anew_is_only_what_changed(place: Place) -> None:
    async def scenario() -> None:
        async with managing(place) as one, managing(place) as other:
            first, second = [await one.create_key(WHO, NewKey(name=name)) for name in ("a", "b")]
            await other.refresh()
            untouched = other.directory.keys[first.id]
            await one.change_key(WHO, second.id, KeyChange(name="c"))
            await other.refresh()
            assert other.directory.keys[first.id] is untouched
            assert other.directory.keys[second.id].name == "c"

    run(scenario)


def test_of_several_that_take_one_name_at_once_one_gets_it(place: Place) -> None:
    async def scenario() -> None:
        async with managing(place) as one, managing(place) as other:
            done = await asyncio.gather(
                *(each.create_key(WHO, NewKey(name="app")) for each in (one, other) * 3), return_exceptions=True
            )
            assert sum(not isinstance(result, BaseException) for result in done) == 1
            assert {type(result) for result in done if isinstance(result, BaseException)} == {Conflict}
            assert await place.count("virtual_keys") == await place.count("audit") == 1

    run(scenario)


def test_names_are_free_again_for_keys_and_never_for_projects(place: Place) -> None:
    async def scenario() -> None:
        async with managing(place) as one:
            await one.create_project(WHO, "default", NewProject(name="web"))
            made = await one.create_key(WHO, NewKey(name="app", project="web"))
            with pytest.raises(Conflict, match="Revoke them first"):
                await one.delete_project(WHO, "default", "web")
            await one.revoke_key(WHO, made.id)
            await one.create_key(WHO, NewKey(name="app"))
            await one.delete_project(WHO, "default", "web")
            with pytest.raises(NotFound):
                one.project("default", "web")
            with pytest.raises(NotFound, match="no project 'web'"):
                await one.create_key(WHO, NewKey(name="late", project="web"))
            with pytest.raises(Conflict, match="may still be there"):
                await one.create_project(WHO, "default", NewProject(name="web"))

    run(scenario)


def test_an_organization_with_projects_is_not_deleted(place: Place) -> None:
    async def scenario() -> None:
        async with managing(place) as one:
            await one.create_organization(WHO, NewOrganization(name="acme"))
            with pytest.raises(Conflict):
                await one.create_organization(WHO, NewOrganization(name="acme"))
            await one.create_project(WHO, "acme", NewProject(name="web"))
            with pytest.raises(Conflict, match="still has projects"):
                await one.delete_organization(WHO, "acme")
            await one.delete_project(WHO, "acme", "web")
            await one.delete_organization(WHO, "acme")
            with pytest.raises(NotFound):
                await one.create_project(WHO, "acme", NewProject(name="other"))

    run(scenario)


def test_limits_of_all_levels_reach_the_principal(place: Place) -> None:
    async def scenario() -> None:
        some, more = Limits(streams=3), Limits(requests=Windows(minute=5))
        async with managing(place) as one:
            await one.create_organization(WHO, NewOrganization(name="acme", limits=some))
            await one.create_project(WHO, "acme", NewProject(name="web", end_user_limits=more))
            made = await one.create_key(WHO, NewKey(name="app", organization="acme", project="web", limits=more))

            def scopes() -> list[tuple[str, str, Limits]]:
                found = ring(one).authenticate(bearer(made.key))
                assert found.end_user_limits == more
                return [(scope.level, scope.id, scope.limits) for scope in found.scopes]

            assert scopes() == [("organization", "acme", some), ("key", made.id, more)]
            await one.change_project(WHO, "acme", "web", ProjectChange(limits=some))
            await one.change_organization(WHO, "acme", OrganizationChange(limits=Limits()))
            assert scopes() == [("project", "acme/web", some), ("key", made.id, more)]

    run(scenario)


def test_lists_come_in_pages(place: Place) -> None:
    async def scenario() -> None:
        async with managing(place) as one:
            await one.create_project(WHO, "default", NewProject(name="web"))
            made = [
                await one.create_key(WHO, NewKey(name=f"k{n}", project="web" if n % 2 else "default")) for n in range(5)
            ]
            page = await one.keys("", "", revoked=False, after=None, limit=3)
            assert ([key.name for key in page.data], page.has_more) == (["k4", "k3", "k2"], True)
            page = await one.keys("", "", revoked=False, after=page.last_id, limit=3)
            assert ([key.name for key in page.data], page.has_more) == (["k1", "k0"], False)
            page = await one.keys("default", "web", revoked=False, after=None, limit=9)
            assert [key.name for key in page.data] == ["k3", "k1"]
            await one.revoke_key(WHO, made[0].id)
            assert len((await one.keys("", "", revoked=False, after=None, limit=9)).data) == 4
            assert len((await one.keys("", "", revoked=True, after=None, limit=9)).data) == 5
            for after in ("key_0000000000000000", "nonsense", "audit_1"):
                with pytest.raises(NotFound):
                    await one.keys("", "", revoked=False, after=after, limit=3)

    run(scenario)


@pytest.mark.security("SEC-AUDIT-KEPT")
def test_the_audit_log_names_who_did_what_and_cannot_be_changed(place: Place) -> None:
    async def scenario() -> None:
        async with managing(place) as one:
            made = await one.create_key(WHO, NewKey(name="app"))
            before = await one.key(made.id)
            after = await one.change_key(WHO, made.id, KeyChange(name="web"))
            await one.revoke_key(WHO, made.id)
            entries = (await one.audit(None, 10)).data
            assert [entry.action for entry in entries] == ["key.revoke", "key.change", "key.create"]
            assert {(entry.actor, entry.actor_name, entry.target, entry.request_id) for entry in entries} == {
                (WHO.id, "Ada", made.id, "req_1")
            }
            assert (entries[1].before, entries[1].after) == (digest(before), digest(after))
            assert entries[2].before is None
            rows = await place.query("SELECT * FROM audit ORDER BY number")
            statements = ["UPDATE audit SET actor = 'x'", "DELETE FROM audit"]
            if place.engine == "sqlite":
                other = """number, at, 'x', actor_name, action, target, "before", "after", request_id FROM audit"""
                statements += [
                    f"INSERT OR REPLACE INTO audit SELECT {other}",
                    f"REPLACE INTO audit SELECT {other}",
                    f"INSERT INTO audit SELECT {other} WHERE true ON CONFLICT (number) DO UPDATE SET actor = 'x'",
                    "UPDATE OR REPLACE audit SET number = 1",
                ]
            else:
                statements += [
                    "TRUNCATE audit",
                    "TRUNCATE admins, audit CASCADE",
                    "SET session_replication_role = replica; DELETE FROM audit",
                    "SET session_replication_role = replica; TRUNCATE audit",
                ]
            for statement in statements:
                with pytest.raises(Exception, match="only grows"):
                    await execute(place, statement)
            assert await place.query("SELECT * FROM audit ORDER BY number") == rows
            assert len(rows) == 3

    run(scenario)


@pytest.mark.security("SEC-API8-FIRST")
def test_the_first_admin_is_made_once_however_many_start(place: Place) -> None:
    async def scenario() -> None:
        async with managing(place) as one, managing(place) as other:
            texts = await asyncio.gather(one.create_first_admin(), other.create_first_admin())
            [text] = [each for each in texts if each is not None]
            admin = ring(one).authenticate_admin(bearer(text))
            assert getattr(admin, "role", "") == "owner"
            with pytest.raises(Conflict, match="last owner"):
                await one.revoke_admin(WHO, (await one.find_admin("first")).id)
            second = await one.create_admin(WHO, NewAdmin(name="second", role="owner"))
            await one.revoke_admin(WHO, (await one.find_admin("first")).id)
            with pytest.raises(InvalidKey):
                ring(one).authenticate_admin(bearer(text))
            assert ring(one).authenticate_admin(bearer(second.key))
        async with managing(place) as later:
            assert await later.create_first_admin() is None

    run(scenario)


@pytest.mark.security("SEC-API2-STORED")
def test_no_text_of_a_key_lies_in_the_database(place: Place) -> None:
    async def scenario() -> None:
        async with managing(place) as one:
            made = await one.create_key(WHO, NewKey(name="app"))
            rotated = await one.rotate_key(WHO, made.id, 60)
            admin = await one.create_admin(WHO, NewAdmin(name="boss", role="owner"))
            dump = await place.dump()
            for text in (made.key, rotated.key, admin.key):
                secret = text.partition("-")[2][16:]
                assert secret.encode() not in dump
                assert secret[:20].encode() not in dump

    run(scenario)


def test_a_change_is_on_the_disk_when_it_is_acknowledged(place: Place) -> None:
    async def scenario() -> None:
        async with place.watch() as (storage, engine):
            one = await begun(storage)
            engine.syncs.clear()
            made = await one.create_key(WHO, NewKey(name="app"))
            await one.revoke_key(WHO, made.id)
            assert engine.syncs == [True, True]

    run(scenario)


@pytest.mark.fault("FAULT-DB-DOWN")
def test_an_outage_leaves_keys_as_they_were_known(place: Place) -> None:
    async def scenario() -> None:
        async with place.watch(patience_s=0.2) as (storage, engine):
            one = await begun(storage)
            made = await one.create_key(WHO, NewKey(name="app"))
            engine.is_down = True
            with pytest.raises(StorageUnavailable):
                await one.revoke_key(WHO, made.id)
            assert ring(one).authenticate(bearer(made.key)).key == "app"
            engine.is_down = False

    run(scenario)


@pytest.mark.security("SEC-API2-STORED")
def test_keys_of_a_former_pepper_open_as_long_as_it_is_given(place: Place) -> None:
    async def scenario() -> None:
        new = Pepper("n" * 32)
        async with managing(place) as one:
            old_key = await one.create_key(WHO, NewKey(name="old"))
        async with managing(place, peppers=(new, PEPPER)) as both:
            new_key = await both.create_key(WHO, NewKey(name="new"))
            for made in (old_key, new_key):
                assert ring(both).authenticate(bearer(made.key)).key_id == made.id
        async with managing(place, peppers=(new,)) as later:
            assert later.directory.count_other_peppers(frozenset({new.version})) == 1
            assert ring(later).authenticate(bearer(new_key.key)).key == "new"
            with pytest.raises(InvalidKey):
                ring(later).authenticate(bearer(old_key.key))
        async with managing(place, peppers=()) as without:
            assert not ring(without).open
            with pytest.raises(StorageUnavailable, match="TIDEGATE_PEPPER"):
                await without.create_key(WHO, NewKey(name="none"))

    run(scenario)


def test_it_is_known_before_a_start_whether_there_are_keys(place: Place) -> None:
    async def scenario() -> None:
        async with managing(place) as one:
            await one.create_key(WHO, NewKey(name="app"))

    config = load(f'[storage]\nurl = "{place.url}"\n', "tidegate.toml", {})
    assert not has_managed_keys(config, {})
    run(scenario)
    assert has_managed_keys(config, {})


@pytest.mark.parametrize(
    "url", ["off", "sqlite:////nowhere/tidegate.db", "postgresql://nobody@127.0.0.1:9/none", "mysql://x"]
)
def test_a_database_that_cannot_be_read_holds_no_keys(url: str) -> None:
    assert not has_managed_keys(load(f'[storage]\nurl = "{url}"\n', "tidegate.toml", {}), {})


def test_a_database_without_tables_holds_no_keys(empty_postgresql: Place) -> None:
    assert not has_managed_keys(load(f'[storage]\nurl = "{empty_postgresql.url}"\n', "tidegate.toml", {}), {})


def test_a_key_that_is_shown_has_no_member_of_its_text(place: Place) -> None:
    async def scenario() -> None:
        async with managing(place) as one:
            made = await one.create_key(WHO, NewKey(name="app"))
            shown = msgspec.to_builtins(await one.key(made.id))
            assert "key" not in shown
            assert made.key not in str(shown)

    run(scenario)
