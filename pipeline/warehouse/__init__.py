"""The warehouse: one client for ClickHouse as a server and embedded in this process."""

from pipeline.patience import Patience
from pipeline.warehouse.address import address_of
from pipeline.warehouse.client import Warehouse
from pipeline.warehouse.opening import connect

__all__ = ["Patience", "Warehouse", "address_of", "connect"]
