"""Configurations that are wrong, and what is said of each."""

from __future__ import annotations

REGISTRY = 'registries."registry.example.com"'
PIN = "sha256:" + "0" * 64

BAD = [
    ("[daemon]\nsockt = 1", "daemon.sockt: unknown key (did you mean socket?)"),
    ("[demon]", "demon: unknown key (did you mean daemon?)"),
    (
        "zzz = 1",
        "zzz: unknown key (the keys here are daemon, cache, registries, transfer, access, hosts,",
    ),
    ("[cache]\nroot = 5", "cache.root: 5 is not a path in quotes"),
    ('[cache]\nroot = "here"', 'cache.root: "here" is not an absolute path (it must begin with /)'),
    ("cache = 1", "cache: 1 is not a table"),
    ("registries = []", "registries: [] is not a table"),
    ("[daemon]\nsocket_mode = 666", "daemon.socket_mode: 666 is not a mode from 0o000 to 0o777"),
    ("[daemon]\nsocket_mode = true", "daemon.socket_mode: true is not a mode such as 0o666"),
    ('[daemon]\nlog_level = "loud"', 'daemon.log_level: "loud" is not allowed (use one of "debug"'),
    ("[daemon]\ndrain_timeout = 30", "daemon.drain_timeout: 30 is not a time (a time is written"),
    ('[daemon]\ndrain_timeout = "2h"', 'daemon.drain_timeout: "2h" is not in the range from 0s to'),
    ("[daemon]\nlisten = 5050", "daemon.listen: 5050 is not a list of tables"),
    ("[[daemon.listen]]", "daemon.listen[0].address: is missing, and has no default"),
    (
        '[[daemon.listen]]\naddress = "127.0.0.1:1"\n[[daemon.listen]]\naddress = "5050"',
        'daemon.listen[1].address: "5050" is not an address (write "127.0.0.1:5050")',
    ),
    (
        '[[daemon.listen]]\naddress = "0.0.0.0:5050"',
        'daemon.listen[0]: "0.0.0.0:5050" is not an address of this machine alone',
    ),
    (
        '[[daemon.listen]]\naddress = "registry.example.com:5050"',
        'daemon.listen[0].address: "registry.example.com:5050" is not an address of this machine',
    ),
    (
        '[[daemon.listen]]\naddress = "127.0.0.1:1"\ntls_key = "/k"',
        "daemon.listen[0]: tls_cert and tls_key belong together: set both or neither",
    ),
    (
        '[[daemon.listen]]\naddress = "127.0.0.1:1"\ntls_cert = "/c"',
        "daemon.listen[0]: tls_cert and tls_key belong together: set both or neither",
    ),
    (
        '[[daemon.listen]]\naddress = "127.0.0.1:1"\nclient_ca = "/ca"',
        "daemon.listen[0]: client_ca needs tls_cert and tls_key",
    ),
    (
        '[[daemon.listen]]\naddress = "[::]:5050"\ntls_cert = "/c"\ntls_key = "/k"',
        'daemon.listen[0]: "[::]:5050" is not an address of this machine alone',
    ),
    ('[[daemon.listen]]\naddress = "127.0.0.1:65536"', 'address: "127.0.0.1:65536" is not an addr'),
    (
        '[registries."ghcr.io"]\ntag_ttl = "5 minutes"',
        'registries."ghcr.io".tag_ttl: \'5 minutes\' is not a time (a time is written "300ms", ',
    ),
    (f'[{REGISTRY}]\npassword = "x"', f"{REGISTRY}.password: unknown key (did you mean password_"),
    (f'[{REGISTRY}]\ntls_verify = "no"', f'{REGISTRY}.tls_verify: "no" is not true or false'),
    (f"[{REGISTRY}]\nmax_connections = 0", "max_connections: 0 is not in the range from 1 to 1024"),
    (f"[{REGISTRY}]\nmax_connections = true", "true is not a whole number from 1 to 1024"),
    (f"[{REGISTRY}]\nmax_connections = 2.0", "2.0 is not a whole number from 1 to 1024"),
    (f'[{REGISTRY}]\nusername = "ada"', f"{REGISTRY}: username and password_file belong together"),
    (f'[{REGISTRY}]\nclient_key = "/k"', f"{REGISTRY}: client_cert and client_key belong together"),
    (
        f'[{REGISTRY}]\nplain_http = true\nendpoint = "https://h"',
        f"{REGISTRY}: plain_http contradicts the endpoint's https:",
    ),
    (f'[{REGISTRY}]\nmirrors = [""]', f'{REGISTRY}.mirrors[0].url: is empty (write "https://'),
    (f'[{REGISTRY}]\nmirrors = ["m:5000"]', f'{REGISTRY}.mirrors[0].url: "m:5000" is not an endp'),
    (f"[{REGISTRY}]\nmirrors = [{{}}]", f"{REGISTRY}.mirrors[0].url: is missing, and has no defau"),
    (f"[{REGISTRY}]\nmirrors = [5]", f"{REGISTRY}.mirrors[0]: 5 is not a table"),
    (
        f'[{REGISTRY}]\nmirrors = [{{ url = "https://m", capabilities = ["all"] }}]',
        f'{REGISTRY}.mirrors[0].capabilities[0]: "all" is not allowed (use one of "pull", "resol',
    ),
    (
        f'[{REGISTRY}]\nmirrors = [{{ url = "https://m", client_cert = "/c" }}]',
        f"{REGISTRY}.mirrors[0]: client_cert and client_key belong together",
    ),
    (f'[{REGISTRY}]\nfallback = "maybe"', f'{REGISTRY}.fallback: "maybe" is not allowed (use one'),
    (f'[{REGISTRY}]\nproxy = "socks5://h"', f'{REGISTRY}.proxy: "socks5://h" is not a proxy ('),
    (f'[{REGISTRY}]\nproxy = "environment"', f'{REGISTRY}.proxy: "environment" is not allowed he'),
    ('[transfer]\nproxy = "http://u:s3cret@h"', "transfer.proxy: holds a user or a password, whic"),
    (f'[{REGISTRY}]\nendpoint = "h:5000"', f'{REGISTRY}.endpoint: "h:5000" is not an endpoint ('),
    (f'[{REGISTRY}]\nendpoint = "https://[::1"', f"{REGISTRY}.endpoint: is not an URL (write "),
    (f'[{REGISTRY}]\nendpoint = "https://h:x"', f"{REGISTRY}.endpoint: is not an URL (write "),
    (f'[{REGISTRY}]\nendpoint = "https://"', f'{REGISTRY}.endpoint: "https://" is not an endp'),
    (f'[{REGISTRY}]\nendpoint = "unix://run/s"', f"{REGISTRY}.endpoint: "),
    (
        '[registries."index.docker.io"]',
        'registries."index.docker.io": "index.docker.io" is not how images are named (write "docke',
    ),
    ('[registries."GHCR.io"]', 'registries."GHCR.io": "GHCR.io" is not how images are named (wr'),
    (
        '[registries."https://h"]',
        'registries."https://h": "https://h" is not a registry (write HOST or HOST:PORT)',
    ),
    ('[registries."h:99999"]', '"h:99999" is not a registry'),
    (
        f'[{REGISTRY}.tags]\n"a b" = "0s"',
        f'{REGISTRY}.tags."a b": "a b" is not a pattern of tags (',
    ),
    (f'[{REGISTRY}.tags]\n"A:1" = "0s"', f'{REGISTRY}.tags."A:1": "A:1" is not a pattern of tags'),
    (f'[{REGISTRY}.tags]\n"a:b:c" = "0s"', '"a:b:c" is not a pattern of tags (write "REPOSITORY'),
    (f'[{REGISTRY}.tags]\n"" = "0s"', f'{REGISTRY}.tags."": "" is not a pattern of tags'),
    (f'[{REGISTRY}.tags]\n"*" = 5', f'{REGISTRY}.tags."*": 5 is not a time (a time is written'),
    (f'[{REGISTRY}.tags]\n"*" = "366d"', f'{REGISTRY}.tags."*": "366d" is not in the range from'),
    (f'[{REGISTRY}]\ntags = ["*"]', f'{REGISTRY}.tags: ["*"] is not a table'),
    (
        f'[{REGISTRY}.pins]\n"a:*" = "{PIN}"',
        f'{REGISTRY}.pins."a:*": "a:*" does not name one tag (',
    ),
    (
        f'[{REGISTRY}.pins]\na = "{PIN}"',
        f'{REGISTRY}.pins.a: "a" does not name one tag (write "REP',
    ),
    (
        f'[{REGISTRY}.pins]\n"a/:1" = "{PIN}"',
        '"a/:1" does not name one tag (write "REPOSITORY:TAG"',
    ),
    (f'[{REGISTRY}.pins]\n"a:.1" = "{PIN}"', '"a:.1" does not name one tag'),
    (
        f'[{REGISTRY}.pins]\n"a:1" = "sha256:x"',
        f'{REGISTRY}.pins."a:1": "sha256:x" is not a digest (write "sha256:" and 64 hex digits)',
    ),
    (f'[{REGISTRY}.pins]\n"a:1" = "latest"', '"latest" is not a digest (write "sha256:" and 64'),
    (
        f'[{REGISTRY}]\nmissing_tags = "keep"',
        '"keep" is not allowed (use one of "refuse", "serve")',
    ),
    (f'[{REGISTRY}]\noffline = "yes"', f'{REGISTRY}.offline: "yes" is not true or false'),
    ("[transfer]\njobs = 0", "transfer.jobs: 0 is not in the range from 1 to 256"),
    ('[transfer]\nrange_size = "4MX"', "transfer.range_size: '4MX' has the unit 'MX', which is no"),
    ("[transfer]\nrange_size = 32", "transfer.range_size: 32 is not in the range from 64KiB to 4G"),
    ("[transfer]\nrange_size = true", "transfer.range_size: true is not a size (a size is written"),
    ('[access]\nallow = "*"', 'access.allow: "*" is not a list of registries'),
    ('[access]\nallow = ["a.io", "*io"]', 'access.allow[1]: "*io" is not a registry'),
    ('[access]\nauthfiles = ["auth.json"]', 'access.authfiles[0]: "auth.json" is not an absolute'),
    ("[daemon", "is not TOML: Expected ']'"),
    ("a = " + "[" * 5000, "is not TOML: "),
    ("a = " + "1" * 5000, "is not TOML: "),
    ("[transfer]\njobs = 0x" + "f" * 9000, "transfer.jobs: this int is not in the range from 1 to"),
    ("[transfer]\nrange_size = 0x" + "f" * 9000, "transfer.range_size: "),
    ("transfer.jobs" + ".a" * 9000 + " = 1", "transfer.jobs: this dict is not a whole number"),
    (b"a = '\xff'", "is not UTF-8 text (byte 5)"),
]
