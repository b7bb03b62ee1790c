"""One registry over HTTP: credentials, tokens, transport, client and upload."""
