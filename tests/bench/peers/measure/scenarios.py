"""The scenarios: which system with which options, and what its acknowledgement means."""

from dataclasses import dataclass, field

from .systems import BullMQ, PlainBridge, Postgres, RabbitMQ, Rig, Weir
from .vector import Vector

SYNCED = "synced to disk"
MEMORY = "in memory: a crash loses it"
EVERY_SECOND = "in Redis, which syncs every second"
BUFFERED = "in each sink's disk buffer, synced every 0.5 s"


@dataclass
class Scenario:
    label: str
    system: type
    acknowledged: str
    options: dict = field(default_factory=dict)
    # Whether it is also run with events that have to be mapped.
    mapped_too: bool = True
    # Whether it stands for its system in a short run.
    short: bool = False
    sites: int = 18
    mapped: bool = False
    # Whether the load is that of a day, with a dead site beside the others.
    day: bool = False

    @property
    def name(self):
        sites = "1 site" if self.sites == 1 else f"{self.sites} sites"
        return f"{self.label}{', mapped' if self.mapped else ''}{', a day' if self.day else ''}, {sites}"


ALL = [
    Scenario("weir, one per request", Weir, SYNCED, {"batch": 1}),
    Scenario("weir, 100 per request", Weir, SYNCED, {"batch": 100}, short=True),
    Scenario("plain bridge, synced", PlainBridge, SYNCED, {"synced": True, "concurrency": 8}, False, short=True),
    Scenario("plain bridge, synced, in order", PlainBridge, SYNCED, {"synced": True, "concurrency": 1}, False),
    Scenario("plain bridge, in memory", PlainBridge, MEMORY, {"synced": False, "concurrency": 8}, False),
    Scenario("bullmq, job id is the key, everysec", BullMQ, EVERY_SECOND, {"fsync": "everysec", "keep": "first"}, short=True),
    Scenario("bullmq, job id is the key, always", BullMQ, SYNCED, {"fsync": "always", "keep": "first"}, False),
    Scenario("bullmq, newest state, everysec", BullMQ, EVERY_SECOND, {"fsync": "everysec", "keep": "newest"}, short=True),
    Scenario("bullmq, newest state, always", BullMQ, SYNCED, {"fsync": "always", "keep": "newest"}),
    Scenario("postgres outbox", Postgres, "committed, log synced to disk", {"split": False}),
    Scenario("postgres outbox, payload once", Postgres, "committed, log synced to disk", {"split": True}, short=True),
    Scenario("rabbitmq, classic queues", RabbitMQ, "confirmed after a sync, made in intervals", {"queue": "classic"}, False, short=True),
    Scenario("rabbitmq, quorum queues", RabbitMQ, "confirmed after a sync of this node's Raft log", {"queue": "quorum"}, False),
    Scenario("vector, in memory, one per request", Vector, MEMORY, {"batch": 1}),
    Scenario("vector, in memory, 100 per request", Vector, MEMORY, {"batch": 100}),
    Scenario("vector, end to end, 100 per request", Vector, "taken by every site, kept nowhere", {"batch": 100, "acknowledged": True}),
    Scenario("vector, on disk, one per request", Vector, BUFFERED, {"batch": 1, "buffer": "disk", "acknowledged": True}),
    Scenario("vector, on disk, 100 per request", Vector, BUFFERED, {"batch": 100, "buffer": "disk", "acknowledged": True}, short=True),
    Scenario("vector, on disk, 100 per request, in order", Vector, BUFFERED,
             {"batch": 100, "buffer": "disk", "acknowledged": True, "concurrency": 1}),
    Scenario("vector, newest of a second, 100 per request", Vector, MEMORY, {"batch": 100, "reduced": True, "concurrency": 1}, False),
]


# Those that can be told from one another by a day in which everything is late.
DAY_LABELS = ["weir, one per request", "weir, 100 per request", "plain bridge, synced", "plain bridge, synced, in order"]


def days(sites):
    """The scenarios of a day with each of these numbers of sites, and the rig itself."""
    rig = Scenario("the rig itself, load to sink", Rig, "–", short=True, sites=1, day=True)
    bases = [base for base in ALL if base.label in DAY_LABELS]
    dead = lambda base, count: {**vars(base), "options": {**base.options, "dead": True}, "short": True, "sites": count, "day": True}
    return [rig, *(Scenario(**dead(base, count)) for count in sites for base in bases)]


def scenarios(sites, mapped):
    """All scenarios with each of these numbers of sites; with a mapping too, if it is asked for, for the largest of them."""
    rig = Scenario("the rig itself, load to sink", Rig, "–", short=True, sites=1)
    plain = [Scenario(**{**vars(base), "sites": count}) for count in sites for base in ALL]
    mappings = [Scenario(**{**vars(base), "sites": max(sites), "mapped": True}) for base in ALL if mapped and base.mapped_too]
    return [rig, *plain, *mappings]
