"""The warehouse: one client for ClickHouse as a server and embedded in this process."""

from pipeline.runtime.retry import RetryPolicy
from pipeline.warehouse.client import Warehouse
from pipeline.warehouse.connect import connect
from pipeline.warehouse.dsn import address_of

__all__ = ["RetryPolicy", "Warehouse", "address_of", "connect"]
