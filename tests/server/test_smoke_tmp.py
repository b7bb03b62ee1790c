async def test_a(node, upstream, owner, stranger):
    layer = bytes(range(256)) * 4000
    d = upstream.add_image("team/app", "1.0", layer, b"")
    base = f"/v2/{upstream.name}/team/app"
    async with stranger.get(f"{base}/blobs/{d}") as r:
        print(r.status, await r.read())
    for c in (stranger, owner):
        async with c.get(f"{base}/manifests/1.0") as r:
            print(r.status, dict(r.headers)); m = await r.json(content_type=None)
        for l in m["layers"]:
          for h in ({}, {"Range": "bytes=0-"}, {"Range":"bytes=999999999-"}):
            async with c.get(f"{base}/blobs/{l['digest']}", headers=h) as r:
                b = await r.read()
                print(r.status, dict(r.headers), len(b))
    print(upstream.lines())
    assert 0
