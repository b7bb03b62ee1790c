"""The store on disk keeps the contract."""

from tests.contract.blob_store import BlobStoreContract
from tests.contract.kept_content import KeptContentContract


class TestBlobStore(BlobStoreContract, KeptContentContract):
    """The fixture ``store`` is the real one."""
