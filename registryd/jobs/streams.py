"""The board of a cluster with NATS: two streams of JetStream, which keep the last word of each.

``registryd.CLUSTER.jobs.ID`` has a job's latest revision, ``registryd.CLUSTER.progress.ID.NODE`` a
node's latest word on it. Who comes late, or back, reads the last of each subject and has it all.

Invariants:
- a revision replaces the one that it was made of, or is refused: no two nodes overwrite each other;
- what this node says is kept until a stream has it; only the last word on each job is;
- a consumer lives as long as its connection, and is made anew when it falls silent;
- what cannot be read is logged and passed over: one bad record stops nobody.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Final

from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StreamConfig
from nats.js.errors import APIError, NotFoundError

from registryd.cluster.beside import beside
from registryd.cluster.errors import NatsAway
from registryd.cluster.nats_connection import Message
from registryd.cluster.nats_link import NatsLink
from registryd.jobs.board import Take, Words
from registryd.jobs.errors import BoardUnreachable, JobInvalid, Outrun
from registryd.jobs.record import LONGEST, RECORD_LIMIT, Job
from registryd.jobs.standing import STANDING_LIMIT, Standing
from registryd.jobs.stream_reading import Reading

#: Limits of the streams: a server reserves the bytes, and the oldest go first.
JOBS_MOST: Final = 1024
JOBS_BYTES: Final = 64 << 20
PROGRESS_MOST: Final = 200_000
PROGRESS_BYTES: Final = 128 << 20
#: Copies of a stream where several servers can have them.
COPIES: Final = (3, 1)
#: Seconds: between heartbeats of a consumer, and without any until it is given up.
HEARTBEAT: Final = 5.0
SILENT: Final = 12.0
#: Seconds for an answer of the server, and before the next try.
ANSWER: Final = 5.0
PAUSE: Final = 1.0
#: Jobs whose places are remembered: more than a stream keeps.
SEEN_MOST: Final = 2 * JOBS_MOST
#: Jobs whose last words are said again to servers that come back.
SAID_AGAIN: Final = 16
#: Words that are read at once.
STEP: Final = 500
#: Seconds after which a server lets go of a consumer that nobody listens to.
ABANDONED: Final = 30.0
#: JetStream: "wrong last sequence", "stream name already in use".
_OUTRUN: Final = 10071
_EXISTS: Final = 10058

_log = logging.getLogger(__name__)


class StreamBoard:
    """The board of a cluster, over a link to NATS."""

    def __init__(self, link: NatsLink, prefix: str) -> None:
        """``prefix`` is what all subjects of the cluster begin with."""
        self._link = link
        self._subjects = f"{prefix}.jobs", f"{prefix}.progress"
        name = prefix.replace(".", "-")
        self._streams = f"{name}-jobs", f"{name}-progress"
        #: Of each job: the revision that was seen last, and its place in the stream.
        self._seen: dict[str, tuple[int, int]] = {}
        self._said: dict[str, Standing] = {}
        self._unsent: dict[str, Standing] = {}
        self._news = asyncio.Event()
        self._there = asyncio.Event()
        self._ready = False
        self._readings: set[Reading] = set()
        link.on_change(self._connected, self._gone)

    def _connected(self) -> None:
        self._ready = False
        # The servers may have lost it; of old jobs nobody asks any more.
        self._unsent = {**self._said, **self._unsent}
        self._there.set()
        self._news.set()

    def _gone(self) -> None:
        self._there.clear()
        for reading in self._readings:
            reading.end()

    async def post(self, job: Job) -> None:
        """Put a job up, after the revision that was seen last. Raises as Board.post."""
        raw = job.encode()
        revision, place = self._seen.get(job.id, (0, 0))
        if revision >= job.revision:
            raise _outrun(job)
        headers = {"Nats-Expected-Last-Subject-Sequence": str(place)}
        with _reached():
            await self._prepare()
            try:
                told = await self._link.jetstream().publish(
                    f"{self._subjects[0]}.{job.id}", raw, timeout=ANSWER, headers=headers
                )
            except APIError as error:
                if error.err_code == _OUTRUN:
                    raise _outrun(job) from error
                raise
        self._note(job.id, job.revision, told.seq)

    async def jobs(self) -> list[Job]:
        """All jobs, the oldest first. Raises BoardUnreachable."""
        found = [self._job(message) for message in await self._all(0, "*")]
        return sorted((job for job in found if job), key=lambda job: (job.created, job.id))

    async def standings(self, job: str = "") -> list[Standing]:
        """What nodes have said of a job, or of all. Raises BoardUnreachable."""
        messages = await self._all(1, f"{job or '*'}.*")
        found: list[Standing] = []
        for at, message in enumerate(messages):
            if at % STEP == STEP - 1:  # a large cluster's words are the work of seconds
                await asyncio.sleep(0)
            if (word := self._word(message)) is not None:
                found.append(word)
        return found

    @asynccontextmanager
    async def following(self, job: str) -> AsyncIterator[Words]:
        """What nodes have said of a job, and say from now on. Raises BoardUnreachable."""
        words: Words = asyncio.Queue()
        await self._all(1, f"{job}.none")  # so that a board out of reach is told at once

        def take(message: Message) -> None:
            if (word := self._word(message)) is not None:
                words.put_nowait(word)

        async with beside(lambda: self._follow(1, f"{job}.*", take)):
            yield words

    def tell(self, standing: Standing) -> None:
        """Say how far this node is, as soon as it can be said."""
        self._said.pop(standing.job, None)  # the newest come last
        self._said[standing.job] = self._unsent[standing.job] = standing
        if len(self._said) > SAID_AGAIN:
            del self._said[next(iter(self._said))]
        self._news.set()

    async def run(self, take: Take) -> None:
        """Give every job to the worker, and say what it says, until cancelled."""

        def took(message: Message) -> None:
            if (job := self._job(message)) is not None:
                take(job)

        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(0, "*", took))
            group.create_task(self._send())

    # what is heard

    async def _follow(self, which: int, subject: str, take: Reading.Taker) -> None:
        """Give everything on a subject to ``take``, over all connections, until cancelled."""
        while True:
            await self._there.wait()
            try:
                with _reached():
                    async with self._reading(which, subject) as reading:
                        while True:
                            async with asyncio.timeout(SILENT):
                                message = await reading.next()
                            if _is_stored(message):
                                take(message)
            except BoardUnreachable as error:
                if self._there.is_set():
                    _log.info("jobs are read anew: %s", error)
            except Exception:
                _log.exception("reading of jobs failed, and begins anew")
            await asyncio.sleep(PAUSE)

    async def _all(self, which: int, subject: str) -> list[Message]:
        """The last message of each subject. Raises BoardUnreachable."""
        found: list[Message] = []
        with _reached():
            async with self._reading(which, subject) as reading:
                left = reading.waiting
                while left:
                    async with asyncio.timeout(ANSWER):
                        message = await reading.next()
                    if _is_stored(message):
                        found.append(message)
                        left = _place(message)[1]
        return found

    @asynccontextmanager
    async def _reading(self, which: int, subject: str) -> AsyncIterator[Reading]:
        await self._prepare()
        config = ConsumerConfig(
            filter_subject=f"{self._subjects[which]}.{subject}",
            deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
            ack_policy=AckPolicy.NONE,
            idle_heartbeat=HEARTBEAT,
            inactive_threshold=ABANDONED,
            num_replicas=1,
            mem_storage=True,
        )
        async with Reading.open(self._link, self._streams[which], config) as reading:
            self._readings.add(reading)
            try:
                yield reading
            finally:
                self._readings.discard(reading)

    def _job(self, message: Message) -> Job | None:
        id = message.subject.rpartition(".")[2]
        with _read(message):
            job = Job.decode(message.content)
            if job.id != id:
                raise JobInvalid(f"the job {job.id} was put up as {id}")
            self._note(id, job.revision, _place(message)[0])
            return job
        # Whoever put up what cannot be read holds the place: a later revision has to follow it.
        self._note(id, 0, _place(message)[0])
        return None

    def _note(self, id: str, revision: int, place: int) -> None:
        """Remember the latest revision of a job that was seen, and its place in the stream."""
        known = self._seen.pop(id, (0, 0))
        self._seen[id] = max(known, (revision, place), key=lambda seen: seen[1])
        if len(self._seen) > SEEN_MOST:
            del self._seen[next(iter(self._seen))]

    def _word(self, message: Message) -> Standing | None:
        *_, job, node = message.subject.split(".")
        with _read(message):
            word = Standing.decode(message.content)
            if (word.job, _token(word.node)) != (job, node):
                raise JobInvalid(f"a word of {word.node} on {word.job} came as another's")
            return word
        return None

    # what is said

    async def _send(self) -> None:
        while True:
            self._news.clear()
            while self._unsent:
                await self._there.wait()
                job, word = next(iter(self._unsent.items()))
                try:
                    with _reached():
                        await self._prepare()
                        subject = f"{self._subjects[1]}.{job}.{_token(word.node)}"
                        await self._link.jetstream().publish(subject, word.encode(), timeout=ANSWER)
                except BoardUnreachable as error:
                    _log.info("not said yet: job=%s error=%s", job, error)
                    await asyncio.sleep(PAUSE)
                    continue
                if self._unsent.get(job) is word:
                    del self._unsent[job]
            await self._news.wait()

    async def _prepare(self) -> None:
        """See that the streams are there, once a connection."""
        if self._ready:
            return
        jobs, progress = self._streams
        await self._stream(jobs, f"{self._subjects[0]}.*", JOBS_MOST, JOBS_BYTES, RECORD_LIMIT)
        subject = f"{self._subjects[1]}.*.*"
        await self._stream(progress, subject, PROGRESS_MOST, PROGRESS_BYTES, STANDING_LIMIT)
        self._ready = True

    async def _stream(self, name: str, subject: str, most: int, size: int, message: int) -> None:
        """A stream as it is, or else made: an administrator may have made it otherwise."""
        js = self._link.jetstream()
        with suppress(NotFoundError):
            await js.stream_info(name)
            return
        refusal: APIError | None = None
        for copies in COPIES:
            config = StreamConfig(
                name=name,
                subjects=[subject],
                max_msgs_per_subject=1,
                max_msgs=most,
                max_bytes=size,
                max_msg_size=message + 1024,
                max_age=LONGEST + 86400,
                num_replicas=copies,
            )
            try:
                await js.add_stream(config)
                _log.info("stream made: name=%s copies=%d", name, copies)
                return
            except APIError as error:
                if error.err_code == _EXISTS:  # somebody was faster
                    return
                refusal = error
        assert refusal is not None  # noqa: S101 - COPIES is not empty
        raise refusal


def _token(node: str) -> str:
    """A node's name as one word of a subject."""
    return base64.urlsafe_b64encode(node.encode()).decode().rstrip("=")


def _is_stored(message: Message) -> bool:
    """Whether it is a message of a stream; a heartbeat has no place in one."""
    return message.reply.startswith("$JS.ACK.")


def _place(message: Message) -> tuple[int, int]:
    """The place of a message in its stream, and how many follow that are there already."""
    words = message.reply.split(".")
    # $JS.ACK.[DOMAIN.ACCOUNT.]STREAM.CONSUMER.DELIVERED.PLACE.TURN.TIME.LEFT[.RANDOM]
    start = 5 if len(words) == 9 else 7
    try:
        return int(words[start]), int(words[start + 3])
    except (IndexError, ValueError):
        return 0, 0


def _outrun(job: Job) -> Outrun:
    return Outrun(f"the job {job.id} was changed meanwhile: look at it again")


@contextmanager
def _read(message: Message) -> Iterator[None]:
    """What cannot be read in here is logged, and nothing."""
    try:
        yield
    except JobInvalid as error:
        _log.warning("passed over: subject=%s error=%s", message.subject[:200], error)


@contextmanager
def _reached() -> Iterator[None]:
    """What NATS or its being away raises in here becomes BoardUnreachable."""
    try:
        yield
    except NatsAway as error:
        raise BoardUnreachable(f"the cluster is out of reach: {error}") from error
    except APIError as error:
        words = error.description or f"code {error.code}"
        raise BoardUnreachable(f"NATS cannot keep jobs (JetStream): {words}") from error
    except TimeoutError as error:
        raise BoardUnreachable("NATS does not answer for jobs (is JetStream on?)") from error
    except (NatsError, OSError) as error:
        words = " ".join(str(error).split()) or type(error).__name__
        raise BoardUnreachable(f"NATS cannot keep jobs: {words}") from error
