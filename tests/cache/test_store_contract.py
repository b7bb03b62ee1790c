"""The store on disk keeps the contract."""

from tests.contract.blob_store import BlobStoreContract


class TestBlobStore(BlobStoreContract):
    """The fixture ``store`` is the real one."""
