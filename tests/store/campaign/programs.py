"""What the processes of a round are going to do, drawn from a seed and from what the store holds.

Nobody writes into a collection while another renames it, since then a name has two meanings. All else may
meet, also a vacuum without grace those who write: a commit may be refused then, and never lose an array.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.store.campaign import operations as do
from tests.store.campaign.content import Value, VolumeSpec, mark_of
from tests.store.campaign.model import World
from tests.store.campaign.operations import Operation

COLLECTIONS = ("ct", "t1", "seg")
_SHAPES = ((6, 5, 4), (3, 3, 3), (9, 7, 5), (4, 4, 3, 2), (33, 20, 9))
_DTYPES = ("int16", "uint8", "uint16", "int32", "float32")
_MOST_VOLUMES, _MOST_SNAPSHOTS, _WIDE = 14, 4, 64


@dataclass
class Person:
    """A subject, and every byte string that would betray it once it is erased."""

    subject: str
    needles: set[bytes] = field(default_factory=set)


@dataclass
class Drawn:
    """Programs for the processes of one round."""

    title: str
    programs: list[list[Operation]]
    erased: tuple[str, ...] = ()
    contested: tuple[str, ...] = ()
    """Subjects that some process erases while others write them: erased again in the next probe."""


class Draw:
    """Draws programs for one store."""

    def __init__(self, rng: random.Random, folder: str, remote: bool = False) -> None:
        self.rng = rng
        self._remote = remote
        """Many small requests take long there: no wide commits, and fewer whole checks."""
        self.folder = folder
        self.people: dict[str, Person] = {}
        self.erased: dict[str, Person] = {}
        self._seed = rng.randrange(1 << 40)
        self._snapshots = 0
        self._columns = 0
        self._sites = 0
        for _ in range(5):
            self._new_person()

    # -- rounds -------------------------------------------------------------------------------------

    def first(self) -> Drawn:
        """What a store begins with."""
        specs = [self.spec("ct", subject) for subject in list(self.people)[:4]]
        told = {subject: self._subject_columns() for subject in self.people}
        program = [
            do.update_subjects(list(told), {"age": [row["age"] for row in told.values()]}),
            do.append("ct", specs),
            do.append("t1", [self.spec("t1", subject) for subject in list(self.people)[:2]]),
        ]
        return Drawn("a new store", [program])

    def round(self, world: World) -> Drawn:
        """A round: one to four processes."""
        kinds = {
            "alone": 30, "writers": 26, "erasing": 16, "two erasers": 6, "compacting": 12,
            "two compactors": 6, "contested": 6, "clash": 14, "wide": 2, "snapshots": 6,
        }  # fmt: skip
        if self._remote:
            kinds.pop("wide")
        kind = self.rng.choices(list(kinds), list(kinds.values()))[0]
        with_readers = self.rng.random() < 0.25
        erased: tuple[str, ...] = ()
        contested: tuple[str, ...] = ()
        match kind:
            case "alone":
                programs = [self._program(world, (), 3)]
            case "writers":
                programs = [self._program(world, (), 2) for _ in range(self.rng.randint(2, 3))]
            case "erasing" | "two erasers":
                count = 1 if kind == "erasing" else 2
                erased = self._to_erase(count)
                programs = [[do.erase([subject])] for subject in erased]
                if kind == "two erasers" and self.rng.random() < 0.3:
                    programs = [[do.erase(list(erased))], [do.erase(list(reversed(erased)))]]
                writers = self.rng.randint(0, 2) if kind == "erasing" else self.rng.randint(0, 1)
                programs += [self._program(world, erased, 2) for _ in range(writers)]
            case "compacting" | "two compactors":
                writers = self.rng.randint(1, 2)
                programs = [self._program(world, (), 2) for _ in range(writers)]
                compactors = 1 if kind == "compacting" else 2
                programs += [self._compactor(self.rng.choice([0.0, 3600.0])) for _ in range(compactors)]
            case "contested":
                programs, contested = self._contested()
            case "clash":
                programs = self._clash(world)
            case "wide":
                programs = [[self._wide()]]
            case _:
                programs = [[do.snapshot(self._snapshot_name(world))], self._program(world, (), 2)]
                if self.rng.random() < 0.4:
                    programs.append([programs[0][0]])
        programs = [program for program in programs if program]
        if with_readers and len(programs) < 4:
            programs.append([do.read(self.rng.uniform(0.05, 0.5))])
        return Drawn(kind, programs, erased, contested)

    def _clash(self, world: World) -> list[list[Operation]]:
        """Several that change, replace and delete the same few rows at once."""
        rng = self.rng
        held = {
            name: rows for name, rows in world.present.collections.items() if rows and name in COLLECTIONS
        }
        programs: list[list[Operation]] = []
        for _ in range(rng.randint(2, 4)):
            if not held or rng.random() < 0.25:
                subject = min(self.people)
                change = do.update_subjects(
                    [subject], {rng.choice(["age", "mark"]): [rng.randrange(2, 9999)]}
                )
                programs.append([self._delete_subject_rows(world, set()) or change])
                continue
            where = min(held)
            known = [i for i, row in sorted(held[where].items()) if _owner(row) in self.people][:2]
            owners = {obs_id: _owner(held[where][obs_id]) for obs_id in known}
            choices = [
                do.update_obs(
                    where, owners, {rng.choice(["grade", "dose"]): self._column(len(owners), "dose")}
                ),
                do.delete(where, known[-1:]),
                do.append(where, [self.spec(where, s, i) for i, s in owners.items()]),
            ]
            programs.append([rng.choice(choices)] if known else [])
        return programs

    def _contested(self) -> tuple[list[list[Operation]], tuple[str, ...]]:
        """One erases a subject that others write: before or after, and never a part."""
        subject = self._known()
        writers: list[list[Operation]] = [
            [do.append(self.rng.choice(COLLECTIONS), [self.spec("ct", subject)])],
            [
                do.update_subjects([subject], {"age": [self.rng.randrange(99)]}),
                self._through_store("t1", "store_write"),
            ],
            [do.tidy("consolidate"), do.tidy("vacuum", 3600.0)],
        ]
        return [[do.erase([subject])], *self.rng.sample(writers, self.rng.randint(1, 2))], (subject,)

    def forget(self, subjects: Sequence[str]) -> None:
        """They are going to be erased: nobody writes them any more."""
        self.erased |= {subject: self.people.pop(subject) for subject in subjects if subject in self.people}
        while len(self.people) < 4:
            self._new_person()

    def probe(self, world: World, erased: Sequence[str] = (), thorough: bool = False) -> Drawn:
        """What must always work in a process that nothing disturbs."""
        self.forget(erased)
        program = [do.erase(list(erased))] if erased else []
        program += [do.tidy("consolidate"), do.tidy("vacuum", self.rng.choice([0.0, 0.0, 0.3]))]
        program += [] if self._remote and self.rng.random() < 0.7 else [do.tidy("verify")]
        subject = self.rng.choice(list(self.people))
        program.append(do.append("ct", [self.spec("ct", subject)]))
        if thorough:
            (gone,) = self._to_erase(1)
            program += [do.update_subjects([gone], {"age": [77]}), do.erase([gone]), do.tidy("verify")]
            erased = (*erased, gone)
        return Drawn("a probe", [program], tuple(erased))

    # -- people and volumes ---------------------------------------------------------------------------

    def _new_person(self) -> str:
        token = f"{self.rng.randrange(16**8):08x}"
        subject = self.rng.choice([f"sub-{token}", f"Ümit O'{token}", f"患者-{token}", f'{token} "x"/y'])
        self.people[subject] = Person(subject, {subject.encode(), token.encode(), mark_of(subject)})
        return subject

    def _to_erase(self, count: int) -> tuple[str, ...]:
        while len(self.people) < count + 3:
            self._new_person()
        chosen = tuple(self.rng.sample(sorted(self.people), count))
        self.forget(chosen)
        return chosen

    def _known(self) -> str:
        if len(self.people) < 7 and self.rng.random() < 0.3:
            return self._new_person()
        return self.rng.choice(sorted(self.people))

    def spec(self, where: str, subject: str, obs_id: str | None = None, plain: bool = False) -> VolumeSpec:
        """A volume of a subject that nobody wrote before."""
        rng = self.rng
        self._seed += 1
        obs_id = obs_id or f"{subject}_{where}" + rng.choice(["", "", "_2", "_3"])
        shape, dtype = rng.choice(_SHAPES), rng.choice(_DTYPES)
        scaled = not plain and dtype[0] != "f" and rng.random() < 0.4
        uid = f"2.25.{rng.randrange(10**29, 10**30)}"
        note = f"note-{rng.randrange(16**10):010x}"
        attributes: dict[str, Value] = {
            "modality": rng.choice(["CT", "MR", None]),
            "series_uid": uid,
            "note": note,
            "grade": self._changing(),
            "dose": rng.choice([None, rng.randrange(100) / 8]),
        }
        if rng.random() < 0.08:
            self._columns += 1
            attributes[f"column {self._columns}"] = self._changing()
        self.people[subject].needles |= {uid.encode(), note.encode(), obs_id.encode()}
        slope, intercept = (2.5, -7.0) if scaled else (1.0, 0.0)
        return VolumeSpec(subject, obs_id, self._seed, shape, dtype, slope, intercept, attributes)

    def _changing(self) -> Value:
        """A value of a type that changes from one commit to the next."""
        number = self.rng.randrange(2, 1000)
        return self.rng.choice(
            [number, number / 8, f"grade {number}", self.rng.random() < 0.5, None, -number]
        )

    def _subject_columns(self) -> dict[str, Value]:
        return {"age": self.rng.randrange(18, 99), "mark": self.rng.randrange(100_000)}

    # -- programs -------------------------------------------------------------------------------------

    def _program(self, world: World, erased: Sequence[str], longest: int) -> list[Operation]:
        found = [self._operation(world, set(erased)) for _ in range(self.rng.randint(1, longest))]
        return [operation for operation in found if operation is not None]

    def _operation(self, world: World, erased: set[str]) -> Operation | None:
        rng, present = self.rng, world.present
        tables = {name: rows for name, rows in present.collections.items() if not name.startswith("moving")}
        full = sum(map(len, tables.values())) > _MOST_VOLUMES
        kinds = {
            "append": 0 if full else 22, "write": 0 if full else 8, "store_write": 0 if full else 8,
            "ingest": 0 if full else 5, "replace": 14, "delete": 26 if full else 10, "update_obs": 10,
            "update_subjects": 10, "delete_subject_rows": 3, "drop_column": 2, "rename": 4, "snapshot": 8,
            "consolidate": 6, "vacuum": 3, "verify": 1, "read": 2,
        }  # fmt: skip
        kind = rng.choices(list(kinds), list(kinds.values()))[0]
        where = rng.choice(COLLECTIONS)
        theirs = {i: r for i, r in tables.get(where, {}).items() if not _owned(r, erased)}
        match kind:
            case "append" | "write":
                people = rng.sample(sorted(self.people), rng.randint(1, 3))
                specs = [self.spec(where, subject, plain=kind == "write") for subject in people]
                return do.append(where, specs, kind)
            case "store_write" | "ingest":
                return self._through_store(where, kind)
            case "replace" if theirs:
                chosen = rng.sample(sorted(theirs), min(len(theirs), rng.randint(1, 3)))
                owners = {obs_id: _owner(theirs[obs_id]) for obs_id in chosen}
                known = [(i, s) for i, s in owners.items() if s in self.people]
                return do.append(where, [self.spec(where, s, i) for i, s in known]) if known else None
            case "delete" if theirs:
                return do.delete(where, rng.sample(sorted(theirs), min(len(theirs), rng.randint(1, 2))))
            case "update_obs" if theirs:
                chosen = rng.sample(sorted(theirs), min(len(theirs), rng.randint(1, 3)))
                owners = {obs_id: _owner(theirs[obs_id]) for obs_id in chosen}
                name = rng.choice(["grade", "reviewed", "dose"])
                values = self._column(len(chosen), name)
                return do.update_obs(where, owners, {name: values})
            case "update_subjects":
                chosen = rng.sample(sorted(self.people), rng.randint(1, 3))
                name = rng.choice(["age", "mark", f"site {self._sites}", "grade"])
                return do.update_subjects(chosen, {name: self._column(len(chosen), name)})
            case "delete_subject_rows":
                return self._delete_subject_rows(world, erased)
            case "drop_column":
                name = f"site {self._sites}"
                if not self._has(world, name):
                    return None
                self._sites += 1  # no column is added again
                return do.drop_column(name)
            case "rename":
                return self._rename(world)
            case "snapshot":
                return do.snapshot(self._snapshot_name(world))
            case "consolidate" | "verify":
                return do.tidy(kind)
            case "vacuum":
                return do.tidy("vacuum", 3600.0)
            case "read":
                return do.read(rng.uniform(0, 0.2))
        return None

    def _through_store(self, where: str, kind: str) -> Operation:
        subject = self._known()
        told = {subject: self._subject_columns()}
        if kind == "store_write":
            return do.through_store(where, [self.spec(where, subject, plain=True)], told, kind, self.folder)
        # RadiObject.append names volumes itself, so it gets a subject and collection of its own.
        where = "files"
        subject = self._new_person()
        spec = self.spec(where, subject, f"{subject}_{where}", plain=True)
        spec = VolumeSpec(subject, spec.obs_id, spec.seed, spec.shape, spec.dtype)
        return do.through_store(
            where, [spec], {subject: told.get(subject, self._subject_columns())}, kind, self.folder
        )

    def _column(self, count: int, name: str) -> list[Value]:
        """Values of one type: a column of a DataFrame has one."""
        kind = self.rng.choice(["int"] if name in ("age", "mark", "dose") else ["int", "float", "text"])
        numbers = [self.rng.randrange(2, 100_000) for _ in range(count)]
        if kind == "text":
            return [f"value {n}" for n in numbers]
        return [n / 8 if kind == "float" else n for n in numbers]

    def _delete_subject_rows(self, world: World, erased: set[str]) -> Operation | None:
        marked = {
            text
            for subject, row in world.present.subjects.items()
            for name, text in row
            if name == "mark" and subject not in erased
        }
        if not marked or self.rng.random() < 0.5:
            return None
        return do.delete_subject_rows(int(self.rng.choice(sorted(marked))))

    def _has(self, world: World, column: str) -> bool:
        return any(name == column for row in world.present.subjects.values() for name, _ in row)

    def _rename(self, world: World) -> Operation | None:
        """Between two names that nobody else writes to; the first time, a collection made for that."""
        moving = [name for name in world.present.collections if name.startswith("moving")]
        if not moving:
            return do.append("moving-0", [self.spec("moving", self.rng.choice(sorted(self.people)))])
        number = int(moving[0].split("-")[1])
        return do.rename(moving[0], f"moving-{number + 1}")

    def _snapshot_name(self, world: World) -> str:
        if len(world.snapshots) >= _MOST_SNAPSHOTS:
            return self.rng.choice(sorted(world.snapshots))  # refused, or the same state as it was
        self._snapshots += 1
        return f"version {self._snapshots}"

    def _compactor(self, grace_s: float) -> list[Operation]:
        program = [do.tidy("consolidate"), do.tidy("vacuum", grace_s)]
        return program if self.rng.random() < 0.7 else program * 2

    def _wide(self) -> Operation:
        subject = self._new_person()
        specs = [self.spec("ct", subject, f"{subject}_{number}") for number in range(_WIDE)]
        return do.append(
            "ct",
            [
                VolumeSpec(s.subject, s.obs_id, s.seed, (3, 3, 2), "int16", attributes=s.attributes)
                for s in specs
            ],
        )


def _owner(row: frozenset[tuple[str, str]]) -> str:
    return dict(row)["obs_subject_id"].removeprefix("text ")


def _owned(row: frozenset[tuple[str, str]], subjects: set[str]) -> bool:
    return dict(row).get("obs_subject_id", "").removeprefix("text ") in subjects
