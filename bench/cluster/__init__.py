"""What a node gains from the others: one image to many nodes, on real links.

    python -m bench.cluster                    all runs, 16 nodes, an image of 1 GiB: 12 minutes
    python -m bench.cluster --what same --nodes 8 --size 128            a short look: one minute
    python -m bench.cluster --what same fast --rounds 3 --json FILE     with medians and ranges
    python -m bench.cluster --nats --what same second                   members by NATS

Every node is a registryd in a network namespace of its own, the upstream a docker-registry in
another; ``tc`` limits every link, both ways. All of it, with what runs in it, is removed at the
end. It wants root, and the programs ip, tc, setpriv, docker-registry, skopeo, podman, curl, and
with ``--nats`` nats-server.

The runs: ``same`` (all nodes pull at once, links as fast as the upstream's), ``fast`` (links ten
times as fast), ``alone`` (daemons without a cluster), ``proxy`` (the same, all from one
docker-registry that caches, on a link as fast as a node's), ``second`` (half of the nodes, then
the other half), ``demand`` (a quarter of the nodes by skopeo and podman, without a pull).

Times are set against the least that there can be, ``max(S/B0, S/B, N*S/(B0+N*B))`` for N nodes,
S bytes, an upstream that gives B0 and links that give B bytes a second (what one download gets in
truth, measured first). ``alone`` and ``proxy`` have a smaller image: their ratio to their own
floor does not depend on it. Links (``--upstream``, Mbit/s) must be so slow that processors are not
the limit: the last column says how much of the machine was idle, and a run with next to nothing
there measured the machine. ``--json`` has all figures: each node's end, what each link carried
second by second, and the daemons' own counts (double fetches among them).
"""
